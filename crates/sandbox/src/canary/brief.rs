//! What the program inside is told: where to aim. No secrets, for it is recorded like every command line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Instructions for the program inside, and for the checks outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Brief {
    /// Names what belongs to this proof.
    pub(crate) nonce: String,
    /// The workspace, the same inside and outside.
    pub(crate) workspace: PathBuf,
    /// A directory outside the workspace with a file `file` in it.
    pub(crate) outside: PathBuf,
    /// `$VARVEL_HOME`.
    pub(crate) state: PathBuf,
    /// The person's real home.
    pub(crate) home: PathBuf,
    /// Varvel's own program.
    pub(crate) program: PathBuf,
    /// Files that exist outside, in directories that exist inside too.
    pub(crate) scratch: Vec<PathBuf>,
    /// Files that must not come to be.
    pub(crate) forbidden: Vec<PathBuf>,
    /// Port of the TCP listener on 127.0.0.1.
    pub(crate) tcp: u16,
    /// Port of a second one, to be reached through the proxy only.
    pub(crate) proxied: u16,
    /// Port of the UDP socket on 127.0.0.1.
    pub(crate) udp: u16,
    /// Process outside that can be attacked.
    pub(crate) bait: i32,
    /// A System V shared memory segment; -1 when there is none.
    pub(crate) memory: i32,
    /// The namespaces outside: kind and identity.
    pub(crate) namespaces: BTreeMap<String, String>,
    /// Only these canaries; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) only: Vec<String>,
    /// Descriptors that the program inside was started with, other than 0, 1 and 2.
    #[serde(skip)]
    pub(crate) inherited: Vec<String>,
}

impl Brief {
    /// As the argument for the program.
    ///
    /// # Errors
    /// If a path is not UTF-8.
    pub fn argument(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    pub(crate) fn wants(&self, canary: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == canary)
    }

    /// Name of the abstract unix socket outside.
    pub(crate) fn abstract_name(&self) -> String {
        format!("varvel-canary-{}", self.nonce)
    }

    /// The file outside the workspace.
    pub(crate) fn outside_file(&self) -> PathBuf {
        self.outside.join("file")
    }

    /// A path in the workspace.
    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.workspace.join(path)
    }
}
