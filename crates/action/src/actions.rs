//! Every effect as a value: normalised, so that what is decided on is what happens.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::{Digest, Target};

/// Reads (a part of) one file.
#[derive(Debug, Clone, Serialize)]
pub struct FileRead {
    /// The file.
    pub path: Target,
}

/// Lists a directory.
#[derive(Debug, Clone, Serialize)]
pub struct FileList {
    /// The directory.
    pub path: Target,
}

/// Searches names or contents beneath a directory.
#[derive(Debug, Clone, Serialize)]
pub struct FileSearch {
    /// Where to start.
    pub path: Target,
    /// What is looked for.
    pub pattern: String,
}

/// Creates a file or replaces its whole content.
#[derive(Debug, Clone, Serialize)]
pub struct FileWrite {
    /// The file.
    pub path: Target,
    /// The new content. The ledger holds only its digest and length.
    #[serde(serialize_with = "digest_and_length")]
    pub content: Vec<u8>,
    /// Digest of the content that the change was made from; `None` for a file that must not exist yet.
    /// The write is refused if the file has changed meanwhile.
    pub replaces: Option<Digest>,
    /// The change as a unified diff, for the person who is asked. Not recorded.
    #[serde(skip)]
    pub diff: String,
}

/// Deletes one file or an empty directory.
#[derive(Debug, Clone, Serialize)]
pub struct FileDelete {
    /// The file.
    pub path: Target,
}

/// Runs a program, confined.
#[derive(Debug, Clone, Serialize)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Directory to start in.
    pub directory: Target,
    /// Name of the sandbox profile.
    pub profile: String,
    /// What the profile gives it that others do not have and that needs a person, such as the SSH agent's socket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub privileges: Vec<String>,
    /// Wall-clock limit; the whole process tree is killed then. `None` only for commands a person typed.
    #[serde(serialize_with = "seconds")]
    pub timeout: Option<Duration>,
}

/// Where a packet would go.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Destination {
    /// Host name or address literal, lower case, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Destination {
    /// Whether the host is this machine by name or by a loopback address.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Fetches something from the network.
#[derive(Debug, Clone, Serialize)]
pub struct Network {
    /// Where.
    pub destination: Destination,
    /// What is fetched, without any query that could carry a credential.
    pub url: String,
    /// Why, in a few words.
    pub purpose: String,
}

/// How a confined command reached for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// Through the proxy, as a tunnel (HTTP CONNECT).
    Tunnel,
    /// Through the proxy, as a plain HTTP request.
    Http,
    /// Through the proxy, as SOCKS5.
    Socks,
    /// Directly, without knowing that there is a proxy.
    Direct,
}

/// One connection, or one request in an inspected connection, of a confined command.
#[derive(Debug, Clone, Serialize)]
pub struct Connect {
    /// Where.
    pub destination: Destination,
    /// How it got here.
    pub via: Via,
    /// HTTP method, where the request can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path without query, where the request can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// What a staged command did to one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StagedKind {
    /// It is new.
    Created,
    /// Its content, mode or type changed.
    Changed,
    /// It is gone.
    Deleted,
}

/// One path that a staged command changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StagedChange {
    /// Relative to the workspace, printable.
    pub path: String,
    /// What happened to it.
    pub kind: StagedKind,
    /// Whether the host runs or trusts it later.
    pub host_trusted: bool,
}

/// Brings what a staged command wrote into the workspace, all of it or nothing.
#[derive(Debug, Clone, Serialize)]
pub struct Commit {
    /// The workspace.
    pub workspace: Target,
    /// Identifier of the stage.
    pub stage: String,
    /// Every path that changes.
    pub changes: Vec<StagedChange>,
    /// Digest over names and contents of the changes.
    pub digest: Digest,
    /// The changes as a unified diff, for the person who is asked. Not recorded.
    #[serde(skip)]
    pub diff: String,
}

/// Whether a model runs here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// In a process of ours on this machine, without network.
    Embedded,
    /// A server, here (loopback) or elsewhere.
    Server(Destination),
}

