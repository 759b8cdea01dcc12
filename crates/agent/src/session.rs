//! One session: from a prompt to an answer.

use gate::{Gate, GateError};
use ledger::LedgerError;
use llm::{ChatRequest, LlmError, Message, Model, Reply, StopReason, ToolCall};
use redact::{Clean, Redactor, Source};
use tools::Toolbox;

use crate::compact::compact;
use crate::event::{AgentEvent, Events, Watching, forward};
use crate::summary::Summary;

/// Bytes of text that a token stands for, cautiously.
const BYTES_PER_TOKEN: u64 = 3;
/// The same call with the same result this often in a row: the model is told, then stopped.
const REPEATS_WARN: usize = 3;
const REPEATS_STOP: usize = 5;
/// Times that a model may be asked to go on after an answer that was cut by its output limit.
const CONTINUATIONS: usize = 2;

/// How a session asks its model.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether answers arrive in pieces.
    pub stream: bool,
    /// Most tokens that one answer may have.
    pub max_output_tokens: u32,
}

/// Why a session ended, other than by the model being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// The model was done.
    Done,
    /// A limit was reached; the rule and its words.
    Limit(String),
    /// The model kept doing the same.
    Repeating,
}

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Nothing can be recorded, so nothing may be done.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The model gave no usable answer.
    #[error(transparent)]
    Model(LlmError),
    /// A rule does not let the context go to the model.
    #[error("the model was not asked: {0}")]
    Refused(String),
    /// An attempt to repair is still in a file.
    #[error("an attempt that did not help is still in {path}: {why}")]
    NotTakenBack {
        /// The file, relative to the workspace.
        path: String,
        /// Why it could not be put back.
        why: String,
    },
}

/// One session.
pub struct Session<'a> {
    gate: &'a Gate,
    model: &'a dyn Model,
    toolbox: Toolbox<'a>,
    redactor: &'a Redactor,
    system: Clean,
    options: Options,
    summary: &'a mut Summary,
}

impl<'a> Session<'a> {
    /// A session that has seen nothing yet. `summary` says what it did, even when it is dropped half-way.
    #[must_use]
    pub fn new(
        gate: &'a Gate,
        model: &'a dyn Model,
        toolbox: Toolbox<'a>,
        redactor: &'a Redactor,
        system: Clean,
        options: Options,
        summary: &'a mut Summary,
    ) -> Self {
        Self { gate, model, toolbox, redactor, system, options, summary }
    }

    /// Works on `prompt` until it is done or stopped; returns the answer.
    ///
    /// # Errors
    /// If the model cannot be asked or the ledger cannot be written.
    pub async fn run(
        &mut self,
        prompt: &str,
        events: &mut dyn Events,
    ) -> Result<(String, StopCause), AgentError> {
        let mut messages = vec![Message::User(self.redactor.clean(prompt, Source::Other))];
        let mut last_calls: Vec<(String, String)> = Vec::new();
        let mut answer = String::new();
        let mut continued = 0;
        loop {
            let before: usize = messages.iter().map(Message::size).sum();
            if compact(&mut messages, self.budget(), self.redactor) {
                let after = messages.iter().map(Message::size).sum();
                events.event(&AgentEvent::Compacted { before, after });
            }
            let reply = match self.ask(&messages, events).await {
                Ok(reply) => reply,
                Err(Stop::Limit(why)) => return Ok((answer, StopCause::Limit(why))),
                Err(Stop::Error(error)) => return Err(error),
            };
            if continued == 0 {
                answer.clear();
            }
            answer.push_str(&reply.text);
            messages.push(Message::Assistant {
                text: self.redactor.clean(&reply.text, Source::Other),
                reasoning: reply.reasoning.as_deref().map(|text| self.redactor.clean(text, Source::Other)),
                calls: reply.calls.clone(),
            });
            if reply.calls.is_empty() {
                if reply.stop == StopReason::Length && continued < CONTINUATIONS {
                    continued += 1;
                    messages.push(Message::User(Clean::fixed(
                        "Your answer was cut off. Go on where it stopped.",
                    )));
                    continue;
                }
                if reply.stop == StopReason::Filtered && reply.text.is_empty() {
                    answer = "(the provider withheld the answer)".to_owned();
                }
                return Ok((answer, StopCause::Done));
            }
            continued = 0;
            for call in &reply.calls {
                let content = self.call(call, events).await?;
                let repeats = count_repeats(&mut last_calls, call, content.as_str());
                if repeats >= REPEATS_STOP {
                    return Ok((answer, StopCause::Repeating));
                }
                let content = if repeats >= REPEATS_WARN {
                    let hint = Clean::fixed(
                        "[You have made this call several times with the same result. Do something else, or finish.]",
                    );
                    Clean::join(&[content, hint], "\n")
                } else {
                    content
                };
                messages.push(Message::Tool { id: call.id.clone(), name: call.name.clone(), content });
            }
        }
    }

