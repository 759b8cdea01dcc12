//! Models behind one trait: cloud providers, servers that speak a known protocol, and the embedded one.
//!
//! A request is made of [`redact::Clean`] text, so what was not looked at for secrets cannot be sent; and
//! completing one takes an `Authorized<ModelCall>`.

mod catalog;
mod embedded;
mod error;
mod grammar;
mod price;
mod provider;
mod remote;
mod types;
mod weights;

pub use catalog::{Endpoint, Provider, provider, providers};
pub use embedded::{Embedded, EmbeddedConfig};
pub use error::LlmError;
pub use price::Price;
pub use remote::{Remote, RemoteConfig};
pub use types::{
    ChatRequest, Completing, Event, Message, Model, ModelInfo, Reply, StopReason, TokenUsage, ToolCall,
    ToolSpec,
};
pub use weights::{Chunk, Weights, default_weights, named as weights_named, weights};
