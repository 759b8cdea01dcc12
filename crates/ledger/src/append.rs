//! Writing: one exclusive lock an entry, so that several processes can share a ledger.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use action::Digest;
use rustix::fs::FlockOperation;

use crate::head::{self, Head};
use crate::line::{self, GENESIS, MAX_LINE};
use crate::{ENTRIES, HEAD, Record, Sequence};

/// Why an entry could not be written or read. Nothing may happen while this is so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file system refused.
    #[error("cannot {what} the ledger in {directory}: {source}{}", hint(.source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// The ledger's directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The last entry is damaged, so nothing can be chained to it.
    #[error(
        "the ledger in {directory} is damaged at its end ({why}); run `varvel audit verify`, \
         then move the directory aside (keep it as evidence) to start a new one"
    )]
    Damaged {
        /// The ledger's directory.
        directory: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// An entry is larger than 4 MiB.
    #[error("an entry of {bytes} bytes is too large for the ledger (limit 4 MiB)")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// An entry could not be written as JSON.
    #[error("an entry could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (nothing is done that cannot be recorded: free some space)"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            " (nothing is done that cannot be recorded: make it writable, or set VARVEL_HOME to a directory that is)"
        }
        _ => "",
    }
}

/// How much of the file's end is looked at first, in bytes.
const FIRST_LOOK: u64 = 64 * 1024;

/// The ledger, open for appending. There is no way to change or remove an entry.
#[derive(Debug)]
pub struct Ledger {
    directory: PathBuf,
    entries: File,
    head: File,
    tail: Mutex<Tail>,
}

#[derive(Debug)]
struct Tail {
    /// Bytes of the file that are known.
    length: u64,
    seq: Sequence,
    hash: String,
}

