//! What the network was used for, and what was refused: for the person, after the command.

use action::{Decision, Destination};
use policy::network::remedy;

/// Most different refusals that are kept.
const MAX_DENIED: usize = 100;

/// A destination that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Where.
    pub destination: Destination,
    /// The rule that refused it.
    pub rule: String,
    /// Why, in a sentence.
    pub reason: String,
    /// What to write to allow it, where something is meant to help.
    pub hint: Option<String>,
    /// How often.
    pub times: u64,
}

/// What became of a command's connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkReport {
    /// What was refused, each destination and rule once, in the order it came; at most 100.
    pub denied: Vec<Denied>,
    /// Refusals beyond those.
    pub more: u64,
    /// Connections and requests that were made.
    pub made: u64,
    /// Bytes sent to the outside.
    pub bytes_out: u64,
    /// Bytes received from there.
    pub bytes_in: u64,
}

impl NetworkReport {
    /// All refusals so far.
    pub(super) fn refusals(&self) -> u64 {
        self.denied.iter().map(|denied| denied.times).sum::<u64>() + self.more
    }

    pub(super) fn deny(&mut self, at: &Destination, decision: &Decision) {
        let same = |denied: &&mut Denied| denied.destination == *at && denied.rule == decision.rule;
        if let Some(known) = self.denied.iter_mut().find(same) {
            known.times += 1;
        } else if self.denied.len() < MAX_DENIED {
            self.denied.push(Denied {
                destination: at.clone(),
                rule: decision.rule.clone(),
                reason: decision.reason.clone(),
                hint: remedy(&decision.rule, at),
                times: 1,
            });
        } else {
            self.more += 1;
        }
    }
}
