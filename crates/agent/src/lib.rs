//! The loop: a session starts fresh, asks the model, takes tool calls through the gate, feeds results back, and
//! stops when the model is done or a limit is reached.
//!
//! For small models there is a second strategy, [`repair`]: the program, not the model, gathers the context.

mod compact;
mod event;
mod prompt;
pub mod repair;
mod session;
mod summary;

pub use event::{AgentEvent, Events};
pub use prompt::instructions;
pub use session::{AgentError, Options, Session, StopCause};
pub use summary::Summary;
