//! What a model can do. Each tool parses its arguments, builds an action, takes it through the gate, and turns the
//! result into text for the model: clean of secrets, bounded, and helpful when something went wrong.

mod args;
mod confined;
mod edit;
mod files;
mod run;
mod specs;
mod toolbox;

pub use confined::{ConfinedError, Confinement, DEFAULT_PROFILE, Ran};
pub use specs::specs;
pub use toolbox::{Failure, Note, Observer, Outcome, Toolbox};
