//! Profiles: what a confined program sees, as data.
//!
//! A profile is a TOML file that names the one it `extends` and says what is different. In a list, the item `"..."`
//! stands for the list of the profile below. Built-in ones are in `profiles/`; a person's own are given by their text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::SandboxError;

/// Longest chain of profiles that extend each other.
const MAX_DEPTH: usize = 8;
/// Longest profile, in bytes.
const MAX_TEXT: usize = 256 * 1024;
/// Stands for the list of the profile below.
const BELOW: &str = "...";

/// The built-in profiles that a command can be run with: name and text.
const BUILT_IN: [(&str, &str); 10] = [
    ("workspace", include_str!("../profiles/workspace.toml")),
    ("read-only", include_str!("../profiles/read-only.toml")),
    ("workspace+net", include_str!("../profiles/workspace+net.toml")),
    ("strict", include_str!("../profiles/strict.toml")),
    ("cargo", include_str!("../profiles/cargo.toml")),
    ("npm", include_str!("../profiles/npm.toml")),
    ("pip", include_str!("../profiles/pip.toml")),
    ("git", include_str!("../profiles/git.toml")),
    ("git-clone", include_str!("../profiles/git-clone.toml")),
    ("landlock", include_str!("../profiles/landlock.toml")),
];

/// The profiles that `varvel doctor --prove` attacks. The others differ from these in data only.
pub const PROVEN: [&str; 4] = ["workspace", "read-only", "strict", "workspace+net"];

/// How the workspace appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkspaceAccess {
    /// It can be changed.
    ReadWrite,
    /// It can be read.
    ReadOnly,
    /// It is absent.
    None,
}

/// What of the network there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkAccess {
    /// A loopback device of its own.
    None,
    /// The same, and the proxy behind it.
    Proxy,
    /// The machine's. Only for what a person starts by hand; the gate sees to that.
    Host,
}

/// Which system calls there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Syscalls {
    /// All but the dangerous ones.
    DenyList,
    /// None but the harmless ones.
    AllowList,
}

/// What stands between the command and the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Namespaces and a root of its own, Landlock, seccomp.
    Namespaces,
    /// Landlock and seccomp.
    Landlock,
}

/// Resource limits. Zero means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimits {
    /// Memory of the whole process tree, and writable data of each process, in MiB.
    pub memory_mb: u64,
    /// Processes of the tree.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Largest file that may be written, in MiB.
    pub file_mb: u64,
    /// Size of each of the private /tmp, /dev/shm and home, in MiB.
    pub scratch_mb: u64,
    /// Share of the processors in per cent of one, where control groups can be had.
    pub cpu_percent: u64,
}

/// A sandbox profile; see `profiles/workspace.toml` for what each field means.
#[derive(Debug, Clone, Serialize)]
pub struct Profile {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Beginnings of commands that it is chosen for.
    pub command: Vec<String>,
    /// How the workspace appears.
    pub workspace: WorkspaceAccess,
    /// What of the network there is.
    pub network: NetworkAccess,
    /// Which system calls there are.
    pub syscalls: Syscalls,
    /// What stands between the command and the machine.
    pub isolation: Isolation,
    /// Whether it may create a `.git` where there is none.
    pub repositories: bool,
    /// Absolute paths, read-only.
    pub system: Vec<String>,
    /// Paths beneath the home, read-only.
    pub home: Vec<String>,
    /// Paths beneath the home, kept between runs.
    pub cache: Vec<String>,
    /// Unix sockets of the machine; `$NAME` is a variable's value.
    pub sockets: Vec<String>,
    /// Ports at which a direct connection reaches the proxy.
    pub ports: Vec<u16>,
    /// Variables passed on.
    pub environment: Vec<String>,
    /// Variables set.
    pub fixed: BTreeMap<String, String>,
    /// Resource limits.
    pub limits: ResourceLimits,
}

impl Profile {
    /// What it gives a command that needs a person, in words.
    #[must_use]
    pub fn privileges(&self) -> Vec<String> {
        let sockets = crate::plan::sockets(self);
        let mut all: Vec<String> =
            sockets.iter().map(|path| format!("the socket {}", action::printable(path))).collect();
        if self.repositories {
            all.push("new repositories, whose settings the host would follow".to_owned());
        }
        all
    }
}

