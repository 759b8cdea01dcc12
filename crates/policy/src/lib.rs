//! Rules: what an agent may do without asking, must ask for, or may not do.
//!
//! Two layers, combined so that the stricter wins: the autonomy level that the person chose, and built-in
//! protections for secrets and for files that the host later runs or trusts. Connections of commands are decided
//! by the rules of the network. The decision names its rule.

pub mod network;
mod protected;

use std::path::Path;

use action::{Action, Actor, Autonomy, Commit, Decision, Reach, Verdict};

pub use network::{
    AddressClass, NetworkConfig, NetworkPattern, NetworkRule, NetworkRuleError, NetworkRules, classify,
};
pub use protected::{guarded, host_trusted, is_secret, leads_to_guarded, packaged};

/// Name of the agent when a person typed the action themselves (`varvel exec`, `varvel model pull`).
pub const BY_HAND: &str = "person";

/// The sandbox profile that shares the machine's network: for package downloads that a person asked for.
pub const DOWNLOAD_PROFILE: &str = "download";

/// The rules in force for one session.
#[derive(Debug, Clone)]
pub struct Policy {
    level: Autonomy,
    network: NetworkRules,
}

impl Policy {
    /// The rules of an autonomy level. No rule of the network: every connection asks.
    #[must_use]
    pub fn new(level: Autonomy) -> Self {
        Self { level, network: NetworkRules::default() }
    }

    /// The same with rules of the network.
    #[must_use]
    pub fn with_network(self, network: NetworkRules) -> Self {
        Self { network, ..self }
    }

    /// The rules of the network.
    #[must_use]
    pub fn network(&self) -> &NetworkRules {
        &self.network
    }

    /// The autonomy level.
    #[must_use]
    pub fn level(&self) -> Autonomy {
        self.level
    }

    /// Decides on a normalised action.
    pub fn decide(&self, actor: &Actor, action: &Action) -> Decision {
        if let Action::Connect(connect) = action {
            // Whoever starts a command has not thereby allowed what it connects to.
            let decision = self.network.decide(connect);
            return match self.level {
                Autonomy::Observe if actor.agent != BY_HAND => decision.stricter(Decision::new(
                    Verdict::Deny,
                    "level.observe.network",
                    "the observe level only reads; commands connect to nothing",
                )),
                _ => decision,
            };
        }
        if actor.agent == BY_HAND {
            return Decision::new(Verdict::Allow, "person.by-hand", "a person started it directly");
        }
        protection(action).into_iter().fold(self.by_level(action), Decision::stricter)
    }

    fn by_level(&self, action: &Action) -> Decision {
        use Autonomy::{Ask, Auto, Edit, Observe};
        let (kind, verdict) = match (action, self.level) {
            (Action::FileRead(_) | Action::FileList(_) | Action::FileSearch(_), _) => {
                ("read", Verdict::Allow)
            }
            (Action::ModelCall(call), _) => (
                match call.reach {
                    Reach::Embedded => "model.embedded",
                    Reach::Server(_) => "model.configured",
                },
                Verdict::Allow,
            ),
            (Action::FileWrite(_), Auto | Edit) => ("write", Verdict::Allow),
            (Action::FileWrite(_), Ask) => ("write", Verdict::Ask),
            (Action::Commit(_), Auto | Edit) => ("commit", Verdict::Allow),
            (Action::Commit(_), Ask) => ("commit", Verdict::Ask),
            (Action::FileDelete(_), Auto) => ("delete", Verdict::Allow),
            (Action::FileDelete(_), Edit | Ask) => ("delete", Verdict::Ask),
            (Action::Command(_), Auto) => ("command", Verdict::Allow),
            (Action::Command(_), Edit | Ask) => ("command", Verdict::Ask),
            (
                Action::FileWrite(_) | Action::FileDelete(_) | Action::Commit(_) | Action::Command(_),
                Observe,
            ) => ("change", Verdict::Deny),
            // An agent has no network of its own; new kinds of action start closed.
            (Action::Network(_), _) => ("network", Verdict::Deny),
            _ => ("unknown", Verdict::Deny),
        };
        let level = self.level;
        let reason = match (verdict, kind) {
            (Verdict::Allow, _) => format!("the {level} level allows it"),
            (Verdict::Ask, _) => {
                format!("the {level} level asks before this; `--mode auto` does it in the sandbox")
            }
            (Verdict::Deny, "network") => "an agent may not use the network".to_owned(),
            (Verdict::Deny, "change") => {
                "the observe level only reads; `--mode edit` or `--mode auto` may change files".to_owned()
            }
            (Verdict::Deny, _) => "no rule allows this kind of action".to_owned(),
        };
        Decision::new(verdict, format!("level.{level}.{kind}"), reason)
    }
}

/// What no level switches off.
fn protection(action: &Action) -> Option<Decision> {
    let (path, changes) = match action {
        Action::Command(a) if a.profile == DOWNLOAD_PROFILE => {
            let reason = "this profile has the machine's network; only a person can use it";
            return Some(Decision::new(Verdict::Deny, "builtin.network-profile", reason));
        }
        Action::Command(a) if !a.privileges.is_empty() => {
            let reason =
                format!("the command would get what others do not have: {}", a.privileges.join(", "));
            return Some(Decision::new(Verdict::Ask, "builtin.privilege", reason));
        }
        Action::Commit(a) => return protection_of_commit(a),
        Action::FileRead(a) => (&a.path, false),
        Action::FileWrite(a) => (&a.path, true),
        Action::FileDelete(a) => (&a.path, true),
        _ => return None,
    };
    if is_secret(path.path()) {
        let what = if changes { "changing" } else { "reading" };
        let reason = format!("{} looks like a file of secrets; {what} it needs a person", path.display());
        return Some(Decision::new(Verdict::Ask, "builtin.secret-file", reason));
    }
    if changes && host_trusted(path.path()) {
        let reason = format!(
            "{} is run or trusted outside the sandbox (hooks, editor tasks, agent instructions, CI); \
             a change needs a person",
            path.display()
        );
        return Some(Decision::new(Verdict::Ask, "builtin.host-trusted-file", reason));
    }
    None
}

/// Staged changes are protected like single writes.
fn protection_of_commit(commit: &Commit) -> Option<Decision> {
    let mut changes = commit.changes.iter();
    let trusted = |path: &str, flag: bool| flag || host_trusted(Path::new(path));
    if let Some(change) = changes.clone().find(|change| trusted(&change.path, change.host_trusted)) {
        let reason = format!(
            "{} is run or trusted outside the sandbox (hooks, editor tasks, agent instructions, CI); \
             a change needs a person",
            change.path
        );
        return Some(Decision::new(Verdict::Ask, "builtin.host-trusted-file", reason));
    }
    let secret = changes.find(|change| is_secret(Path::new(&change.path)))?;
    let reason = format!("{} looks like a file of secrets; changing it needs a person", secret.path);
    Some(Decision::new(Verdict::Ask, "builtin.secret-file", reason))
}

#[cfg(test)]
mod tests;
