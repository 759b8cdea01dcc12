//! Exit statuses, and failures with the status they lead to.

use gate::GateError;
use ledger::LedgerError;
use sandbox::SandboxError;
use tools::ConfinedError;
use workspace::StageError;

/// The exit status of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(i32);

impl Exit {
    /// Done.
    pub(crate) const DONE: Self = Self(0);
    /// Failed.
    pub(crate) const FAILED: Self = Self(1);
    /// Called wrongly, or configured wrongly.
    pub(crate) const USAGE: Self = Self(2);
    /// Stopped by policy, a limit, or an approval that nobody could give.
    pub(crate) const REFUSED: Self = Self(3);
    /// The model cannot be reached or used.
    pub(crate) const UNREACHABLE: Self = Self(4);

    /// Passed through from a command, or 128 + N for signal N.
    pub(crate) fn from_code(code: i32) -> Self {
        Self(code)
    }

    pub(crate) fn code(self) -> i32 {
        self.0
    }
}

/// Something that ends the program with a message.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn failed(message: impl std::fmt::Display) -> Self {
        Self { exit: Exit::FAILED, message: message.to_string() }
    }

    pub(crate) fn usage(message: impl std::fmt::Display) -> Self {
        Self { exit: Exit::USAGE, message: message.to_string() }
    }

    pub(crate) fn unreachable(message: impl std::fmt::Display) -> Self {
        Self { exit: Exit::UNREACHABLE, message: message.to_string() }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self::failed(error)
    }
}

impl From<GateError<ConfinedError>> for Failure {
    fn from(error: GateError<ConfinedError>) -> Self {
        match error {
            GateError::Failed(ConfinedError::Sandbox(error)) => GateError::Failed(error).into(),
            GateError::Refused { .. } | GateError::Unanswered { .. } => {
                Self { exit: Exit::REFUSED, message: error.to_string() }
            }
            other => Self::failed(other),
        }
    }
}

impl From<GateError<SandboxError>> for Failure {
    fn from(error: GateError<SandboxError>) -> Self {
        let exit = match &error {
            GateError::Refused { .. } | GateError::Unanswered { .. } => Exit::REFUSED,
            GateError::Failed(SandboxError::Exec { not_found: true, .. }) => Exit::from_code(127),
            GateError::Failed(SandboxError::Exec { .. }) => Exit::from_code(126),
            GateError::Failed(SandboxError::NoSuchProfile { .. } | SandboxError::Profile { .. }) => {
                Exit::USAGE
            }
            _ => Exit::FAILED,
        };
        Self { exit, message: error.to_string() }
    }
}

impl From<GateError<StageError>> for Failure {
    fn from(error: GateError<StageError>) -> Self {
        let exit = match &error {
            GateError::Refused { .. } | GateError::Unanswered { .. } => Exit::REFUSED,
            GateError::Failed(error) => return error_of_stage(error),
            _ => Exit::FAILED,
        };
        Self { exit, message: error.to_string() }
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        error_of_stage(&error)
    }
}

fn error_of_stage(error: &StageError) -> Failure {
    let exit = match error {
        StageError::NoSuchStage { .. } | StageError::OtherWorkspace { .. } => Exit::USAGE,
        StageError::Refused { .. } | StageError::Conflict { .. } | StageError::NotDecided { .. } => {
            Exit::REFUSED
        }
        _ => Exit::FAILED,
    };
    Failure { exit, message: error.to_string() }
}