/// A profile as it is written down.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    extends: Option<String>,
    description: Option<String>,
    command: Option<Vec<String>>,
    workspace: Option<WorkspaceAccess>,
    network: Option<NetworkAccess>,
    syscalls: Option<Syscalls>,
    isolation: Option<Isolation>,
    repositories: Option<bool>,
    system: Option<Vec<String>>,
    home: Option<Vec<String>>,
    cache: Option<Vec<String>>,
    sockets: Option<Vec<String>>,
    ports: Option<Vec<u16>>,
    environment: Option<Vec<String>>,
    fixed: Option<BTreeMap<String, String>>,
    limits: Option<WrittenLimits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenLimits {
    memory_mb: Option<u64>,
    processes: Option<u64>,
    open_files: Option<u64>,
    file_mb: Option<u64>,
    scratch_mb: Option<u64>,
    cpu_percent: Option<u64>,
}

/// All profiles that there are: built-in ones and the person's own.
#[derive(Debug, Clone, Default)]
pub struct Profiles {
    own: BTreeMap<String, String>,
}

impl Profiles {
    /// With a person's own profiles: text by name. A name that is built in already cannot be given another meaning.
    ///
    /// # Errors
    /// If a name or a text is not usable.
    pub fn new(own: BTreeMap<String, String>) -> Result<Self, SandboxError> {
        for name in own.keys() {
            let why = if !usable_name(name) {
                "its name may have letters, digits, '-', '_', '+' and '.' only"
            } else if built_in(name).is_some() {
                "this name is built in; choose another and `extends` it"
            } else {
                continue;
            };
            return Err(SandboxError::Profile { name: name.clone(), why: why.to_owned() });
        }
        let profiles = Self { own };
        for name in profiles.own.keys() {
            profiles.named(name)?;
        }
        Ok(profiles)
    }

    /// The names that can be chosen.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).chain(self.own.keys().cloned()).collect()
    }

    /// The profile called `name`.
    ///
    /// # Errors
    /// If there is none, or it is not usable.
    pub fn named(&self, name: &str) -> Result<Profile, SandboxError> {
        let mut profile = self.resolve(name, 0)?;
        profile.name = name.to_owned();
        Ok(profile)
    }

    /// The profile that is meant for a command: the one whose `command` begins like it, the person's own first.
    #[must_use]
    pub fn for_command(&self, argv: &[String]) -> Option<Profile> {
        let begins = |words: &String| {
            // The program by its name, wherever it is: what a profile gives is decided by rules, not by this choice.
            let name = |(at, word): (usize, &'_ String)| {
                let word = word.as_str();
                if at == 0 { word.rsplit('/').next().unwrap_or(word).to_owned() } else { word.to_owned() }
            };
            let mut given = argv.iter().enumerate().map(name);
            words.split_whitespace().all(|word| given.next().as_deref() == Some(word))
        };
        let names = self.names();
        names
            .iter()
            .rev()
            .filter_map(|name| self.named(name).ok())
            .find(|profile| profile.command.iter().any(begins))
    }

    fn resolve(&self, name: &str, depth: usize) -> Result<Profile, SandboxError> {
        let bad = |why: String| SandboxError::Profile { name: name.to_owned(), why };
        let text = match built_in(name) {
            Some(text) => text,
            None => self.own.get(name).map(String::as_str).ok_or_else(|| SandboxError::NoSuchProfile {
                name: name.to_owned(),
                known: self.names().join(", "),
            })?,
        };
        if depth > MAX_DEPTH || text.len() > MAX_TEXT {
            return Err(bad("it extends itself, or is too long".into()));
        }
        let written: Written = toml::from_str(text).map_err(|error| bad(error.to_string()))?;
        let Some(below) = written.extends.clone() else {
            return written.whole().ok_or_else(|| bad("add extends = \"workspace\"".into()));
        };
        let profile = written.over(self.resolve(&below, depth + 1)?);
        check(&profile).map_err(bad)?;
        if profile.network == NetworkAccess::Host && name != policy::DOWNLOAD_PROFILE {
            return Err(bad("network = \"host\" is for Varvel's own downloads; use \"proxy\"".into()));
        }
        Ok(profile)
    }
}

