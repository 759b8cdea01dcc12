//! What a command must not see in the workspace: files of secrets, and unix sockets of the machine.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::SandboxError;

/// Entries looked at, at most.
const MAX_ENTRIES: usize = 1_000_000;
/// Paths that are surely short enough to be used, in bytes.
const MAX_NAMEABLE: usize = 2048;
/// How much of a repository's settings is read, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// Directories with packages of others or with generated files: what is in there is not the person's secret.
const GENERATED: [&str; 7] =
    ["node_modules", "site-packages", "target", "__pycache__", ".venv", "venv", ".tox"];

/// What was found in a workspace. Paths are relative to it.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Files of secrets and sockets, and what links with such names lead to.
    pub(crate) hidden: Vec<PathBuf>,
    /// What links with names that the host trusts lead to, and where it looks for hooks.
    pub(crate) trusted: Vec<PathBuf>,
}

/// Looks through the workspace at `root`.
///
/// # Errors
/// If not everything could be looked at: what is not found would not be hidden.
pub(crate) fn look(root: &Path) -> Result<Found, SandboxError> {
    let mut found = Found::default();
    let failed = |why: String| SandboxError::Setup { what: "looking for files of secrets".into(), why };
    let mut budget = MAX_ENTRIES;
    let mut level = vec![PathBuf::new()];
    while !level.is_empty() {
        let mut deeper = Vec::new();
        for directory in &level {
            let entries = match fs::read_dir(root.join(directory)) {
                Ok(entries) => entries,
                // What is not for us is not for the command either; what is gone is gone.
                Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) => {
                    continue;
                }
                // Too deep to be named: what can be named above it is hidden whole.
                Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {
                    let nameable = directory.ancestors().find(|path| path.as_os_str().len() < MAX_NAMEABLE);
                    let nameable = nameable.unwrap_or(directory).to_owned();
                    if !found.hidden.contains(&nameable) {
                        found.hidden.push(nameable);
                    }
                    continue;
                }
                Err(error) => return Err(failed(format!("{}: {error}", action::printable(directory)))),
            };
            for entry in entries.flatten() {
                if budget == 0 {
                    return Err(failed(format!(
                        "the workspace has more than {MAX_ENTRIES} entries; use a smaller one"
                    )));
                }
                budget -= 1;
                // The kind comes with the name; nothing is looked up.
                let Ok(kind) = entry.file_type() else { continue };
                let name = entry.file_name();
                let path = directory.join(&name);
                let secret = policy::is_secret(&path);
                if kind.is_symlink() {
                    let list = if secret { &mut found.hidden } else { &mut found.trusted };
                    if (secret || policy::guarded(&path))
                        && let Some(target) = leads_to(root, &path)
                    {
                        list.push(target);
                    }
                }
                if secret || std::os::unix::fs::FileTypeExt::is_socket(&kind) {
                    found.hidden.push(path);
                } else if kind.is_dir() && !skipped(directory, &name.to_string_lossy()) {
                    deeper.push(path);
                }
            }
        }
        level = deeper;
    }
    found.trusted.extend(hooks(root));
    if crate::cut::is("hide") {
        found.hidden.clear();
    }
    Ok(found)
}

/// Where a link leads, when that is in the workspace. The workspace itself is no target: everything would be.
fn leads_to(root: &Path, link: &Path) -> Option<PathBuf> {
    let target = root.join(link).canonicalize().ok()?;
    let inside = target.strip_prefix(root).ok()?;
    (inside != Path::new("")).then(|| inside.to_owned())
}

/// The directory that the repository's settings name for hooks, when it lies in the workspace.
fn hooks(root: &Path) -> Option<PathBuf> {
    let mut text = String::new();
    fs::File::open(root.join(".git/config")).ok()?.take(MAX_CONFIG).read_to_string(&mut text).ok()?;
    let named = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        key.trim().eq_ignore_ascii_case("hookspath").then(|| value.trim().trim_matches('"').to_owned())
    })?;
    let path = Path::new(&named);
    let inside = if path.is_absolute() { path.strip_prefix(root).ok()? } else { path };
    let plain: PathBuf =
        inside.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect();
    let beneath = plain.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    (beneath && plain != Path::new("")).then_some(plain)
}

fn skipped(directory: &Path, name: &str) -> bool {
    GENERATED.contains(&name)
        || (directory.file_name().is_some_and(|parent| parent == ".git") && name == "objects")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_sockets_at_any_depth() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b/c/d");
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(root.path().join("node_modules/x")).unwrap();
        for path in ["a/b/c/d/.env", ".env.local", "a/key.pem", "node_modules/x/.env", "a/plain.txt"] {
            fs::write(root.path().join(path), "x").unwrap();
        }
        let _socket = std::os::unix::net::UnixListener::bind(deep.join("s")).unwrap();
        std::os::unix::fs::symlink("a/plain.txt", root.path().join("AGENTS.md")).unwrap();
        fs::create_dir(root.path().join(".git")).unwrap();
        fs::write(root.path().join(".git/config"), "[core]\n\thooksPath = ./scripts/hooks\n").unwrap();
        let canonical = root.path().canonicalize().unwrap();
        let Found { hidden: mut found, trusted } = look(&canonical).unwrap();
        assert_eq!(trusted, [PathBuf::from("a/plain.txt"), PathBuf::from("scripts/hooks")]);
        found.sort();
        let expected: Vec<PathBuf> =
            [".env.local", "a/b/c/d/.env", "a/b/c/d/s", "a/key.pem"].iter().map(PathBuf::from).collect();
        assert_eq!(found, expected);
    }
}
