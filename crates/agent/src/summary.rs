//! The short trail at the end of a session.

use serde::Serialize;
use tools::Note;

/// What a session did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Files written, once each, in order.
    pub changed: Vec<String>,
    /// Files deleted.
    pub deleted: Vec<String>,
    /// Commands with their exit status.
    pub commands: Vec<(String, i32)>,
    /// What was refused, with the rule.
    pub refused: Vec<Refusal>,
}

/// Something that was refused.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    /// What.
    pub action: String,
    /// The rule.
    pub rule: String,
    /// Why, and what to do about it.
    pub reason: String,
    /// Whether a person would have had to be asked and nobody was there.
    pub unanswered: bool,
}

impl Summary {
    /// Takes note of what a tool did.
    pub fn add(&mut self, note: Note) {
        match note {
            Note::Changed(change) => {
                self.deleted.retain(|path| *path != change.path);
                if !self.changed.contains(&change.path) {
                    self.changed.push(change.path);
                }
            }
            Note::Deleted(deleted) => {
                self.changed.retain(|path| *path != deleted.path);
                self.deleted.push(deleted.path);
            }
            Note::Ran { command, code } => self.commands.push((command, code)),
            Note::Refused { what, decision, unanswered } => {
                self.refused.push(Refusal {
                    action: what,
                    rule: decision.rule,
                    reason: decision.reason,
                    unanswered,
                });
            }
        }
    }
}