impl Written {
    /// A profile that extends none; `None` when something is missing.
    fn whole(self) -> Option<Profile> {
        let limits = self.limits?;
        Some(Profile {
            name: String::new(),
            description: self.description?,
            command: self.command.unwrap_or_default(),
            workspace: self.workspace?,
            network: self.network?,
            syscalls: self.syscalls?,
            isolation: self.isolation?,
            repositories: self.repositories.unwrap_or(false),
            system: self.system?,
            home: self.home?,
            cache: self.cache?,
            sockets: self.sockets?,
            ports: self.ports?,
            environment: self.environment?,
            fixed: self.fixed?,
            limits: ResourceLimits {
                memory_mb: limits.memory_mb?,
                processes: limits.processes?,
                open_files: limits.open_files?,
                file_mb: limits.file_mb?,
                scratch_mb: limits.scratch_mb?,
                cpu_percent: limits.cpu_percent?,
            },
        })
    }

    /// What this one says, and what `below` says about the rest.
    fn over(self, below: Profile) -> Profile {
        let limits = self.limits.unwrap_or_default();
        let mut fixed = below.fixed;
        match self.fixed {
            Some(own) if own.is_empty() => fixed.clear(),
            own => fixed.extend(own.unwrap_or_default()),
        }
        Profile {
            name: String::new(),
            description: self.description.unwrap_or(below.description),
            command: self.command.unwrap_or_default(),
            workspace: self.workspace.unwrap_or(below.workspace),
            network: self.network.unwrap_or(below.network),
            syscalls: self.syscalls.unwrap_or(below.syscalls),
            isolation: self.isolation.unwrap_or(below.isolation),
            repositories: self.repositories.unwrap_or(below.repositories),
            system: list(self.system, below.system),
            home: list(self.home, below.home),
            cache: list(self.cache, below.cache),
            sockets: list(self.sockets, below.sockets),
            ports: self.ports.unwrap_or(below.ports),
            environment: list(self.environment, below.environment),
            fixed,
            limits: ResourceLimits {
                memory_mb: limits.memory_mb.unwrap_or(below.limits.memory_mb),
                processes: limits.processes.unwrap_or(below.limits.processes),
                open_files: limits.open_files.unwrap_or(below.limits.open_files),
                file_mb: limits.file_mb.unwrap_or(below.limits.file_mb),
                scratch_mb: limits.scratch_mb.unwrap_or(below.limits.scratch_mb),
                cpu_percent: limits.cpu_percent.unwrap_or(below.limits.cpu_percent),
            },
        }
    }
}

fn list(own: Option<Vec<String>>, below: Vec<String>) -> Vec<String> {
    let Some(own) = own else { return below };
    let mut all = Vec::new();
    for item in own {
        if item == BELOW { all.extend(below.iter().cloned()) } else { all.push(item) }
    }
    all
}

/// What no profile may say: it would take away what the sandbox is for.
fn check(profile: &Profile) -> Result<(), String> {
    for path in &profile.system {
        let real = std::path::Path::new(path);
        if !real.is_absolute() || path == "/" || real.components().any(|part| part.as_os_str() == "..") {
            return Err(format!("system: {path:?} is not an absolute path below /"));
        }
    }
    for path in profile.home.iter().chain(&profile.cache) {
        let real = std::path::Path::new(path);
        let inside = real.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside || path.is_empty() {
            return Err(format!("home and cache: {path:?} is not a path beneath the home directory"));
        }
        // A file that names hosts is no secret; the directory around it is.
        if policy::is_secret(real) && path != ".ssh/known_hosts" && path != ".netrc" {
            return Err(format!("home and cache: {path:?} holds secrets"));
        }
    }
    if profile.isolation == Isolation::Landlock && profile.network != NetworkAccess::None {
        return Err("isolation = \"landlock\" goes with network = \"none\" only".into());
    }
    if profile.isolation == Isolation::Landlock && !profile.sockets.is_empty() {
        return Err("isolation = \"landlock\" goes without sockets only".into());
    }
    Ok(())
}

fn built_in(name: &str) -> Option<&'static str> {
    match name {
        policy::DOWNLOAD_PROFILE => Some(include_str!("../profiles/download.toml")),
        WORKER => Some(include_str!("../profiles/worker.toml")),
        _ => BUILT_IN.iter().find(|(own, _)| *own == name).map(|(_, text)| *text),
    }
}

/// The profile of Varvel's own helper processes. It cannot be chosen.
pub(crate) const WORKER: &str = "worker";

fn usable_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'.'))
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
