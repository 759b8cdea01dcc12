//! The file `head`: which entry was last known to be on disk. It is how a cut end is noticed.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::{HEAD, Sequence};

/// What the file says.
pub(crate) enum Head {
    /// It is missing or empty.
    Absent,
    /// The last durable entry and its hash; 0 before the first.
    At(Sequence, String),
    /// It cannot be read.
    Damaged,
}

/// Reads the file in the ledger's `directory`.
pub(crate) fn read(directory: &Path) -> io::Result<Head> {
    let mut text = String::new();
    match File::open(directory.join(HEAD)) {
        Ok(file) => {
            if file.take(1024).read_to_string(&mut text).is_err() {
                return Ok(Head::Damaged);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Head::Absent),
        Err(error) => return Err(error),
    }
    if text.is_empty() {
        return Ok(Head::Absent);
    }
    let parsed = text.strip_suffix('\n').and_then(|line| line.split_once(' ')).and_then(|(seq, hash)| {
        let well_formed = seq.len() == 20 && action::Digest::parse(hash).is_some();
        well_formed.then(|| Some(Head::At(seq.parse().ok()?, hash.to_owned())))?
    });
    Ok(parsed.unwrap_or(Head::Damaged))
}
