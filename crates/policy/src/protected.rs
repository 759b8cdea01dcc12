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
    ".githooks",
    ".gemini",
    ".codex",
    ".windsurf",
    ".clinerules",
    ".roo",
    ".kiro",
    ".opencode",
    ".zed",
    ".vs",
    ".varvel",
    ".direnv",
];
/// Files that the host runs or trusts.
const TRUSTED_NAMES: &[&str] = &[
    ".envrc",
    ".mcp.json",
    "agents.md",
    "claude.md",
    "claude.local.md",
    "opencode.json",
    ".windsurfrules",
    ".aider.conf.yml",
    "copilot-instructions.md",
    "gemini.md",
    ".cursorrules",
    "varvel.toml",
    ".bashrc",
    ".bash_profile",
    ".profile",
    ".zshrc",
    ".zprofile",
    ".zshenv",
    ".bash_login",
    ".zlogin",
    ".inputrc",
    ".exrc",
    ".nvimrc",
    ".gdbinit",
    ".lldbinit",
    ".dir-locals.el",
    ".tool-versions",
    "mise.toml",
    ".mise.toml",
    ".bazelrc",
    ".pnpmfile.cjs",
    ".yarnrc",
    "lefthook.yml",
    ".travis.yml",
    ".drone.yml",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
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
const TRUSTED_PREFIXES: &[&[&str]] = &[
    &[".github", "workflows"],
    &[".github", "actions"],
    &[".gitea", "workflows"],
    &[".forgejo", "workflows"],
    &[".circleci"],
    &[".buildkite"],
    &[".woodpecker"],
    &[".cargo"],
];
/// Endings of names that editors open as projects.
const TRUSTED_SUFFIXES: &[&str] = &[".code-workspace"];

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
        || parts.last().is_some_and(|name| {
            TRUSTED_NAMES.contains(&name.as_str()) || TRUSTED_SUFFIXES.iter().any(|end| name.ends_with(end))
        })
        || TRUSTED_PREFIXES
            .iter()
            .any(|prefix| parts.windows(prefix.len()).any(|window| window.iter().eq(prefix.iter())))
}

/// Names that stay guarded where packages of others are unpacked. The rest is harmless there: it means something only
/// to somebody who opens that directory as a project.
const GUARDED_IN_PACKAGES: &[&str] = &[".envrc", ".direnv"];
/// Directories that hold unpacked packages.
const PACKAGES: &[&str] = &["node_modules", "site-packages", "dist-packages"];
/// Files of a `.git` directory that name programs, or other places to read settings from.
const GIT_SETTINGS: &[&str] =
    &["config", "config.lock", "config.worktree", "config.worktree.lock", "commondir", "gitdir"];
/// Directories of a `.git` directory in which any name is possible and harmless: branches may be called `config`.
const GIT_NAMES: &[&str] = &["refs", "logs", "objects"];

/// Whether a confined command may not create, change, rename or remove `path` (relative to the workspace), because the
/// host later runs or trusts it. As [`host_trusted`], but git may do its work: of a `.git` directory only itself, its
/// hooks and its settings are guarded.
#[must_use]
pub fn guarded(path: &Path) -> bool {
    let parts = lower_parts(path);
    if let Some(at) = parts.iter().position(|part| part == ".git") {
        let inside = &parts[at + 1..];
        // One within another's is made to be moved, or linked to.
        if inside.iter().any(|part| part == ".git") {
            return true;
        }
        let Some(name) = inside.last() else { return true };
        return !inside.first().is_some_and(|first| GIT_NAMES.contains(&first.as_str()))
            && (inside.iter().any(|part| part == "hooks")
                || GIT_SETTINGS.contains(&name.as_str())
                || (inside.len() == 2 && inside[0] == "info" && name.starts_with("attributes")));
    }
    if packaged(path) {
        return parts.iter().any(|part| GUARDED_IN_PACKAGES.contains(&part.as_str()));
    }
    host_trusted(path)
}

/// Whether `path` lies where packages of others are unpacked. What is moved out of there is looked at no more, so a
/// directory must not be.
#[must_use]
pub fn packaged(path: &Path) -> bool {
    lower_parts(path).iter().any(|part| PACKAGES.contains(&part.as_str()))
}

/// Whether moving a directory to `path` could make what it holds [`guarded`]: the beginning of a rule with several
/// components, or a place in a `.git`.
#[must_use]
pub fn leads_to_guarded(path: &Path) -> bool {
    let parts = lower_parts(path);
    if let Some(at) = parts.iter().position(|part| part == ".git") {
        return !parts.get(at + 1).is_some_and(|first| GIT_NAMES.contains(&first.as_str()));
    }
    TRUSTED_PREFIXES
        .iter()
        .filter(|prefix| prefix.len() > 1)
        .any(|prefix| parts.last().is_some_and(|name| name == prefix[0]))
}

fn lower_parts(path: &Path) -> Vec<String> {
    path.iter().map(|part: &OsStr| String::from_utf8_lossy(part.as_bytes()).to_lowercase()).collect()
}
