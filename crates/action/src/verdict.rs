//! Who acts, how freely, and what was decided.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Identifier of one session (a UUIDv7, RFC 9562, in its usual text form).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct SessionId(String);

impl SessionId {
    /// Wraps an identifier that is already unique.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who is behind an action. Recorded with every entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Actor {
    /// The operating-system user who started Varvel.
    pub person: String,
    /// What acts for that person: `person` itself (a command typed by hand), or an agent's name.
    pub agent: String,
    /// The session it belongs to.
    pub session: SessionId,
}

/// How much an agent may do without asking (`--mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Autonomy {
    /// Reads only; every change is denied.
    Observe,
    /// Reads freely; asks before every change and every command.
    Ask,
    /// Edits workspace files freely; asks before deleting and before commands.
    Edit,
    /// Does whatever policy allows inside the sandbox; what would be asked is denied when nobody is there.
    Auto,
}

impl fmt::Display for Autonomy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Ask => "ask",
            Self::Edit => "edit",
            Self::Auto => "auto",
        })
    }
}

/// The answer to "may this happen?". Orders `Allow < Ask < Deny`: combining keeps the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[must_use]
pub enum Verdict {
    /// It may.
    Allow,
    /// Only if a person says so.
    Ask,
    /// It may not.
    Deny,
}

/// A verdict with the rule that gave it, so that "why?" always has an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct Decision {
    /// Allow, ask or deny.
    pub verdict: Verdict,
    /// Stable name of the rule that decided, such as `level.edit.command`.
    pub rule: String,
    /// One sentence for a person, saying what to do about it where there is something to do.
    pub reason: String,
}

impl Decision {
    /// A decision by `rule`.
    pub fn new(verdict: Verdict, rule: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { verdict, rule: rule.into(), reason: reason.into() }
    }

    /// The stricter of the two; on equal verdicts the first, so that the earlier rule is named.
    pub fn stricter(self, other: Self) -> Self {
        if other.verdict > self.verdict { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_beats_ask_beats_allow() {
        let allow = Decision::new(Verdict::Allow, "a", "");
        let ask = Decision::new(Verdict::Ask, "b", "");
        let deny = Decision::new(Verdict::Deny, "c", "");
        assert_eq!(allow.clone().stricter(ask.clone()).rule, "b");
        assert_eq!(deny.clone().stricter(ask.clone()).rule, "c");
        assert_eq!(ask.clone().stricter(allow).rule, "b");
        assert_eq!(ask.stricter(deny).rule, "c");
    }
}