impl Ledger {
    /// Opens the ledger in `directory`, creating it (mode 0700) if absent.
    ///
    /// # Errors
    /// If it cannot be created, read or written, or if its end is damaged or missing.
    pub fn open(directory: &Path) -> Result<Self, LedgerError> {
        let failed = |what| {
            let directory = directory.to_owned();
            move |source| LedgerError::Io { what, directory, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("create"))?;
        let open = |name: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(directory.join(name))
                .map_err(failed("open"))
        };
        let ledger = Self {
            directory: directory.to_owned(),
            entries: open(ENTRIES)?,
            head: open(HEAD)?,
            tail: Mutex::new(Tail { length: 0, seq: 0, hash: GENESIS.to_owned() }),
        };
        if ledger.entries.metadata().map_err(failed("read"))?.len() == 0 {
            // New, perhaps: the names must survive a crash as well as the content.
            File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("sync"))?;
        }
        ledger.with_tail(|ledger, tail| {
            ledger.catch_up(tail)?;
            ledger.check_head(tail)
        })?;
        Ok(ledger)
    }

    /// Nothing may be appended to a ledger whose end was cut off: that would hide it.
    fn check_head(&self, tail: &Tail) -> Result<(), LedgerError> {
        match head::read(&self.directory).map_err(|source| self.io("read", source))? {
            Head::Absent if tail.seq == 0 => self.write_head(tail),
            Head::Absent => Err(self.damaged("the file `head` is missing or empty")),
            Head::Damaged => Err(self.damaged("the file `head` is damaged")),
            Head::At(seq, _) if seq > tail.seq => Err(self.damaged("entries are missing")),
            Head::At(seq, hash) if seq == tail.seq && hash != tail.hash => {
                Err(self.damaged("the last entry is not the one that was written"))
            }
            Head::At(..) => Ok(()),
        }
    }

    /// Appends `record` and returns once it is on disk.
    ///
    /// # Errors
    /// If it could not be made durable: then the caller must not act.
    pub fn append_durable(&self, record: &Record) -> Result<Sequence, LedgerError> {
        self.with_tail(|ledger, tail| {
            ledger.catch_up(tail)?;
            ledger.write(tail, record)?;
            ledger.entries.sync_data().map_err(|source| ledger.io("sync", source))?;
            ledger.write_head(tail)?;
            Ok(tail.seq)
        })
    }

    /// Appends `record`. It survives the death of this process; the next durable append puts it on disk.
    ///
    /// # Errors
    /// If it could not be written.
    pub fn append(&self, record: &Record) -> Result<Sequence, LedgerError> {
        self.with_tail(|ledger, tail| {
            ledger.catch_up(tail)?;
            ledger.write(tail, record)?;
            Ok(tail.seq)
        })
    }

    /// The ledger's directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sequence number of the last entry that this process knows of.
    #[must_use]
    pub fn last(&self) -> Sequence {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).seq
    }

    fn with_tail<T>(
        &self,
        work: impl FnOnce(&Self, &mut Tail) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        rustix::fs::flock(&self.entries, FlockOperation::LockExclusive)
            .map_err(|errno| self.io("lock", errno.into()))?;
        let result = work(self, &mut tail);
        // Unlocking fails only for a bad descriptor; closing the file would release the lock as well.
        let _ = rustix::fs::flock(&self.entries, FlockOperation::Unlock);
        result
    }

    /// Learns what other processes appended, and cuts off half an entry left by one that died.
    fn catch_up(&self, tail: &mut Tail) -> Result<(), LedgerError> {
        let length = self.entries.metadata().map_err(|source| self.io("read", source))?.len();
        if length == tail.length {
            return Ok(());
        }
        if length < tail.length {
            return Err(self.damaged("it has become shorter"));
        }
        let (start, mut bytes) = self.end(length)?;
        let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let torn = bytes.split_off(complete);
        if complete == 0 && start > 0 {
            return Err(self.damaged("its last line is endless"));
        }
        let lines = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        if lines.is_empty() {
            (tail.seq, tail.hash) = (0, GENESIS.to_owned());
        } else {
            let last = lines.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
            let last = line::check(last).map_err(|why| self.damaged(why))?;
            (tail.seq, tail.hash) = (last.seq, last.hash.to_string());
        }
        tail.length = length - torn.len() as u64;
        if !torn.is_empty() {
            self.truncate(tail)?;
            let discarded_sha256 = Digest::of(&torn);
            self.write(tail, &Record::Recovered { discarded_bytes: torn.len() as u64, discarded_sha256 })?;
        }
        Ok(())
    }

    /// The end of the file and where it begins: as much as holds the whole last line, mostly a little.
    fn end(&self, length: u64) -> Result<(u64, Vec<u8>), LedgerError> {
        let mut window = FIRST_LOOK;
        loop {
            let start = length.saturating_sub(window);
            let mut bytes = vec![0; usize::try_from(length - start).unwrap_or(0)];
            self.entries.read_exact_at(&mut bytes, start).map_err(|source| self.io("read", source))?;
            let whole = bytes.iter().filter(|&&byte| byte == b'\n').nth(1).is_some();
            if whole || start == 0 || window == 2 * MAX_LINE as u64 {
                return Ok((start, bytes));
            }
            window = 2 * MAX_LINE as u64;
        }
    }

    fn write(&self, tail: &mut Tail, record: &Record) -> Result<(), LedgerError> {
        let time = jiff::Timestamp::now().to_string();
        let seq = tail.seq + 1;
        let (mut line, hash) = line::build(seq, &tail.hash, &time, record)?;
        line.push(b'\n');
        if line.len() > MAX_LINE {
            return Err(LedgerError::TooLarge { bytes: line.len() });
        }
        if let Err(source) = self.entries.write_all_at(&line, tail.length) {
            // A full disk may have taken half of it. Cut that off now; if even this fails, the next start does.
            let _ = self.truncate(tail);
            return Err(self.io("write", source));
        }
        tail.length += line.len() as u64;
        tail.seq = seq;
        tail.hash = hash.to_string();
        Ok(())
    }

    fn truncate(&self, tail: &Tail) -> Result<(), LedgerError> {
        self.entries.set_len(tail.length).map_err(|source| self.io("write", source))
    }

    /// Fixed width, one sector: replaced in place.
    fn write_head(&self, tail: &Tail) -> Result<(), LedgerError> {
        let text = format!("{:020} {}\n", tail.seq, tail.hash);
        self.head.write_all_at(text.as_bytes(), 0).map_err(|source| self.io("write", source))
    }

    fn io(&self, what: &'static str, source: io::Error) -> LedgerError {
        LedgerError::Io { what, directory: self.directory.clone(), source }
    }

    fn damaged(&self, why: &'static str) -> LedgerError {
        LedgerError::Damaged { directory: self.directory.clone(), why }
    }
}
