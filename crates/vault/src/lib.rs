//! Credentials. They are kept apart from configuration, held in memory that is wiped, and handed only to the client
//! that sends them. Tools and commands never see them: a child's environment is built from an allow-list.
//!
//! A key is taken from `VARVEL_API_KEY`, or from a variable that the person's own configuration names, or from a
//! file of mode 0600 in `$VARVEL_HOME/vault/`. Vendors' own variables are not read: a key that happens to be set
//! must not turn a cloud model on.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use zeroize::Zeroizing;

pub use secrecy::{ExposeSecret, SecretString as Secret};

/// The variable that may hold a key for the chosen provider.
pub const KEY_VARIABLE: &str = "VARVEL_API_KEY";
/// Longest credential, in bytes.
const MAX_SECRET: u64 = 64 * 1024;

/// Why a credential could not be had or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// Not a possible name.
    #[error("{name:?} cannot be the name of a credential: use letters, digits, '-', '_' and '.'")]
    Name {
        /// As it was given.
        name: String,
    },
    /// Empty, too long, or with characters that cannot be sent.
    #[error("the credential is {0}")]
    Value(&'static str),
    /// Others can read the file.
    #[error("{path} can be read by others; run: chmod 600 {path}", path = .0.display())]
    Permissions(PathBuf),
    /// The file system refused.
    #[error("cannot {what} the credential in {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The credentials of one person.
#[derive(Debug, Clone)]
pub struct Vault {
    directory: PathBuf,
}

impl Vault {
    /// The vault in `$VARVEL_HOME`.
    #[must_use]
    pub fn new(home: &Path) -> Self {
        Self { directory: home.join("vault") }
    }

    /// The key for `provider`: the first of `VARVEL_API_KEY`, the variable `configured` by the person, the vault.
    ///
    /// # Errors
    /// If a key is there but cannot be used.
    pub fn key(&self, provider: &str, configured: Option<&str>) -> Result<Option<SecretString>, VaultError> {
        for variable in [Some(KEY_VARIABLE), configured].into_iter().flatten() {
            if let Ok(value) = std::env::var(variable) {
                return usable(Zeroizing::new(value)).map(Some);
            }
        }
        self.get(provider)
    }

    /// The credential called `name`, if there is one.
    ///
    /// # Errors
    /// If others can read the file, or it cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<SecretString>, VaultError> {
        let path = self.path(name)?;
        let failed = |source| VaultError::Io { what: "read", path: path.clone(), source };
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if metadata.mode() & 0o077 != 0 || !metadata.is_file() {
            return Err(VaultError::Permissions(path));
        }
        if metadata.len() > MAX_SECRET {
            return Err(VaultError::Value("longer than 64 kB"));
        }
        usable(Zeroizing::new(fs::read_to_string(&path).map_err(failed)?)).map(Some)
    }

    /// Keeps a credential under `name`, replacing an older one.
    ///
    /// # Errors
    /// If it is unusable or cannot be stored.
    pub fn set(&self, name: &str, value: Zeroizing<String>) -> Result<(), VaultError> {
        let path = self.path(name)?;
        let value = usable(value)?;
        let failed = |source| VaultError::Io { what: "store", path: path.clone(), source };
        workspace::create_private_dir(&self.directory).map_err(failed)?;
        workspace::StateFile::write(&path, value.expose_secret().as_bytes()).map_err(failed)
    }

    /// Forgets a credential. `false` if there was none.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, VaultError> {
        let path = self.path(name)?;
        match workspace::remove_state(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(VaultError::Io { what: "remove", path, source }),
        }
    }

    /// Names of the credentials, sorted. Never the values.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn names(&self) -> Result<Vec<String>, VaultError> {
        let failed = |source| VaultError::Io { what: "list", path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<_>>>().map_err(failed)?;
        names.retain(|name| !name.ends_with(".part"));
        names.sort();
        Ok(names)
    }

    fn path(&self, name: &str) -> Result<PathBuf, VaultError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(allowed) {
            return Err(VaultError::Name { name: name.to_owned() });
        }
        Ok(self.directory.join(name))
    }
}

/// A credential without surrounding white space, if it can be sent in a header.
fn usable(value: Zeroizing<String>) -> Result<SecretString, VaultError> {
    let trimmed = value.trim();
    if trimmed.is_empty() {
        return Err(VaultError::Value("empty"));
    }
    if trimmed.len() as u64 > MAX_SECRET {
        return Err(VaultError::Value("longer than 64 kB"));
    }
    if !trimmed.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(VaultError::Value("not made of printable ASCII characters only"));
    }
    Ok(SecretString::from(trimmed.to_owned()))
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests prepare files")]
mod tests {
    use super::*;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn keeps_lists_and_forgets() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path());
        assert!(vault.get("openai").unwrap().is_none());
        vault.set("openai", secret(" key-1\n")).unwrap();
        assert_eq!(vault.get("openai").unwrap().unwrap().expose_secret(), "key-1");
        assert_eq!(vault.names().unwrap(), ["openai"]);
        let mode = fs::metadata(dir.path().join("vault/openai")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(vault.remove("openai").unwrap());
        assert!(!vault.remove("openai").unwrap());
    }

    #[test]
    fn refuses_what_is_unsafe() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path());
        for name in ["../x", "", "a/b", ".hidden", "a b"] {
            assert!(matches!(vault.set(name, secret("k")), Err(VaultError::Name { .. })), "{name}");
        }
        for value in ["", " \n", "a\nb", "caf\u{e9}"] {
            assert!(matches!(vault.set("k", secret(value)), Err(VaultError::Value(_))), "{value:?}");
        }
        vault.set("k", secret("v")).unwrap();
        let path = dir.path().join("vault/k");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = vault.get("k").unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_secret_does_not_print() {
        assert!(!format!("{:?}", usable(secret("hunter2")).unwrap()).contains("hunter2"));
    }
}