impl Reach {
    /// Whether what is sent stays on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Embedded => true,
            Self::Server(destination) => destination.is_loopback(),
        }
    }
}

/// Sends a context to a model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelCall {
    /// Provider name, as in `--provider`.
    pub provider: String,
    /// Model name.
    pub model: String,
    /// Where it runs.
    pub reach: Reach,
    /// Digest of what is sent.
    pub request: Digest,
    /// Size of what is sent, in bytes of text.
    pub bytes: usize,
}

/// Any effect.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// Reads a file.
    FileRead(FileRead),
    /// Lists a directory.
    FileList(FileList),
    /// Searches files.
    FileSearch(FileSearch),
    /// Writes a file.
    FileWrite(FileWrite),
    /// Deletes a file.
    FileDelete(FileDelete),
    /// Runs a program.
    Command(Command),
    /// Uses the network.
    Network(Network),
    /// Connects a confined command to somewhere.
    Connect(Connect),
    /// Brings staged changes into the workspace.
    Commit(Commit),
    /// Asks a model.
    ModelCall(ModelCall),
    /// Wants something outside the workspace. There is no effect of this kind: it is only ever refused.
    Outside(Outside),
}

/// A path that leaves the workspace, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outside {
    /// The path.
    pub path: String,
}

/// A typed action: one of the variants of [`Action`].
pub trait Effect: Clone {
    /// The same as an [`Action`], for policy and ledger.
    fn action(&self) -> Action;
}

macro_rules! effects {
    ($($kind:ident),*) => {$(
        impl Effect for $kind {
            fn action(&self) -> Action {
                Action::$kind(self.clone())
            }
        }
    )*};
}
effects!(FileRead, FileList, FileSearch, FileWrite, FileDelete, Command, Network, Connect, Commit, ModelCall);

impl Action {
    /// The action in plain words, one line, for prompts and logs.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::FileRead(a) => format!("read {}", a.path.display()),
            Self::FileList(a) => format!("list {}", a.path.display()),
            Self::FileSearch(a) => format!("search {:?} in {}", a.pattern, a.path.display()),
            Self::FileWrite(a) if a.replaces.is_none() => {
                format!("create {} ({} bytes)", a.path.display(), a.content.len())
            }
            Self::FileWrite(a) => format!("change {} ({} bytes)", a.path.display(), a.content.len()),
            Self::FileDelete(a) => format!("delete {}", a.path.display()),
            Self::Command(a) => format!("run {}", one_line(&a.argv)),
            Self::Network(a) => format!("fetch {}", a.url),
            Self::Connect(a) => match (&a.method, &a.path) {
                (Some(method), Some(path)) => format!("{method} {path} at {}", a.destination),
                _ => format!("connect to {}", a.destination),
            },
            Self::Commit(a) => match a.changes.as_slice() {
                [one] => format!("keep the change of {}", one.path),
                all => format!("keep the changes of {} files", all.len()),
            },
            Self::Outside(a) => format!("use {:?}", a.path),
            Self::ModelCall(a) => match &a.reach {
                Reach::Embedded => format!("ask {} on this machine", a.model),
                Reach::Server(at) => format!("ask {} ({}) at {at}", a.model, a.provider),
            },
        }
    }
}

/// The command for a person: the shell line itself for `sh -c LINE`, else the words.
fn one_line(argv: &[String]) -> String {
    let line = match argv {
        [shell, flag, line] if flag == "-c" && shell.ends_with("sh") => line.clone(),
        words => words.join(" "),
    };
    line.replace('\n', " \u{23ce} ")
}

fn digest_and_length<S: Serializer>(content: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Content {
        sha256: Digest,
        bytes: usize,
    }
    Content { sha256: Digest::of(content), bytes: content.len() }.serialize(serializer)
}

fn seconds<S: Serializer>(limit: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    limit.map(|limit| limit.as_secs()).serialize(serializer)
}
