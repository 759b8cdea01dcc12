//! Where Varvel's own files are.

use std::path::{Path, PathBuf};

use action::Root;

use crate::config::Config;
use crate::exit::Failure;

/// The places of one person.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    state: PathBuf,
    config: PathBuf,
}

impl Home {
    /// `$VARVEL_HOME`, else `$XDG_DATA_HOME/varvel`, else `~/.local/share/varvel`; and the configuration file.
    pub(crate) fn find() -> Result<Self, Failure> {
        let variable =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = variable("HOME");
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let state = variable("VARVEL_HOME").or_else(|| {
            variable("XDG_DATA_HOME").or_else(|| in_home(".local/share")).map(|data| data.join("varvel"))
        });
        let config = variable("XDG_CONFIG_HOME").or_else(|| in_home(".config"));
        match (state, config) {
            (Some(state), Some(config)) => Ok(Self { state, config: config.join("varvel/varvel.toml") }),
            _ => Err(Failure::usage(
                "there is no home directory: set HOME, or VARVEL_HOME and XDG_CONFIG_HOME",
            )),
        }
    }

    /// `$VARVEL_HOME`.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.state.join("ledger")
    }

    pub(crate) fn config_file(&self) -> &Path {
        &self.config
    }

    /// What a person allowed for good when asked, beside the configuration.
    pub(crate) fn network_file(&self) -> PathBuf {
        self.config.with_file_name("network.toml")
    }

    /// A person's own sandbox profiles.
    pub(crate) fn profiles(&self) -> PathBuf {
        self.config.with_file_name("profiles")
    }

    pub(crate) fn config(&self) -> Result<Config, Failure> {
        Config::read(&self.config)
    }

    /// Opens a workspace. It must not hold Varvel's own files, or an agent could change its record.
    pub(crate) fn workspace(&self, directory: &Path) -> Result<Root, Failure> {
        let root = Root::open(directory).map_err(Failure::usage)?;
        sandbox::check_workspace(&root).map_err(Failure::usage)?;
        for own in [self.state.as_path(), self.config.as_path()] {
            let real = nearest(own);
            if real.starts_with(root.path())
                || (own == self.state && root.path().starts_with(&real) && own.exists())
            {
                return Err(Failure::usage(format!(
                    "{} cannot be the workspace, because Varvel keeps its own files in {}; set VARVEL_HOME to a place outside",
                    root.path().display(),
                    own.display()
                )));
            }
        }
        Ok(root)
    }
}

/// The canonical form of the longest part of `path` that exists, with the rest appended.
fn nearest(path: &Path) -> PathBuf {
    let mut rest = Vec::new();
    let mut at = path;
    loop {
        if let Ok(real) = at.canonicalize() {
            return rest.iter().rev().fold(real, |path, part| path.join(part));
        }
        match (at.parent(), at.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name);
                at = parent;
            }
            _ => return path.to_owned(),
        }
    }
}

/// A path for people: `~` instead of the home directory.
pub(crate) fn short(path: &Path) -> String {
    let shown = action::printable(path);
    match std::env::var("HOME") {
        Ok(home) if !home.is_empty() && home != "/" => match shown.strip_prefix(&home) {
            Some("") => "~".to_owned(),
            Some(rest) if rest.starts_with('/') => format!("~{rest}"),
            _ => shown,
        },
        _ => shown,
    }
}
