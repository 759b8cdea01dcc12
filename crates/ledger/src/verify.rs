//! Reading and checking: every line against its hash, every hash against the next line.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::append::LedgerError;
use crate::head::{self, Head};
use crate::line::{self, GENESIS, MAX_LINE};
use crate::{ENTRIES, Sequence};

/// Something that is wrong with a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line of `entries.jsonl`, from 1; 0 when it concerns the file as a whole.
    pub line: u64,
    /// What is wrong, for a person.
    pub what: String,
}

/// The result of [`verify`].
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Entries that hold.
    pub entries: u64,
    /// Hash of the last entry.
    pub head: Option<String>,
    /// Intents without an outcome: interrupted by a crash, or still running. Not a fault of the ledger.
    pub interrupted: Vec<Sequence>,
    /// Bytes of half an entry at the end, left by a crash while writing; the next session cuts them off.
    pub unfinished_bytes: u64,
    /// Everything that is wrong. Empty: the ledger holds.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The lines of a ledger, as they are on disk.
pub struct Entries {
    reader: BufReader<File>,
}

/// One raw line.
enum Line {
    Complete(Vec<u8>),
    Unfinished(u64),
}

impl Entries {
    /// Opens the ledger in `directory` for reading.
    ///
    /// # Errors
    /// If there is none or it cannot be read.
    pub fn open(directory: &Path) -> Result<Self, LedgerError> {
        let file = File::open(directory.join(ENTRIES)).map_err(|source| LedgerError::Io {
            what: "read",
            directory: directory.to_owned(),
            source,
        })?;
        Ok(Self { reader: BufReader::with_capacity(1 << 16, file) })
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut bytes)?;
        Ok(match (read, bytes.pop()) {
            (0, _) => None,
            (_, Some(b'\n')) => Some(Line::Complete(bytes)),
            _ => Some(Line::Unfinished(read as u64)),
        })
    }
}

/// Parsed entries, unchecked, oldest first; lines that are not JSON are skipped.
impl Iterator for Entries {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        loop {
            match self.next_line() {
                Ok(Some(Line::Complete(bytes))) => {
                    if let Ok(value) = serde_json::from_slice(&bytes) {
                        return Some(value);
                    }
                }
                _ => return None,
            }
        }
    }
}

/// Checks the whole ledger in `directory`.
///
/// # Errors
/// If it cannot be read; what is wrong with its content is in the report.
pub fn verify(directory: &Path) -> Result<Report, LedgerError> {
    let failed = |source| LedgerError::Io { what: "read", directory: directory.to_owned(), source };
    // The head first: entries appended while this runs are then simply later than it.
    let head = head::read(directory).map_err(failed)?;
    let mut entries = Entries::open(directory)?;
    let mut report = Report::default();
    let mut expected = (1, GENESIS.to_owned());
    let mut open_intents = Vec::new();
    let mut closed = HashSet::new();
    let mut head_seen = matches!(head, Head::Absent | Head::At(0, _));
    let mut number = 0;
    while let Some(next) = entries.next_line().map_err(failed)? {
        number += 1;
        let bytes = match next {
            Line::Complete(bytes) => bytes,
            Line::Unfinished(bytes) if bytes > MAX_LINE as u64 => {
                report.problem(number, "the line is longer than any entry can be");
                break;
            }
            Line::Unfinished(bytes) => {
                report.unfinished_bytes = bytes;
                break;
            }
        };
        let entry = match line::check(&bytes) {
            Ok(entry) => entry,
            Err(why) => {
                report.problem(number, why);
                // Go on after it: the next line's own `prev` is the best guess at what stood here.
                expected = (expected.0 + 1, String::new());
                continue;
            }
        };
        if entry.seq != expected.0 {
            report.problem(number, format!("expected entry {}, found entry {}", expected.0, entry.seq));
        } else if !expected.1.is_empty() && entry.prev != expected.1 {
            report.problem(number, format!("entry {} does not follow the entry before it", entry.seq));
        }
        let hash = entry.hash.to_string();
        if let Head::At(seq, wanted) = &head
            && *seq == entry.seq
        {
            head_seen = true;
            if *wanted != hash {
                report.problem(number, format!("entry {seq} is not the one that `head` names"));
            }
        }
        match entry.value.pointer("/record/type").and_then(Value::as_str) {
            Some("intent") => open_intents.push(entry.seq),
            Some("outcome") => {
                closed.extend(entry.value.pointer("/record/intent").and_then(Value::as_u64));
            }
            _ => {}
        }
        report.entries += 1;
        expected = (entry.seq + 1, hash);
    }
    report.interrupted = open_intents.into_iter().filter(|seq| !closed.contains(seq)).collect();
    match head {
        Head::Damaged => report.problem(0, "the file `head` is damaged"),
        Head::At(seq, _) if !head_seen => {
            report.problem(0, format!("entries are missing at the end: `head` names entry {seq}"));
        }
        Head::Absent if report.entries > 0 => report.problem(0, "the file `head` is missing or empty"),
        _ => {}
    }
    report.head = (report.entries > 0).then_some(expected.1);
    Ok(report)
}

impl Report {
    fn problem(&mut self, line: u64, what: impl Into<String>) {
        self.problems.push(Problem { line, what: what.into() });
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
