//! The directory of weights.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use llm::Weights;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use workspace::StateFile;

/// Why weights cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// They are not there.
    #[error("{name} is not here; run: varvel model pull {name}")]
    Absent {
        /// Their name.
        name: String,
    },
    /// The content is not what it should be.
    #[error("{} is not {name}: its SHA-256 is {found}; run: varvel model pull {name}", .path.display())]
    Wrong {
        /// Their name.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its digest, in hexadecimal.
        found: String,
    },
    /// The file system refused.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The weights on this machine.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

/// What a verified file looked like when it was verified. A change of content changes the time of status change,
/// which only the kernel sets.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    sha256: String,
    size: u64,
    inode: u64,
    modified_ns: i64,
    changed_ns: i64,
}

impl Store {
    /// The store in `$VARVEL_HOME`.
    #[must_use]
    pub fn new(home: &Path) -> Self {
        Self { directory: home.join("models") }
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the file of `weights` is, or would be.
    #[must_use]
    pub fn path(&self, weights: &Weights) -> PathBuf {
        self.directory.join(weights.file)
    }

    /// Whether the file is there, without looking into it.
    #[must_use]
    pub fn has(&self, weights: &Weights) -> bool {
        self.path(weights).is_file()
    }

    /// The file of `weights`, ready to be used: its digest is right, or was right and it has not changed since.
    ///
    /// # Errors
    /// If it is absent or wrong.
    pub fn ready(&self, weights: &Weights) -> Result<PathBuf, StoreError> {
        let path = self.path(weights);
        let sealed =
            fs::read(self.seal_path(weights)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let (Some(sealed), Ok(metadata)) = (sealed, fs::metadata(&path))
            && Some(sealed) == seal(weights, &metadata)
        {
            return Ok(path);
        }
        self.verify(weights, |_| {})?;
        Ok(path)
    }

    /// Reads the whole file of `weights` and compares its digest. `progress` gets the bytes read so far.
    ///
    /// # Errors
    /// If it is absent, unreadable or wrong.
    pub fn verify(&self, weights: &Weights, progress: impl FnMut(u64)) -> Result<(), StoreError> {
        let path = self.path(weights);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Absent { name: weights.name.to_owned() },
            _ => StoreError::Io { path: path.clone(), source },
        };
        let file = File::open(&path).map_err(failed)?;
        let before = file.metadata().map_err(failed)?;
        let found = digest(&file, progress).map_err(failed)?;
        if Some(found.as_str()) != weights.digest().map(|digest| digest.to_string()).as_deref() {
            return Err(StoreError::Wrong { name: weights.name.to_owned(), path, found });
        }
        self.remember(weights, &before).map_err(failed)
    }

    /// Takes note that the file of `weights`, as it is now, has the right digest.
    pub(crate) fn seal(&self, weights: &Weights) -> Result<(), StoreError> {
        let path = self.path(weights);
        let sealed = fs::metadata(&path).and_then(|metadata| self.remember(weights, &metadata));
        sealed.map_err(|source| StoreError::Io { path, source })
    }

    fn remember(&self, weights: &Weights, metadata: &fs::Metadata) -> io::Result<()> {
        let Some(seal) = seal(weights, metadata) else { return Ok(()) };
        let bytes = serde_json::to_vec(&seal).map_err(io::Error::other)?;
        match StateFile::write(&self.seal_path(weights), &bytes) {
            // A read-only home: the next use reads the file again.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn seal_path(&self, weights: &Weights) -> PathBuf {
        self.directory.join(format!("{}.verified", weights.file))
    }
}

fn seal(weights: &Weights, metadata: &fs::Metadata) -> Option<Seal> {
    Some(Seal {
        sha256: weights.digest()?.to_string(),
        size: metadata.len(),
        inode: metadata.ino(),
        modified_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        changed_ns: metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec()),
    })
}

/// SHA-256 of a file in hexadecimal.
pub(crate) fn digest(mut file: &File, mut progress: impl FnMut(u64)) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0u8; 1 << 20];
    let mut total = 0;
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&chunk[..n]);
        total += n as u64;
        progress(total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_wrong_weights_are_not_ready() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path());
        let weights = llm::weights_named("smollm2-135m").unwrap();
        assert!(matches!(store.ready(weights), Err(StoreError::Absent { .. })));
        workspace::create_private_dir(store.directory()).unwrap();
        StateFile::write(&store.path(weights), b"not weights").unwrap();
        let error = store.ready(weights).unwrap_err().to_string();
        assert!(error.contains("varvel model pull smollm2-135m"), "{error}");
    }

    #[test]
    fn a_seal_does_not_survive_a_change() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path());
        let weights = llm::weights_named("smollm2-135m").unwrap();
        workspace::create_private_dir(store.directory()).unwrap();
        StateFile::write(&store.path(weights), b"as it was").unwrap();
        store.remember(weights, &fs::metadata(store.path(weights)).unwrap()).unwrap();
        assert!(store.ready(weights).is_ok(), "sealed and unchanged");
        StateFile::write(&store.path(weights), b"is it now").unwrap();
        assert!(matches!(store.ready(weights), Err(StoreError::Wrong { .. })));
    }
}
