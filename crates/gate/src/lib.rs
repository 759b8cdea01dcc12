//! The gate: the one way for an action to become an effect.
//!
//! [`Gate::perform`] is the whole pipeline on one page. It alone makes an [`Authorized`], and every executor takes
//! an `Authorized` by value, so "no effect bypasses the gate" is checked by the compiler.

mod approval;
mod limits;
mod pipeline;
mod turn;

pub use approval::{Answer, Approver, Nobody, Question};
pub use limits::{Limits, Usage};
pub use pipeline::{Authorized, Gate, GateError, Report};

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests prepare files")]
mod tests;
