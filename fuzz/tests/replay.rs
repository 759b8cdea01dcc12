//! The corpus and random input, without a fuzzer.

use std::path::Path;

use proptest::prelude::*;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).unwrap().flatten() {
        run(&std::fs::read(entry.path()).unwrap());
        count += 1;
    }
    assert!(count > 2, "the corpus of {target} is missing");
}

#[test]
fn corpus() {
    replay("egress", fuzz::egress);
    replay("ledger", fuzz::ledger);
    replay("path", fuzz::path);
    replay("redact", fuzz::redact);
    replay("repair", fuzz::repair);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn paths(text in r"(a|b|f|up|root|link|\.\.|\.|/|//|\\|\PC|tmp|work|proc/self){0,8}") {
        fuzz::path(text.as_bytes());
    }

    #[test]
    fn secrets(text in "(AKIA[A-Z2-7]{16}|ghp_[A-Za-z0-9]{36}|password = \"[a-zA-Z0-9]{8,20}\"|[ -~\n]{0,12}){0,6}") {
        fuzz::redact(text.as_bytes());
    }

    #[test]
    fn connections(start in prop::sample::select(vec![
        &[22u8, 3, 1, 0, 60, 1, 0, 0, 56, 3, 3][..], &[5, 1, 0, 3, 9], &[5, 1, 0, 1], &[1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    ]), rest in proptest::collection::vec(any::<u8>(), 0..90)) {
        fuzz::egress(&[start, &rest].concat());
    }

    #[test]
    fn patterns(text in r"(GET |http://|\*|\*\.|[a-z]{1,3}|\.|10\.0\.0\.0|\[::\]|/|/8|:|:443|%2[ef]|\PC){0,8}") {
        fuzz::egress(text.as_bytes());
    }

    #[test]
    fn anything(data in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz::egress(&data);
        fuzz::ledger(&data);
        fuzz::redact(&data);
        fuzz::repair(&data);
    }
}
