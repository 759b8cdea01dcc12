//! The record of a proof, in `$VARVEL_HOME/proof.json`: what was proven, and whether it still says something.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::time::{SystemTime, UNIX_EPOCH};

use action::Digest;
use sandbox::Controllers;
use serde::{Deserialize, Serialize};
use workspace::StateFile;

use crate::exit::Failure;
use crate::home::Home;
use crate::sessions::VERSION;

/// Longest record that is read, in bytes.
const MAX_RECORD: u64 = 65536;

/// What was proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// On this.
    machine: Machine,
    /// By this program.
    program: Program,
    /// Its SHA-256, in hexadecimal.
    digest: String,
    /// When, in seconds since 1970.
    time: u64,
    /// Control groups whose limits were seen to bite.
    #[serde(default)]
    controllers: Controllers,
}

/// A proof holds for one kernel, one user and one set of profiles and canaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Machine {
    kernel: String,
    architecture: String,
    uid: u32,
    version: String,
    profiles: Vec<String>,
    canaries: usize,
}

/// Tells cheaply whether the program is the same file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Program {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// Release of the running kernel.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Whether this program has proven the sandbox on this kernel. In doubt it has not.
pub(crate) fn proven(home: &Home) -> bool {
    !sandbox::any_cut() && still(home).unwrap_or(false)
}

/// The control groups that the proof on this machine has found; none without a proof.
pub(crate) fn controllers(home: &Home) -> Controllers {
    match read(home) {
        Ok(record) if record.machine == machine() => record.controllers,
        _ => Controllers::default(),
    }
}

fn read(home: &Home) -> io::Result<Record> {
    let mut text = String::new();
    File::open(path(home))?.take(MAX_RECORD).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

fn still(home: &Home) -> io::Result<bool> {
    let record = read(home)?;
    if record.machine != machine() {
        return Ok(false);
    }
    // Reading the whole program is only needed when the file is another one.
    Ok(record.program == program()?.1 || record.digest == digest()?)
}

/// Records that everything held.
pub(crate) fn record(home: &Home, controllers: Controllers) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let record =
            Record { machine: machine(), program: program()?.1, digest: digest()?, time, controllers };
        let mut text = serde_json::to_vec_pretty(&record)?;
        text.push(b'\n');
        StateFile::write(&path(home), &text)
    };
    write().map_err(|error| {
        Failure::failed(format!("cannot record the proof in {}: {error}", path(home).display()))
    })
}

/// Forgets an earlier proof: something got out.
pub(crate) fn forget(home: &Home) -> Result<(), Failure> {
    match workspace::remove_state(&path(home)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::failed(format!("cannot remove {}: {error}", path(home).display())))
        }
        _ => Ok(()),
    }
}

fn path(home: &Home) -> std::path::PathBuf {
    home.state().join("proof.json")
}

fn machine() -> Machine {
    Machine {
        kernel: kernel(),
        architecture: std::env::consts::ARCH.to_owned(),
        uid: rustix::process::getuid().as_raw(),
        version: VERSION.to_owned(),
        profiles: sandbox::PROVEN.iter().map(|name| (*name).to_owned()).collect(),
        canaries: sandbox::canaries().count(),
    }
}

/// The running program, and what tells it apart.
fn program() -> io::Result<(File, Program)> {
    let file = File::open("/proc/self/exe")?;
    let found = file.metadata()?;
    let program = Program {
        device: found.dev(),
        inode: found.ino(),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
    };
    Ok((file, program))
}

fn digest() -> io::Result<String> {
    let mut bytes = Vec::new();
    program()?.0.read_to_end(&mut bytes)?;
    Ok(Digest::of(&bytes).to_string())
}
