//! Two lists of file names: secrets, and files that the host runs or trusts later.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Whole names of files that hold credentials.
const SECRET_NAMES: &[&str] = &[
    ".env",
    ".envrc",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".git-credentials",
    ".htpasswd",
    ".dockercfg",
    ".vault-token",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "credentials",
    "credentials.json",
    "credentials.toml",
    "service-account.json",
    "secrets.yml",
    "secrets.yaml",
    "secrets.json",
    "secrets.toml",
    "terraform.tfstate",
];
/// Beginnings of such names.
const SECRET_PREFIXES: &[&str] = &[".env."];
/// Endings of such names.
const SECRET_SUFFIXES: &[&str] =
    &[".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".ppk", ".tfvars"];
/// Directories whose whole content is secret.
const SECRET_DIRECTORIES: &[&str] =
    &[".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure", ".password-store"];
/// Names that look secret and are templates.
const TEMPLATES: &[&str] = &[".example", ".sample", ".template", ".dist"];

/// Directories with content that the host runs or trusts.
const TRUSTED_DIRECTORIES: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    ".vscode",
    ".idea",
    ".claude",
    ".cursor",
    ".devcontainer",
    ".husky",
    ".varvel",
    ".direnv",
];
/// Files that the host runs or trusts.
const TRUSTED_NAMES: &[&str] = &[
    ".envrc",
    ".mcp.json",
    "agents.md",
    "claude.md",
    "gemini.md",
    ".cursorrules",
    "varvel.toml",
    ".bashrc",
    ".bash_profile",
    ".profile",
    ".zshrc",
    ".zprofile",
    ".zshenv",
    ".gitmodules",
    ".gitattributes",
    ".gitconfig",
    ".gitlab-ci.yml",
    "jenkinsfile",
    ".pre-commit-config.yaml",
    ".npmrc",
    ".yarnrc.yml",
];
/// Path prefixes, in whole components.
const TRUSTED_PREFIXES: &[&[&str]] =
    &[&[".github", "workflows"], &[".github", "actions"], &[".circleci"], &[".buildkite"], &[".cargo"]];

/// Whether `path` names a file that usually holds secrets. Case does not matter.
#[must_use]
pub fn is_secret(path: &Path) -> bool {
    let parts = lower_parts(path);
    if parts.iter().any(|part| SECRET_DIRECTORIES.contains(&part.as_str())) {
        return true;
    }
    let Some(name) = parts.last() else { return false };
    if TEMPLATES.iter().any(|ending| name.ends_with(ending)) {
        return false;
    }
    SECRET_NAMES.contains(&name.as_str())
        || SECRET_PREFIXES.iter().any(|beginning| name.starts_with(beginning))
        || SECRET_SUFFIXES.iter().any(|ending| name.ends_with(ending))
}

/// Whether `path` names a file that programs outside the sandbox run or trust. Case does not matter.
#[must_use]
pub fn host_trusted(path: &Path) -> bool {
    let parts = lower_parts(path);
    parts.iter().any(|part| TRUSTED_DIRECTORIES.contains(&part.as_str()))
        || parts.last().is_some_and(|name| TRUSTED_NAMES.contains(&name.as_str()))
        || TRUSTED_PREFIXES
            .iter()
            .any(|prefix| parts.windows(prefix.len()).any(|window| window.iter().eq(prefix.iter())))
}

fn lower_parts(path: &Path) -> Vec<String> {
    path.iter().map(|part: &OsStr| String::from_utf8_lossy(part.as_bytes()).to_lowercase()).collect()
}
