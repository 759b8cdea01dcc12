//! Commands in the sandbox, with the proxy beside them: the one way in which agents and people run something.

use std::path::PathBuf;
use std::rc::Rc;

use action::{Command, Decision, Target, Verdict};
use egress::{NetworkReport, Proxy, ProxySettings, SessionCa};
use gate::{Authorized, Gate, Report, Usage};
use ledger::{Outcome, Status};
use policy::NetworkRules;
use sandbox::{
    CommandOutput, Controllers, Io, NetworkAccess, Profile, Profiles, SandboxError, Setup, StageDirs,
};

/// The profile of a command that has none of its own.
pub const DEFAULT_PROFILE: &str = "workspace";

/// Refused destinations that are named.
const SHOWN: usize = 10;

/// How commands of a session are confined.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    /// The profiles that there are.
    pub profiles: Profiles,
    /// The rules of the network; the gate's policy has the same.
    pub network: NetworkRules,
    /// Where the caches of profiles are kept.
    pub cache: Option<PathBuf>,
    /// Control groups that were seen to work.
    pub controllers: Controllers,
    /// Authority for inspected connections, when a rule inspects any.
    pub authority: Option<Rc<SessionCa>>,
    /// Most bytes that one command may move over the network.
    pub network_bytes: Option<u64>,
    /// Further files that commands see, read-only.
    pub visible: Vec<PathBuf>,
}

/// What came of a command.
#[derive(Debug)]
pub struct Ran {
    /// What it did here.
    pub command: CommandOutput,
    /// What it did on the network.
    pub network: NetworkReport,
}

impl Report for Ran {
    fn outcome(&self) -> Outcome {
        let outcome = self.command.outcome();
        let network = &self.network;
        if network.made == 0 && network.denied.is_empty() {
            return outcome;
        }
        outcome
            .with("connections", network.made)
            .with("connections_refused", network.denied.len() as u64 + network.more)
            .with("bytes_out", network.bytes_out)
            .with("bytes_in", network.bytes_in)
    }

    fn usage(&self) -> Usage {
        self.command.usage()
    }
}

impl Ran {
    /// What was refused, in lines for whoever ran it: what, why, and what to do instead.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.command.refused.is_empty() {
            let names = self.command.refused.join(", ");
            lines.push(format!(
                "refused (builtin.host-trusted-file): a command may not create or change {names}, because the host runs \
                 or trusts it later; the write and edit tools can, and ask a person"
            ));
        }
        for denied in self.network.denied.iter().take(SHOWN) {
            let hint = denied.hint.as_ref().filter(|hint| !denied.reason.contains(*hint));
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            lines.push(format!(
                "refused ({}): connecting to {}: {}{hint}",
                denied.rule, denied.destination, denied.reason
            ));
        }
        let more = self.network.denied.len().saturating_sub(SHOWN) as u64 + self.network.more;
        if more > 0 {
            lines.push(format!("refused: {more} more connections; `varvel audit log` shows each"));
        }
        lines
    }
}

/// The sandbox was not there, or the proxy was not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfinedError {
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The proxy.
    #[error("the proxy cannot be started, so nothing was run: {0}")]
    Proxy(#[source] std::io::Error),
}

impl Report for ConfinedError {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Failed).with("error", self.to_string())
    }
}

impl Confinement {
    /// A session's confinement; makes an authority when a rule needs one.
    ///
    /// # Errors
    /// If the authority cannot be made.
    pub fn with_authority(mut self) -> Result<Self, egress::CaError> {
        if self.network.inspects_anything() {
            self.authority = Some(Rc::new(SessionCa::new()?));
        }
        Ok(self)
    }

