//! The person's configuration: `$XDG_CONFIG_HOME/varvel/varvel.toml`. Nothing in a workspace is read for this.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use action::Autonomy;
use llm::Price;
use policy::NetworkConfig;
use serde::Deserialize;

use crate::exit::Failure;

/// Longest configuration file, in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// What a person can set.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The provider used when none is named.
    pub(crate) provider: Option<String>,
    /// The autonomy level used when none is named.
    pub(crate) mode: Option<Autonomy>,
    /// Settings of each provider.
    pub(crate) providers: BTreeMap<String, ProviderConfig>,
    /// US dollars for a million tokens, by model.
    pub(crate) prices: BTreeMap<String, Price>,
    /// Where confined commands may connect to.
    pub(crate) network: NetworkConfig,
}

/// Settings of one provider.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProviderConfig {
    /// Its address.
    pub(crate) base_url: Option<String>,
    /// The model used when none is named.
    pub(crate) model: Option<String>,
    /// The environment variable that holds the key.
    pub(crate) key_env: Option<String>,
    /// Context window in tokens.
    pub(crate) context_tokens: Option<u64>,
}

impl Config {
    /// Reads the file; an absent one is empty.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()));
        match read(path).map_err(|error| failed(error.to_string()))? {
            Some(text) => Self::parse(&text).map_err(failed),
            None => Ok(Self::default()),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        for name in config.providers.keys() {
            llm::provider(name).map_err(|error| error.to_string())?;
        }
        Ok(config)
    }
}

/// A file of settings as text; `None` when there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_CONFIG + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 1 MB"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_names_mistakes() {
        let config = Config::parse(
            "provider = 'openai'\nmode = 'edit'\n[providers.openai]\nkey_env = 'MY_KEY'\n[prices.m]\ninput = 1.0\noutput = 2.0",
        )
        .unwrap();
        assert_eq!(config.mode, Some(Autonomy::Edit));
        assert_eq!(config.providers["openai"].key_env.as_deref(), Some("MY_KEY"));
        assert!(Config::parse("providr = 'x'").unwrap_err().contains("providr"));
        assert!(Config::parse("[providers.nope]").unwrap_err().contains("nope"));
    }
}
