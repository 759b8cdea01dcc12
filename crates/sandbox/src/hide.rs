//! What a command must not see in the workspace: files of secrets, and unix sockets of the machine.

use std::fs;
use std::path::{Path, PathBuf};

/// Entries looked at, at most. A workspace with more has its first ones looked at, parents before children.
const MAX_ENTRIES: usize = 200_000;
/// Directories with packages of others or with generated files: what is in there is not the person's secret.
const GENERATED: [&str; 7] =
    ["node_modules", "site-packages", "target", "__pycache__", ".venv", "venv", ".tox"];

/// Files of secrets and sockets beneath `root`, relative to it.
pub(crate) fn hidden(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if crate::cut::is("hide") {
        return found;
    }
    let mut budget = MAX_ENTRIES;
    let mut level = vec![PathBuf::new()];
    while !level.is_empty() {
        let mut deeper = Vec::new();
        for directory in &level {
            for entry in fs::read_dir(root.join(directory)).into_iter().flatten().flatten() {
                if budget == 0 {
                    return found;
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
    found
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
        let mut found = hidden(root.path());
        found.sort();
        let expected: Vec<PathBuf> =
            [".env.local", "a/b/c/d/.env", "a/b/c/d/s", "a/key.pem"].iter().map(PathBuf::from).collect();
        assert_eq!(found, expected);
    }
}
