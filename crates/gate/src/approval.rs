//! Asking a person, and remembering for the session what they said.

use std::future::Future;
use std::pin::Pin;

use action::{Action, Decision};

/// What a person is asked.
#[derive(Debug)]
pub struct Question<'a> {
    /// What would be done.
    pub action: &'a Action,
    /// Which rule asks, and why.
    pub decision: &'a Decision,
}

/// What they said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Yes, this time.
    Once,
    /// Yes, and the same action again during this session.
    Session,
    /// Yes, and from now on. Whoever was asked has written the rule down before answering; for the rest of this
    /// session it counts like [`Answer::Session`].
    Always,
    /// No; perhaps with a word for the agent about what to do instead.
    No {
        /// Passed on to the agent.
        instead: Option<String>,
    },
    /// Nobody is there to be asked.
    Nobody,
}

/// Somebody who can be asked. An agent never is.
pub trait Approver {
    /// Asks and waits for the answer.
    fn ask<'a>(&'a self, question: Question<'a>) -> Pin<Box<dyn Future<Output = Answer> + 'a>>;
}

/// Nobody: every question goes unanswered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Approver for Nobody {
    fn ask<'a>(&'a self, _: Question<'a>) -> Pin<Box<dyn Future<Output = Answer> + 'a>> {
        Box::pin(std::future::ready(Answer::Nobody))
    }
}

/// What an answer is remembered for: exactly this command, changes to exactly this file, connections to exactly
/// this host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    rule: String,
    what: String,
}

impl Grant {
    pub(crate) fn covering(action: &Action, decision: &Decision) -> Option<Self> {
        let what = match action {
            Action::Command(a) => {
                format!("command {:?} in {} as {}", a.argv, a.directory.display(), a.profile)
            }
            Action::FileRead(a) => format!("read {}", a.path.display()),
            Action::FileWrite(a) => format!("write {}", a.path.display()),
            Action::FileDelete(a) => format!("delete {}", a.path.display()),
            Action::Connect(a) => format!("connect {}", a.destination),
            // What a stage holds is never the same twice.
            Action::Commit(_) => return None,
            _ => return None,
        };
        Some(Self { rule: decision.rule.clone(), what })
    }
}
