use std::fs;
use std::path::Path;

use action::{Actor, SessionId};
use proptest::prelude::*;
use serde_json::json;

use crate::{ENTRIES, HEAD, Ledger, Record, verify};

fn record(n: u64) -> Record {
    let actor = Actor { person: "p".into(), agent: "a".into(), session: SessionId::new("s") };
    Record::SessionEnd { actor, about: json!({ "n": n }) }
}

fn filled(directory: &Path, entries: u64) {
    let ledger = Ledger::open(directory).unwrap();
    for n in 0..entries {
        ledger.append_durable(&record(n)).unwrap();
    }
}

#[test]
fn a_good_ledger_holds_and_continues_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3);
    filled(dir.path(), 2);
    let report = verify(dir.path()).unwrap();
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.entries, 5);
}

#[test]
fn two_writers_share_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (Ledger::open(dir.path()).unwrap(), Ledger::open(dir.path()).unwrap());
    std::thread::scope(|scope| {
        for ledger in [&a, &b] {
            scope
                .spawn(move || (0..20).for_each(|n| assert!(ledger.append_durable(&record(n)).unwrap() > 0)));
        }
    });
    let report = verify(dir.path()).unwrap();
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.entries, 40);
}

#[test]
fn every_flipped_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3);
    let path = dir.path().join(ENTRIES);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        for bit in [0x01, 0x20, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            fs::write(&path, &bad).unwrap();
            assert!(!verify(dir.path()).unwrap().holds(), "byte {at} ^ {bit:#x}");
        }
    }
}

#[test]
fn removed_reordered_and_truncated_entries_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 4);
    let path = dir.path().join(ENTRIES);
    let good = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    for picked in [vec![0, 1, 3], vec![0, 2, 1, 3], vec![0, 1, 2], vec![], vec![1, 2, 3], vec![0, 1, 1, 2, 3]]
    {
        let text: String = picked.iter().map(|&i: &usize| format!("{}\n", lines[i])).collect();
        fs::write(&path, text).unwrap();
        assert!(!verify(dir.path()).unwrap().holds(), "{picked:?}");
    }
}

#[test]
fn half_an_entry_at_the_end_is_a_crash_not_corruption() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 2);
    let path = dir.path().join(ENTRIES);
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"seq\":3,\"prev\":\"12");
    fs::write(&path, bytes).unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.unfinished_bytes, 19);
    filled(dir.path(), 1);
    let report = verify(dir.path()).unwrap();
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.entries, 4, "two, the note about the cut, and one");
}

#[test]
fn a_damaged_end_stops_everything() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 2);
    let path = dir.path().join(ENTRIES);
    let bad = fs::read_to_string(&path).unwrap().replace("\"n\":1", "\"n\":7");
    fs::write(&path, bad).unwrap();
    let error = Ledger::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("audit verify"), "{error}");
}

#[test]
fn a_missing_or_damaged_head_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 2);
    fs::write(dir.path().join(HEAD), "nonsense").unwrap();
    assert!(!verify(dir.path()).unwrap().holds());
    fs::remove_file(dir.path().join(HEAD)).unwrap();
    assert!(!verify(dir.path()).unwrap().holds());
}

proptest! {
    #[test]
    fn verify_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), head in prop::collection::vec(any::<u8>(), 0..100)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(ENTRIES), bytes).unwrap();
        fs::write(dir.path().join(HEAD), head).unwrap();
        let _ = verify(dir.path());
        let _ = Ledger::open(dir.path());
    }
}

#[test]
fn an_entry_that_was_changed_and_hashed_again_does_not_fit_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 3);
    let path = dir.path().join(ENTRIES);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let changed = lines[1].replace("\"n\":1", "\"n\":9");
    let body = changed.split(",\"hash\":").next().unwrap();
    lines[1] = format!("{body},\"hash\":\"{}\"}}", action::Digest::of(body.as_bytes()));
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert!(report.problems[0].what.contains("does not follow"), "{:?}", report.problems);
}
