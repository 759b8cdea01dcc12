//! Why a connection was not made or ended, for the ledger, for the client and for the person.

use std::net::SocketAddr;
use std::time::Duration;

use action::{Decision, Destination};
use gate::{GateError, Report};
use ledger::{Outcome, Status};

/// What went over a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic {
    pub(super) address: Option<SocketAddr>,
    pub(super) out: u64,
    pub(super) inward: u64,
    pub(super) time: Duration,
}

impl Traffic {
    fn add_to(&self, outcome: Outcome) -> Outcome {
        let ms = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        let outcome = outcome.with("bytes_out", self.out).with("bytes_in", self.inward).with("ms", ms);
        match self.address {
            Some(address) => outcome.with("address", address.to_string()),
            None => outcome,
        }
    }
}

/// A connection that was made and came to its end.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) traffic: Traffic,
    /// Status of the answer, where it was seen.
    pub(super) status: Option<u16>,
    /// Whether one side broke it off.
    pub(super) reset: bool,
}

impl Report for Carried {
    fn outcome(&self) -> Outcome {
        let mut outcome = Outcome::new(Status::Done);
        if let Some(status) = self.status {
            outcome = outcome.with("status", status);
        }
        if self.reset {
            outcome = outcome.with("reset", true);
        }
        self.traffic.add_to(outcome)
    }
}

/// What stopped a connection that the rules allowed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// Something that was found out after the decision; it is on record as refused.
    #[error("refused by {}: {}", .0.rule, .0.reason)]
    Refused(Decision),
    #[error("cannot find the address of {host}: {why}")]
    NoAddress { host: String, why: String },
    #[error("cannot connect to {at}: {why}")]
    Unreachable { at: String, why: String },
    #[error("no verified TLS connection to {at}: {why}")]
    Tls { at: String, why: String },
    #[error("{at} broke the connection or does not speak HTTP: {why}")]
    Broken { at: String, why: String },
    #[error("nothing was sent for too long")]
    Idle,
    #[error("the client went away")]
    Client,
    #[error("the command ended")]
    Ended,
    #[error("the refusal could not be recorded: {0}")]
    Unrecorded(String),
}

/// A stopped connection with what had gone over it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) stop: Stop,
    pub(super) traffic: Traffic,
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self { stop, traffic: Traffic::default() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stop.fmt(f)
    }
}

impl Report for Failure {
    fn outcome(&self) -> Outcome {
        let status = match self.stop {
            Stop::Ended | Stop::Client => Status::Stopped,
            _ => Status::Failed,
        };
        let outcome = Outcome::new(status).with("error", self.stop.to_string());
        let outcome = match &self.stop {
            Stop::Refused(decision) => outcome.with("rule", decision.rule.as_str()),
            _ => outcome,
        };
        self.traffic.add_to(outcome)
    }
}

/// What a client is told instead of being connected.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    /// The rule, where a rule said no.
    pub(super) rule: Option<String>,
    /// One line of text.
    pub(super) text: String,
}

impl Refusal {
    /// A rule or a person said no.
    pub(super) fn denied(at: &Destination, decision: &Decision) -> Self {
        let text = format!("varvel: connection to {at} refused ({}): {}", decision.rule, decision.reason);
        Self { status: 403, rule: Some(decision.rule.clone()), text }
    }

    /// The request makes no sense.
    pub(super) fn bad(text: impl std::fmt::Display) -> Self {
        Self { status: 400, rule: None, text: format!("varvel: {text}") }
    }

    pub(super) fn of(at: &Destination, error: &GateError<Failure>) -> Self {
        match error {
            GateError::Refused { decision, .. } => Self::denied(at, decision),
            GateError::Unanswered { decision } => {
                let mut refusal = Self::denied(at, decision);
                refusal.text.push_str(" (nobody is there to be asked)");
                refusal
            }
            GateError::Failed(Failure { stop: Stop::Refused(decision), .. }) => Self::denied(at, decision),
            GateError::Failed(failure) => {
                let status = if matches!(failure.stop, Stop::Idle) { 504 } else { 502 };
                Self { status, rule: None, text: format!("varvel: {failure}") }
            }
            // A ledger that cannot be written, and whatever comes later: nothing happens.
            other => Self { status: 503, rule: None, text: format!("varvel: {other}") },
        }
    }

    /// The decision behind an error, where there is one.
    pub(super) fn decision(error: &GateError<Failure>) -> Option<&Decision> {
        match error {
            GateError::Refused { decision, .. } | GateError::Unanswered { decision } => Some(decision),
            GateError::Failed(Failure { stop: Stop::Refused(decision), .. }) => Some(decision),
            _ => None,
        }
    }
}