    /// The command as an action: with the profile that was named, else the one that is meant for it.
    ///
    /// # Errors
    /// If there is no such profile.
    pub fn command(
        &self,
        argv: Vec<String>,
        directory: Target,
        profile: Option<&str>,
        timeout: Option<std::time::Duration>,
    ) -> Result<Command, SandboxError> {
        let profile = match profile {
            Some(name) => self.profiles.named(name)?,
            None => self.chosen(&argv).map_or_else(|| self.profiles.named(DEFAULT_PROFILE), Ok)?,
        };
        let privileges = profile.privileges();
        Ok(Command { argv, directory, profile: profile.name, privileges, timeout })
    }

    /// The profile that is meant for a command, also when a shell starts it.
    fn chosen(&self, argv: &[String]) -> Option<Profile> {
        match argv {
            [shell, flag, line] if flag == "-c" && shell.ends_with("sh") => {
                self.profiles.for_command(&plain_words(line)?)
            }
            argv => self.profiles.for_command(argv),
        }
    }

    /// Runs an authorised command, with the proxy beside it when its profile has one. Its connections are actions of
    /// `gate`.
    ///
    /// # Errors
    /// If it could not be confined: then nothing ran.
    pub async fn run(
        &self,
        gate: &Gate,
        command: Authorized<Command>,
        io: Io<'_>,
        stage: Option<StageDirs>,
    ) -> Result<Ran, ConfinedError> {
        let profile = self.profiles.named(&command.action().profile)?;
        let doors = (profile.network == NetworkAccess::Proxy).then(|| sandbox::Doors {
            ports: self
                .network
                .ports()
                .into_iter()
                .chain(profile.ports.iter().copied())
                // These two are taken by the proxy itself.
                .filter(|port| !matches!(*port, sandbox::PROXY_PORT | 53))
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .collect(),
            ca_pem: self.authority.as_ref().map(|authority| authority.pem()),
        });
        let setup = Setup {
            io,
            profiles: self.profiles.clone(),
            doors,
            stage,
            visible: self.visible.clone(),
            cache: self.cache.clone(),
            controllers: self.controllers.clone(),
        };
        let mut running = sandbox::start(command, setup)?;
        let Some(listeners) = running.listeners() else {
            let command = running.finish().await?;
            return Ok(Ran { command, network: NetworkReport::default() });
        };
        let doors =
            egress::Doors { proxy: listeners.proxy, direct: listeners.direct, dns: Some(listeners.dns) };
        let mut settings = ProxySettings::new(self.network.clone());
        settings.ca = self.authority.clone();
        settings.max_bytes = self.network_bytes;
        if sandbox::is_cut("proxy-addresses") {
            settings.addresses = |_, _, _| Decision::new(Verdict::Allow, "cut", "this wall is left out");
        }
        let proxy = Proxy::new(gate, settings, doors).map_err(ConfinedError::Proxy)?;
        let command = proxy.beside(running.finish()).await?;
        Ok(Ran { command, network: proxy.report() })
    }
}

/// The words of a shell line that has nothing but words: no variable, no quote, no second command. Of any other line it
/// is not said here what it runs.
fn plain_words(line: &str) -> Option<Vec<String>> {
    let plain = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, ' ' | '-' | '_' | '.' | '/' | '=' | ':' | '@' | '+' | ',' | '%')
    };
    if !line.chars().all(plain) {
        return None;
    }
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    // NAME=value before the command would change what it does.
    words.first().filter(|first| !first.contains('='))?;
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_lines_choose_a_profile() {
        let confinement = Confinement::default();
        let chosen = |line: &str| {
            let argv = ["/bin/sh", "-c", line].map(str::to_owned);
            confinement.chosen(&argv).map(|profile| profile.name)
        };
        assert_eq!(chosen("cargo build --release").as_deref(), Some("cargo"));
        for line in [
            "cargo build; curl x",
            "cargo build && x",
            "cargo build $(x)",
            "X=1 cargo build",
            "cargo build > x",
            "cargo build\nx",
            "\"cargo\" build",
            "",
        ] {
            assert_eq!(chosen(line), None, "{line:?}");
        }
    }
}
