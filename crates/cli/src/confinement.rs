//! How commands are confined, from what a person has set and typed: profiles, rules of the network, control groups.

use std::collections::BTreeMap;

use policy::{NetworkConfig, NetworkRules};
use sandbox::Profiles;
use tools::Confinement;

use crate::args::NetworkArgs;
use crate::commands::proof;
use crate::config::{self, Config};
use crate::exit::Failure;
use crate::home::Home;

/// Most profiles of one's own.
const MAX_PROFILES: usize = 200;

/// The confinement of one session.
pub(crate) fn confinement(home: &Home, config: &Config, args: &NetworkArgs) -> Result<Confinement, Failure> {
    let confinement = Confinement {
        profiles: profiles(home)?,
        network: network(home, config, args)?,
        cache: Some(home.state().join("cache")),
        controllers: proof::controllers(home),
        authority: None,
        network_bytes: args.max_network.map(|megabytes| megabytes.saturating_mul(1 << 20)),
        visible: Vec::new(),
    };
    confinement.with_authority().map_err(Failure::failed)
}

/// The built-in profiles and those in `profiles/` beside the configuration.
pub(crate) fn profiles(home: &Home) -> Result<Profiles, Failure> {
    let directory = home.profiles();
    let mut own = BTreeMap::new();
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Profiles::default()),
        Err(error) => return Err(Failure::usage(format!("{}: {error}", directory.display()))),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let (Some(name), true) =
            (path.file_stem(), path.extension().is_some_and(|extension| extension == "toml"))
        else {
            continue;
        };
        let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()));
        if own.len() == MAX_PROFILES {
            return Err(failed(format!("there are more than {MAX_PROFILES} profiles")));
        }
        let text = config::read(&path).map_err(|error| failed(error.to_string()))?.unwrap_or_default();
        own.insert(name.to_string_lossy().into_owned(), text);
    }
    Profiles::new(own).map_err(Failure::usage)
}

/// The rules of the configuration, those that were allowed for good, and those of the command line.
pub(crate) fn network(home: &Home, config: &Config, args: &NetworkArgs) -> Result<NetworkRules, Failure> {
    let source = |path: &std::path::Path| crate::home::short(path);
    let typed = NetworkConfig {
        allow: args.allow.clone(),
        private: args.allow_private.clone(),
        inspect: args.inspect.clone(),
        ..NetworkConfig::default()
    };
    let mut rules =
        NetworkRules::from_config(&config.network, &source(home.config_file())).map_err(Failure::usage)?;
    let file = home.network_file();
    rules.extend(
        NetworkRules::from_config(&crate::grants::read(&file)?, &source(&file)).map_err(Failure::usage)?,
    );
    rules.extend(NetworkRules::from_config(&typed, "the command line").map_err(Failure::usage)?);
    Ok(rules)
}
