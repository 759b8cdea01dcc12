//! Rules: what an agent may do without asking, must ask for, or may not do.
//!
//! Two layers, combined so that the stricter wins: the autonomy level that the person chose, and built-in
//! protections for secrets and for files that the host later runs or trusts. The decision names its rule.

mod protected;

use action::{Action, Actor, Autonomy, Decision, Reach, Verdict};

pub use protected::{guarded, host_trusted, is_secret, leads_to_guarded, packaged};

/// Name of the agent when a person typed the action themselves (`varvel exec`, `varvel model pull`).
pub const BY_HAND: &str = "person";

/// The sandbox profile that shares the machine's network: for package downloads that a person asked for.
pub const DOWNLOAD_PROFILE: &str = "download";

/// The rules in force for one session.
#[derive(Debug, Clone)]
pub struct Policy {
    level: Autonomy,
}

impl Policy {
    /// The rules of an autonomy level.
    #[must_use]
    pub fn new(level: Autonomy) -> Self {
        Self { level }
    }

    /// The autonomy level.
    #[must_use]
    pub fn level(&self) -> Autonomy {
        self.level
    }

    /// Decides on a normalised action.
    pub fn decide(&self, actor: &Actor, action: &Action) -> Decision {
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
            (Action::FileDelete(_), Auto) => ("delete", Verdict::Allow),
            (Action::FileDelete(_), Edit | Ask) => ("delete", Verdict::Ask),
            (Action::Command(_), Auto) => ("command", Verdict::Allow),
            (Action::Command(_), Edit | Ask) => ("command", Verdict::Ask),
            (Action::FileWrite(_) | Action::FileDelete(_) | Action::Command(_), Observe) => {
                ("change", Verdict::Deny)
            }
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

#[cfg(test)]
mod tests;
