//! The vocabulary of a conversation with a model.

use std::future::Future;
use std::pin::Pin;

use action::{Digest, ModelCall, Reach};
use gate::{Authorized, Report, Usage};
use ledger::{Outcome, Status};
use redact::Clean;
use serde_json::Value;

use crate::{LlmError, Price};

/// A tool that the model may call.
#[derive(Debug, Clone)]
pub struct ToolSpec {
    /// Its name.
    pub name: &'static str,
    /// What it does, for the model.
    pub description: &'static str,
    /// JSON Schema of its arguments: one object.
    pub parameters: Value,
}

/// A call that the model made.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The provider's identifier, to be repeated with the result.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// Its arguments; a JSON string when what the model wrote was not JSON.
    pub arguments: Value,
    /// Opaque continuation data that some providers want back.
    pub signatures: Option<Vec<String>>,
}

/// One message of a conversation.
#[derive(Debug, Clone)]
pub enum Message {
    /// From the person, or from the program on their behalf.
    User(Clean),
    /// From the model.
    Assistant {
        /// What it said.
        text: Clean,
        /// Its reasoning, for providers that want it back.
        reasoning: Option<Clean>,
        /// What it wants done.
        calls: Vec<ToolCall>,
    },
    /// The result of a call.
    Tool {
        /// The call.
        id: String,
        /// Name of the tool.
        name: String,
        /// What came of it.
        content: Clean,
    },
}

impl Message {
    /// Size in bytes of text, for budgets.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::User(text) => text.as_str().len(),
            Self::Assistant { text, reasoning, calls } => {
                let reasoning = reasoning.as_ref().map_or(0, |text| text.as_str().len());
                let calls: usize =
                    calls.iter().map(|call| call.name.len() + call.arguments.to_string().len()).sum();
                text.as_str().len() + reasoning + calls
            }
            Self::Tool { content, .. } => content.as_str().len(),
        }
    }
}

/// What is asked of a model.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// The system prompt.
    pub system: Clean,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Tools that may be called.
    pub tools: Vec<ToolSpec>,
    /// Most tokens to produce.
    pub max_output_tokens: u32,
    /// Sampling temperature; `None` leaves the provider's default.
    pub temperature: Option<f64>,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Text that the answer starts with (embedded models only; others are asked in words).
    pub prefix: Option<&'static str>,
    /// Where chance starts, so that a run can be repeated (embedded models only).
    pub seed: Option<u32>,
    /// Whether to receive the answer in pieces.
    pub stream: bool,
}

impl ChatRequest {
    /// Size in bytes of everything that is sent.
    #[must_use]
    pub fn size(&self) -> usize {
        let tools: usize = self
            .tools
            .iter()
            .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.to_string().len())
            .sum();
        self.system.as_str().len() + tools + self.messages.iter().map(Message::size).sum::<usize>()
    }

    fn digest(&self) -> Digest {
        let mut parts = vec![self.system.as_str().to_owned()];
        for message in &self.messages {
            parts.push(match message {
                Message::User(text) => format!("user\0{text}"),
                Message::Tool { id, name, content } => format!("tool\0{id}\0{name}\0{content}"),
                Message::Assistant { text, calls, .. } => {
                    let calls: Vec<String> = calls
                        .iter()
                        .map(|call| format!("{}\0{}\0{}", call.id, call.name, call.arguments))
                        .collect();
                    format!("assistant\0{text}\0{}", calls.join("\0"))
                }
            });
        }
        let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        Digest::of_parts(&parts)
    }

    /// The action of sending this to `model`.
    #[must_use]
    pub fn as_action(&self, model: &ModelInfo) -> ModelCall {
        ModelCall {
            provider: model.provider.clone(),
            model: model.name.clone(),
            reach: model.reach.clone(),
            request: self.digest(),
            bytes: self.size(),
        }
    }
}

/// Something that happens while a model answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<'a> {
    /// A piece of the answer.
    Text(&'a str),
    /// A piece of reasoning.
    Reasoning(&'a str),
    /// The request failed and is tried again after a pause.
    Retry {
        /// Which attempt failed, from 1.
        attempt: u32,
        /// Seconds until the next.
        seconds: f64,
        /// Why.
        why: &'a str,
    },
    /// The embedded model is being loaded.
    Loading,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// It was done.
    Done,
    /// It wants tools to be called.
    ToolCalls,
    /// It reached `max_output_tokens`.
    Length,
    /// The provider withheld the answer.
    Filtered,
}

/// Tokens used by one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Sent, cached ones included.
    pub input: u64,
    /// Of these, read from the provider's cache.
    pub cached: u64,
    /// Produced.
    pub output: u64,
}

/// What a model answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// What it said. Not yet looked at for secrets.
    pub text: String,
    /// Its reasoning, where the provider shows it.
    pub reasoning: Option<String>,
    /// What it wants done.
    pub calls: Vec<ToolCall>,
    /// Why it stopped.
    pub stop: StopReason,
    /// Tokens used.
    pub tokens: TokenUsage,
    /// Price, where it is known.
    pub price: Option<Price>,
}

impl Report for Reply {
    fn outcome(&self) -> Outcome {
        let outcome = Outcome::new(Status::Done)
            .with("input_tokens", self.tokens.input)
            .with("output_tokens", self.tokens.output)
            .with("bytes_in", self.text.len())
            .with("tool_calls", self.calls.len());
        match self.price {
            Some(_) => outcome.with("cost_micro_usd", self.usage().cost_micro_usd),
            None => outcome,
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            input_tokens: self.tokens.input,
            output_tokens: self.tokens.output,
            cost_micro_usd: self.price.map_or(0, |price| price.of(self.tokens)),
        }
    }
}

/// What is known about a model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Provider name, as in `--provider`.
    pub provider: String,
    /// Model name.
    pub name: String,
    /// Where it runs.
    pub reach: Reach,
    /// Context window in tokens.
    pub context_tokens: u64,
    /// Price, where it is known.
    pub price: Option<Price>,
    /// Whether it is small enough that the program should gather the context for it.
    pub small: bool,
}

/// A completion under way.
pub type Completing<'a> = Pin<Box<dyn Future<Output = Result<Reply, LlmError>> + 'a>>;

/// A model that can be asked.
pub trait Model {
    /// What is known about it.
    fn info(&self) -> &ModelInfo;

    /// Asks it. `on` sees the answer as it arrives.
    fn complete<'a>(
        &'a self,
        authorized: Authorized<ModelCall>,
        request: &'a ChatRequest,
        on: &'a mut dyn FnMut(Event<'_>),
    ) -> Completing<'a>;
}
