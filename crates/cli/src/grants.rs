//! What a person allowed for good: `network.toml` beside the configuration, a file that they can read and change.

use std::path::Path;

use policy::{NetworkConfig, NetworkRules};
use workspace::StateFile;

use crate::config;
use crate::exit::Failure;

/// First lines of the file.
const HEADING: &str = "\
# Where confined commands may connect to: what you allowed for good when Varvel asked, or with `varvel network allow`.
# You can change it. Rules are explained in the manual under \"Rules of the network\".
";

/// The file; an absent one is empty.
pub(crate) fn read(path: &Path) -> Result<NetworkConfig, Failure> {
    let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    match config::read(path).map_err(|error| failed(error.to_string()))? {
        Some(text) => toml::from_str(&text).map_err(|error| failed(error.to_string())),
        None => Ok(NetworkConfig::default()),
    }
}

/// A list of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    /// What may be connected to.
    Allow,
    /// Hosts that may have private addresses.
    Private,
    /// Hosts whose encrypted connections are opened.
    Inspect,
}

impl List {
    fn of(self, all: &mut NetworkConfig) -> &mut Vec<String> {
        match self {
            Self::Allow => &mut all.allow,
            Self::Private => &mut all.private,
            Self::Inspect => &mut all.inspect,
        }
    }
}

/// Allows a destination. Returns whether it was new.
pub(crate) fn allow(path: &Path, rule: &str) -> Result<bool, Failure> {
    add(path, rule, &[List::Allow])
}

/// Adds a rule to some lists. Returns whether it was new to any.
pub(crate) fn add(path: &Path, rule: &str, lists: &[List]) -> Result<bool, Failure> {
    let mut all = read(path)?;
    let before = all.clone();
    for list in lists {
        let rules = list.of(&mut all);
        if !rules.iter().any(|known| known == rule) {
            rules.push(rule.to_owned());
        }
    }
    if all == before {
        return Ok(false);
    }
    // What does not parse must not be in the file.
    NetworkRules::from_config(&all, "the rule").map_err(Failure::usage)?;
    write(path, &all)?;
    Ok(true)
}

/// Removes a rule from all lists. Returns whether it was there.
pub(crate) fn forget(path: &Path, rule: &str) -> Result<bool, Failure> {
    let mut all = read(path)?;
    let before = all.clone();
    for list in [List::Allow, List::Private, List::Inspect] {
        list.of(&mut all).retain(|known| known != rule);
    }
    if all == before {
        return Ok(false);
    }
    write(path, &all)?;
    Ok(true)
}

fn write(path: &Path, all: &NetworkConfig) -> Result<(), Failure> {
    let failed = |error: String| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let text = toml::to_string_pretty(all).map_err(|error| failed(error.to_string()))?;
    if let Some(parent) = path.parent() {
        workspace::create_private_dir(parent).map_err(|error| failed(error.to_string()))?;
    }
    StateFile::write(path, format!("{HEADING}{text}").as_bytes()).map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_kept_once_and_can_be_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("varvel/network.toml");
        assert!(allow(&file, "example.org:443").is_ok_and(|new| new));
        assert!(allow(&file, "example.org:443").is_ok_and(|new| !new));
        assert!(allow(&file, "not a rule ::").is_err());
        assert_eq!(read(&file).unwrap().allow, ["example.org:443"]);
        assert!(forget(&file, "example.org:443").is_ok_and(|there| there));
        assert!(read(&file).unwrap().allow.is_empty());
    }
}
