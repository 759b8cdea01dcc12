//! What a command must not see in the workspace: files of secrets, and unix sockets of the machine.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::SandboxError;

/// Entries looked at, at most.
const MAX_ENTRIES: usize = 1_000_000;
/// Directories with packages of others or with generated files: what is in there is not the person's secret.
const GENERATED: [&str; 7] =
    ["node_modules", "site-packages", "target", "__pycache__", ".venv", "venv", ".tox"];

/// Files of secrets and sockets beneath `root`, relative to it.
///
/// # Errors
/// If not everything could be looked at: what is not found would not be hidden.
pub(crate) fn hidden(root: &Path) -> Result<Vec<PathBuf>, SandboxError> {
    let mut found = Vec::new();
    if crate::cut::is("hide") {
        return Ok(found);
    }
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
                if std::os::unix::fs::FileTypeExt::is_socket(&kind) || policy::is_secret(&path) {
                    found.push(path);
                } else if kind.is_dir() && !skipped(directory, &name.to_string_lossy()) {
                    deeper.push(path);
                }
            }
        }
        level = deeper;
    }
    Ok(found)
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
        let mut found = hidden(root.path()).unwrap();
        found.sort();
        let expected: Vec<PathBuf> =
            [".env.local", "a/b/c/d/.env", "a/b/c/d/s", "a/key.pem"].iter().map(PathBuf::from).collect();
        assert_eq!(found, expected);
    }
}