    async fn ask(&mut self, messages: &[Message], events: &mut dyn Events) -> Result<Reply, Stop> {
        let request = ChatRequest {
            system: self.system.clone(),
            messages: messages.to_vec(),
            tools: tools::specs(),
            max_output_tokens: self.options.max_output_tokens,
            temperature: None,
            stop: Vec::new(),
            prefix: None,
            seed: None,
            stream: self.options.stream,
        };
        ask(self.gate, self.model, &request, events).await
    }

    async fn call(&mut self, call: &ToolCall, events: &mut dyn Events) -> Result<Clean, AgentError> {
        let about = Toolbox::describe(&call.name, &call.arguments);
        events.event(&AgentEvent::Tool { name: &call.name, about: &about });
        let outcome = self.toolbox.call(&call.name, &call.arguments, &mut Watching(events)).await?;
        events.event(&AgentEvent::ToolDone { name: &call.name, ok: outcome.ok, about: &outcome.brief });
        if let Some(note) = outcome.note {
            self.summary.add(note);
        }
        Ok(outcome.text)
    }

    /// Bytes that the conversation may have: the window less the answer, the system prompt and the tools.
    fn budget(&self) -> usize {
        let window = self.model.info().context_tokens;
        let tools: usize = tools::specs()
            .iter()
            .map(|tool| tool.name.len() + tool.description.len() + tool.parameters.to_string().len())
            .sum();
        let tokens = window.saturating_sub(u64::from(self.options.max_output_tokens));
        let bytes = usize::try_from(tokens.saturating_mul(BYTES_PER_TOKEN)).unwrap_or(usize::MAX);
        bytes.saturating_sub(self.system.as_str().len() + tools).max(2000)
    }
}

/// Why no reply came.
pub(crate) enum Stop {
    Limit(String),
    Error(AgentError),
}

/// Asks the model, through the gate.
pub(crate) async fn ask(
    gate: &Gate,
    model: &dyn Model,
    request: &ChatRequest,
    events: &mut dyn Events,
) -> Result<Reply, Stop> {
    let effect = request.as_action(model.info());
    let mut on = |event: llm::Event<'_>| forward(events, &event);
    let result =
        gate.perform(effect, async |authorized| model.complete(authorized, request, &mut on).await).await;
    match result {
        Ok(reply) => {
            let reply = reply.value;
            let (input_tokens, output_tokens) = (reply.tokens.input, reply.tokens.output);
            events.event(&AgentEvent::Turn { input_tokens, output_tokens });
            Ok(reply)
        }
        Err(GateError::Refused { decision, .. }) if decision.rule.starts_with("limit.") => {
            Err(Stop::Limit(decision.reason))
        }
        Err(GateError::Refused { decision, .. } | GateError::Unanswered { decision }) => {
            let why = format!("{} ({})", decision.reason, decision.rule);
            Err(Stop::Error(AgentError::Refused(why)))
        }
        Err(GateError::Ledger(error)) => Err(Stop::Error(error.into())),
        Err(GateError::Failed(error)) => Err(Stop::Error(AgentError::Model(error))),
        Err(other) => Err(Stop::Error(AgentError::Refused(other.to_string()))),
    }
}

/// How often in a row this call has now had this result.
fn count_repeats(last: &mut Vec<(String, String)>, call: &ToolCall, result: &str) -> usize {
    let entry = (format!("{} {}", call.name, call.arguments), result.to_owned());
    if last.first().is_some_and(|first| *first != entry) {
        last.clear();
    }
    last.push(entry);
    last.len()
}
