//! What a commit is about to do, on disk before it does it, so that a crash in the middle can be taken back.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::StageError;
use super::place::{Moment, Seen};
use super::read_own;
use crate::state::{StateFile, remove_state};

/// The plan of a commit under way.
const JOURNAL: &str = "journal";
/// Present once all of it is in the workspace.
const COMPLETE: &str = "complete";
/// Objects that taking back a commit has touched.
const SETTLED: &str = "settled";
/// Longest journal, in bytes.
const MAX_JOURNAL: u64 = 256 << 20;

/// One step of a commit. Each can be told from the file system to be done or not, so it can be taken back at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Op {
    /// The prepared object `slot` gets the free name `path`.
    Create {
        #[serde(with = "bytes")]
        path: PathBuf,
        slot: String,
        new: Seen,
    },
    /// The prepared object `slot` and what is at `path` change places.
    Replace {
        #[serde(with = "bytes")]
        path: PathBuf,
        slot: String,
        new: Seen,
        old: Seen,
    },
    /// What is at `path` is put aside as `slot`.
    Remove {
        #[serde(with = "bytes")]
        path: PathBuf,
        slot: String,
        old: Seen,
    },
    /// The directory at `path` gets another mode.
    Mode {
        #[serde(with = "bytes")]
        path: PathBuf,
        object: Seen,
        from: u32,
        to: u32,
    },
}

impl Op {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Create { path, .. }
            | Self::Replace { path, .. }
            | Self::Remove { path, .. }
            | Self::Mode { path, .. } => path,
        }
    }
}

/// The plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    /// Name of the directory in the workspace where objects are prepared and kept aside.
    pub(super) aside: String,
    /// When the first step was taken: nothing prepared is younger.
    pub(super) began: Moment,
    /// The steps, in order; empty while objects are being prepared.
    pub(super) ops: Vec<Op>,
    /// Numbers of the steps that were taken and are being taken back.
    #[serde(default)]
    pub(super) back: BTreeSet<usize>,
}

impl Journal {
    pub(super) fn new(aside: String) -> Self {
        Self { aside, began: Moment(0, 0), ops: Vec::new(), back: BTreeSet::new() }
    }
}

pub(super) fn exists(stage: &Path) -> bool {
    // When in doubt it does: then nothing is done before it is looked at.
    stage.join(JOURNAL).try_exists().unwrap_or(true)
}

pub(super) fn write(stage: &Path, journal: &Journal) -> Result<(), StageError> {
    write_json(stage, JOURNAL, journal)
}

pub(super) fn read(stage: &Path) -> Result<Option<Journal>, StageError> {
    let journal: Option<Journal> = read_json(stage, JOURNAL)?;
    if let Some(journal) = &journal
        && !is_aside(&journal.aside)
    {
        return Err(StageError::Damaged {
            file: JOURNAL,
            why: format!("{:?} is not its directory", journal.aside),
        });
    }
    Ok(journal)
}

pub(super) fn remove(stage: &Path) -> Result<(), StageError> {
    remove_state(&stage.join(JOURNAL)).map_err(StageError::io("remove", JOURNAL))?;
    sync(stage)
}

pub(super) fn set_complete(stage: &Path) -> Result<(), StageError> {
    StateFile::write(&stage.join(COMPLETE), b"").map_err(StageError::io("write", COMPLETE))?;
    sync(stage)
}

pub(super) fn is_complete(stage: &Path) -> Result<bool, StageError> {
    stage.join(COMPLETE).try_exists().map_err(StageError::io("look at", COMPLETE))
}

/// Objects whose last change was taking back a commit of this stage: no reason for a conflict.
pub(super) fn settled(stage: &Path) -> Result<HashSet<Seen>, StageError> {
    Ok(read_json::<Vec<Seen>>(stage, SETTLED)?.unwrap_or_default().into_iter().collect())
}

pub(super) fn add_settled(stage: &Path, more: Vec<Seen>) -> Result<(), StageError> {
    let mut all = settled(stage)?;
    all.extend(more);
    write_json(stage, SETTLED, &all.into_iter().collect::<Vec<_>>())
}

/// Name of a directory for what is prepared and kept aside.
pub(super) fn aside(random: u64) -> String {
    format!(".varvel-{random:016x}.tmp")
}

fn is_aside(name: &str) -> bool {
    name.strip_prefix(".varvel-")
        .and_then(|rest| rest.strip_suffix(".tmp"))
        .is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn write_json(stage: &Path, file: &'static str, value: &impl Serialize) -> Result<(), StageError> {
    let text =
        serde_json::to_vec(value).map_err(|error| StageError::Damaged { file, why: error.to_string() })?;
    StateFile::write(&stage.join(file), &text).map_err(StageError::io("write", file))?;
    sync(stage)
}

fn read_json<T: de::DeserializeOwned>(stage: &Path, file: &'static str) -> Result<Option<T>, StageError> {
    let Some(text) = read_own(&stage.join(file), MAX_JOURNAL).map_err(StageError::io("read", file))? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&text);
    value.map(Some).map_err(|error| StageError::Damaged { file, why: error.to_string() })
}

/// Makes names in the stage's directory survive a power cut.
fn sync(stage: &Path) -> Result<(), StageError> {
    File::open(stage).and_then(|stage| stage.sync_all()).map_err(StageError::io("sync", "the stage"))
}

/// Paths as hexadecimal digits: they need not be UTF-8.
mod bytes {
    use super::*;

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: String = path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&digits)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let odd = || de::Error::custom("a path is not in hexadecimal digits");
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        };
        if digits.len() % 2 != 0 {
            return Err(odd());
        }
        let path: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
        let path = PathBuf::from(OsString::from_vec(path.ok_or_else(odd)?));
        let inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside || path.as_os_str() == OsStr::new("") { Err(odd()) } else { Ok(path) }
    }
}
