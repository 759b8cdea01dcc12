//! The tools of one session.

use action::{Decision, ResolveError, Root, Target};
use gate::{Gate, GateError, Report};
use ledger::LedgerError;
use redact::{Clean, Redactor, RestoreError, Source};
use serde_json::Value;
use workspace::{Change, Deleted};

use crate::confined::Confinement;

/// Sees what the tools do while they do it.
pub trait Observer {
    /// A command printed this (not looked at for secrets: for the person's own terminal only).
    fn output(&mut self, bytes: &[u8]);
}

/// Something worth remembering for the summary at the end.
#[derive(Debug, Clone)]
pub enum Note {
    /// A file was written.
    Changed(Change),
    /// A file was deleted.
    Deleted(Deleted),
    /// A command ran.
    Ran {
        /// The shell line.
        command: String,
        /// Its exit status.
        code: i32,
    },
    /// Something was refused.
    Refused {
        /// What.
        what: String,
        /// Which rule, and why.
        decision: Decision,
        /// Whether somebody would have had to be asked and nobody was there.
        unanswered: bool,
    },
}

/// What a tool call came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The text for the model.
    pub text: Clean,
    /// Whether it did what was asked.
    pub ok: bool,
    /// What is worth remembering.
    pub note: Option<Note>,
    /// One line for the person.
    pub brief: String,
}

/// Why a tool call did not work, before it is put into words.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The session must end: nothing can be recorded any more.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The model is told, and goes on.
    #[error("{0}")]
    Told(String),
    /// A rule or a person refused it; the model is told, and goes on.
    #[error("{message}")]
    Refused {
        /// For the model.
        message: String,
        /// What was refused.
        what: String,
        /// Which rule, and why.
        decision: Decision,
        /// Whether nobody was there to be asked.
        unanswered: bool,
    },
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        Self::Told(error.to_string())
    }
}

impl Failure {
    /// Puts a gate's error into words for the model.
    pub(crate) fn from_gate<E: Report + std::fmt::Display>(what: String, error: GateError<E>) -> Self {
        match error {
            GateError::Ledger(error) => Self::Ledger(error),
            GateError::Refused { decision, by_person } => {
                let who = if by_person { "the person refused this" } else { "this is not allowed" };
                let message = format!("{who} ({}): {}. Do not try it again.", decision.rule, decision.reason);
                Self::Refused { message, what, decision, unanswered: false }
            }
            GateError::Unanswered { decision } => {
                let message = format!(
                    "this needs a person's approval ({}), and nobody is there to give it. Do not try it again.",
                    decision.rule
                );
                Self::Refused { message, what, decision, unanswered: true }
            }
            GateError::Failed(error) => Self::Told(error.to_string()),
            other => Self::Told(other.to_string()),
        }
    }
}

/// The tools of one session.
pub struct Toolbox<'a> {
    pub(crate) root: &'a Root,
    pub(crate) gate: &'a Gate,
    pub(crate) redactor: &'a Redactor,
    pub(crate) confinement: &'a Confinement,
    /// Bytes of tool output that a model gets at most.
    pub(crate) limit: usize,
}

impl<'a> Toolbox<'a> {
    /// Tools for the workspace `root`. `limit` is the most text in bytes that one result may have.
    #[must_use]
    pub fn new(
        root: &'a Root,
        gate: &'a Gate,
        redactor: &'a Redactor,
        confinement: &'a Confinement,
        limit: usize,
    ) -> Self {
        Self { root, gate, redactor, confinement, limit }
    }

    /// Calls the tool `name`. What goes wrong is told to the model.
    ///
    /// # Errors
    /// Only if the ledger fails: then nothing more may be done.
    pub async fn call(
        &self,
        name: &str,
        arguments: &Value,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, LedgerError> {
        let result = match name {
            "list" => self.list(arguments).await,
            "read" => self.read(arguments).await,
            "search" => self.search(arguments).await,
            "edit" => self.edit(arguments).await,
            "write" => self.write(arguments).await,
            "delete" => self.delete(arguments).await,
            "run" => self.run(arguments, observer).await,
            _ => {
                let known: Vec<_> = crate::specs().iter().map(|spec| spec.name).collect();
                Err(Failure::Told(format!("there is no tool {name:?}; there are: {}", known.join(", "))))
            }
        };
        match result {
            Ok(outcome) => Ok(outcome),
            Err(Failure::Ledger(error)) => Err(error),
            Err(Failure::Told(message)) => Ok(self.failed(&message, None)),
            Err(Failure::Refused { message, what, decision, unanswered }) => {
                Ok(self.failed(&message, Some(Note::Refused { what, decision, unanswered })))
            }
        }
    }

    /// What the call would do, in a few words, for the person.
    #[must_use]
    pub fn describe(name: &str, arguments: &Value) -> String {
        let text = |key: &str| arguments.get(key).and_then(Value::as_str).unwrap_or_default();
        let subject = match name {
            "run" => text("command"),
            "search" => text("pattern"),
            _ => text("path"),
        };
        let mut line: String =
            subject.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect();
        if line.len() < subject.len() {
            line.push('\u{2026}');
        }
        format!("{name} {line}").trim_end().to_owned()
    }

    fn failed(&self, message: &str, note: Option<Note>) -> Outcome {
        let brief = message.lines().next().unwrap_or_default().to_owned();
        Outcome {
            text: self.redactor.clean(&format!("Error: {message}"), Source::Other),
            ok: false,
            note,
            brief,
        }
    }

    /// A good result: `text` comes from `source`.
    pub(crate) fn done(&self, text: &str, source: Source<'_>, brief: String, note: Option<Note>) -> Outcome {
        Outcome { text: self.redactor.clean(text, source), ok: true, note, brief }
    }

    /// The object at `path`, which exists.
    pub(crate) fn target(&self, path: &str) -> Result<Target, Failure> {
        self.root.resolve(path).map_err(|error| self.unresolved(path, &error))
    }

    /// The object at `path`, which may be new.
    pub(crate) fn target_or_new(&self, path: &str) -> Result<Target, Failure> {
        self.root.resolve_or_new(path).map_err(|error| self.unresolved(path, &error))
    }

    fn unresolved(&self, path: &str, error: &ResolveError) -> Failure {
        if matches!(error, ResolveError::Outside { .. })
            && let Err(error) = self.gate.refuse_outside(path)
        {
            return Failure::Ledger(error);
        }
        Failure::Told(error.to_string())
    }
}

/// `text` cut to `limit` bytes at a line's end where there is one, and whether it was cut.
pub(crate) fn clip(text: &str, limit: usize) -> (&str, bool) {
    if text.len() <= limit {
        return (text, false);
    }
    let mut end = limit;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let end = text[..end].rfind('\n').map_or(end, |at| at + 1);
    (&text[..end], true)
}
