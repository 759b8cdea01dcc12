//! What must hold for any input. Run with `cargo fuzz run TARGET --features libfuzzer`; the corpus and random input
//! are also replayed by `cargo nextest run -p fuzz`.

use std::fs;
use std::os::unix::fs::symlink;

use action::Root;
use redact::{Redactor, Source};

/// A ledger that somebody else wrote: checking it neither panics nor holds unless it is whole.
///
/// # Panics
/// If it holds and cannot be gone on with.
pub fn ledger(data: &[u8]) {
    let Ok(directory) = tempfile::tempdir() else { return };
    let (entries, head) = data.split_at(data.len().saturating_sub(86));
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).is_ok();
    if !write(ledger::ENTRIES, entries) || !write(ledger::HEAD, head) {
        return;
    }
    let report = ledger::verify(directory.path());
    let holds = report.is_ok_and(|report| report.holds() && report.entries > 0);
    let opened = ledger::Ledger::open(directory.path());
    assert!(!holds || opened.is_ok(), "what holds can be gone on with");
    let _ = ledger::Entries::open(directory.path()).map(Iterator::count);
}

/// A path that a model asks for: what is resolved is beneath the root, whatever it is called.
///
/// # Panics
/// If a path leads out.
pub fn path(data: &[u8]) {
    let Ok(outside) = tempfile::tempdir() else { return };
    let work = outside.path().join("work");
    let made = fs::create_dir_all(work.join("a/b"))
        .and_then(|()| fs::write(work.join("a/f"), "x"))
        .and_then(|()| symlink("..", work.join("a/up")))
        .and_then(|()| symlink("/", work.join("root")))
        .and_then(|()| symlink("a/f", work.join("link")));
    let (Ok(()), Ok(root), Ok(text)) = (made, Root::open(&work), std::str::from_utf8(data)) else { return };
    for target in [root.resolve(text), root.resolve_or_new(text)].into_iter().flatten() {
        assert!(target.absolute().starts_with(root.path()), "{text:?} leads to {:?}", target.absolute());
        let parts = target.path().components();
        assert!(
            parts
                .into_iter()
                .all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir))
        );
    }
}

/// Any text: what was cleaned has no secret that is found again, and is restored exactly where it came from.
///
/// # Panics
/// If restoring is not exact.
pub fn redact(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let redactor = Redactor::new();
    let clean = redactor.clean(&text, Source::File("a.txt"));
    assert_eq!(redactor.restore(clean.as_str(), "a.txt").ok().as_deref(), Some(&*text), "put back exactly");
    let again = redactor.clean(clean.as_str(), Source::Other);
    for (open, _) in clean.as_str().match_indices("\u{2039}secret:") {
        let Some(close) = clean.as_str()[open..].find('\u{203a}') else { continue };
        let placeholder = &clean.as_str()[open..open + close];
        // What the text had itself is no placeholder of ours, and neither is the beginning of one around another.
        let name = placeholder.trim_start_matches("\u{2039}secret:");
        let ours = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b':'));
        assert!(
            !ours || text.contains(placeholder) || again.as_str().contains(placeholder),
            "{placeholder} stays as it is"
        );
    }
}

/// A repository's file, a test's output and a model's answer, separated by NUL: the splice stays within the file.
///
/// # Panics
/// If the rest of the file changes.
pub fn repair(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\0');
    let (file, output, answer) = (parts.next(), parts.next(), parts.next());
    let (Some(file), Some(output), Some(answer)) = (file, output, answer) else { return };
    for path in ["m.py", "m.rs", "m.js", "m.go"] {
        if let Some(new) = agent::repair::meet(path, file, output, answer) {
            assert_ne!(new, file, "an answer that changes nothing is no answer");
        }
    }
}

/// The first bytes of a command's connection, its questions about names, and a pattern of a rule: each parser ends
/// with an answer within its bounds.
///
/// # Panics
/// If a destination is not in its one spelling, an answer is longer than it can be, more bytes change what was
/// read, or a pattern does not print as itself.
pub fn egress(data: &[u8]) {
    use egress::proxy::{Names, dns_answer, dns_question, socks_greeting, socks_request, tls_hello};
    let longer = [data, &[0; 8]].concat();
    if let Ok(Some(hello)) = tls_hello(data) {
        assert_eq!(tls_hello(&longer), Ok(Some(hello)), "what follows changes nothing");
    }
    if let Ok(Some(length)) = socks_greeting(data) {
        assert!(length <= data.len());
    }
    if let Ok(Some((at, length))) = socks_request(data) {
        assert!(length <= data.len() && at.port > 0);
        assert_eq!(policy::network::normal_host(&at.host).as_ref(), Ok(&at.host));
    }
    if let Ok(question) = dns_question(data) {
        let mut names = Names::default();
        let answer = dns_answer(&question, &mut names);
        assert!(answer.len() <= data.len() + 16 && answer[..2] == data[..2]);
        if let Some(name) = &question.name {
            assert_eq!(policy::network::normal_host(name).as_ref(), Ok(name));
        }
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(pattern) = text.parse::<policy::NetworkPattern>()
    {
        assert_eq!(pattern.to_string().parse(), Ok(pattern), "{text:?}");
    }
}
