//! What a session reports while it works.

use serde::Serialize;

/// Something that happened. Serialised as one line of `--output stream-json`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AgentEvent<'a> {
    /// The session began.
    Session {
        /// Its identifier.
        id: &'a str,
        /// Provider and model.
        model: &'a str,
        /// The workspace.
        workspace: &'a str,
        /// The autonomy level.
        mode: &'a str,
    },
    /// A piece of the model's answer.
    Text {
        /// The piece.
        text: &'a str,
    },
    /// A piece of the model's reasoning.
    Reasoning {
        /// The piece.
        text: &'a str,
    },
    /// The model finished a turn.
    Turn {
        /// Tokens sent.
        input_tokens: u64,
        /// Tokens produced.
        output_tokens: u64,
    },
    /// A tool is being used.
    Tool {
        /// Its name.
        name: &'a str,
        /// What it does, in a few words.
        about: &'a str,
    },
    /// A tool finished.
    ToolDone {
        /// Its name.
        name: &'a str,
        /// Whether it did what was asked.
        ok: bool,
        /// What came of it, in a few words.
        about: &'a str,
    },
    /// A model request failed and is tried again.
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
    /// The context was made smaller.
    Compacted {
        /// Bytes before.
        before: usize,
        /// Bytes after.
        after: usize,
    },
    /// Something that a person should know.
    Notice {
        /// What.
        text: &'a str,
    },
}

/// Where events go.
pub trait Events {
    /// Something happened.
    fn event(&mut self, event: &AgentEvent<'_>);

    /// A command printed this; for the person's own terminal, not looked at for secrets.
    fn output(&mut self, bytes: &[u8]);
}

/// Events as an observer of tools.
pub(crate) struct Watching<'a>(pub(crate) &'a mut dyn Events);

impl tools::Observer for Watching<'_> {
    fn output(&mut self, bytes: &[u8]) {
        self.0.output(bytes);
    }
}

/// Passes a model's events on.
pub(crate) fn forward(events: &mut dyn Events, event: &llm::Event<'_>) {
    events.event(&match *event {
        llm::Event::Text(text) => AgentEvent::Text { text },
        llm::Event::Reasoning(text) => AgentEvent::Reasoning { text },
        llm::Event::Retry { attempt, seconds, why } => AgentEvent::Retry { attempt, seconds, why },
        llm::Event::Loading => AgentEvent::Loading,
    });
}
