//! Profiles: what a confined program sees, as data.

use serde::Deserialize;

use crate::SandboxError;

/// The built-in profiles that a command can be run with.
pub const PROFILES: [&str; 2] = ["workspace", "read-only"];

/// How the workspace appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WorkspaceAccess {
    ReadWrite,
    ReadOnly,
    None,
}

/// Resource limits. Zero means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourceLimits {
    pub(crate) memory_mb: u64,
    pub(crate) processes: u64,
    pub(crate) open_files: u64,
    pub(crate) file_mb: u64,
    pub(crate) scratch_mb: u64,
}

/// A sandbox profile; see `profiles/*.toml` for what each field means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// One line for people.
    pub description: String,
    pub(crate) workspace: WorkspaceAccess,
    pub(crate) system: Vec<String>,
    pub(crate) home: Vec<String>,
    pub(crate) protect: Vec<String>,
    pub(crate) environment: Vec<String>,
    #[serde(default)]
    pub(crate) fixed: std::collections::BTreeMap<String, String>,
    pub(crate) unix_sockets: bool,
    /// Whether it shares the machine's network. Only for what a person starts by hand; the gate sees to that.
    #[serde(default)]
    pub(crate) network: bool,
    pub(crate) limits: ResourceLimits,
}

impl Profile {
    /// The profile called `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<Self, SandboxError> {
        let text = match name {
            "workspace" => include_str!("../profiles/workspace.toml"),
            "read-only" => include_str!("../profiles/read-only.toml"),
            policy::DOWNLOAD_PROFILE => include_str!("../profiles/download.toml"),
            _ => return Err(SandboxError::NoSuchProfile { name: name.to_owned() }),
        };
        Self::parse(text)
    }

    /// The profile for Varvel's own helper processes.
    pub(crate) fn worker() -> Result<Self, SandboxError> {
        Self::parse(include_str!("../profiles/worker.toml"))
    }

    fn parse(text: &str) -> Result<Self, SandboxError> {
        toml::from_str(text).map_err(|error| SandboxError::Setup {
            what: "reading the profile".into(),
            why: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_profiles_parse() {
        for name in PROFILES {
            assert!(!Profile::named(name).unwrap().description.is_empty());
        }
        assert!(!Profile::worker().unwrap().network);
        assert!(!Profile::named("workspace").unwrap().network);
        assert!(Profile::named(policy::DOWNLOAD_PROFILE).unwrap().network);
        let error = Profile::named("none").unwrap_err().to_string();
        assert!(error.contains("workspace"), "{error}");
    }
}
