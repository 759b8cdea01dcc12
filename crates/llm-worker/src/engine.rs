//! The model: prompt in, tokens out. What of the last prompt is the beginning of the next one is not computed again.

use std::num::NonZeroU32;
use std::path::Path;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::model::{LlamaChatMessage, LlamaChatTemplate, LlamaModel};
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;

use crate::protocol::{Event, Finish, Request};
use crate::stream::Stream;

/// Tokens computed at once.
const BATCH: usize = 512;

/// Why something could not be computed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("cannot load {path}: {why}")]
    Load { path: String, why: String },
    #[error("the request has {tokens} tokens and may have {window}")]
    TooLong { tokens: usize, window: u32 },
    #[error("{0}")]
    Request(String),
    #[error("{0}")]
    Internal(String),
}

impl EngineError {
    /// As an event.
    pub(crate) fn event(&self, id: u64) -> Event<'_> {
        let (code, message, tokens, window) = match self {
            Self::TooLong { tokens, window } => {
                ("context_overflow", "the request is longer than the window", Some(*tokens), Some(*window))
            }
            Self::Request(message) => ("bad_request", message.as_str(), None, None),
            Self::Internal(message) | Self::Load { why: message, .. } => {
                ("internal", message.as_str(), None, None)
            }
        };
        Event::Error { id: Some(id), code, message, tokens, window }
    }
}

fn internal(error: impl std::fmt::Display) -> EngineError {
    EngineError::Internal(error.to_string())
}

/// The weights in memory.
pub(crate) struct Loaded {
    backend: LlamaBackend,
    model: LlamaModel,
    template: LlamaChatTemplate,
    /// The texts of tokens that steer the conversation, such as `<|im_start|>`.
    control: Vec<String>,
}

impl Loaded {
    pub(crate) fn load(path: &Path) -> Result<Self, EngineError> {
        let failed = |why: String| EngineError::Load { path: path.display().to_string(), why };
        let mut backend = LlamaBackend::init().map_err(|error| failed(error.to_string()))?;
        if std::env::var_os("VARVEL_WORKER_LOG").is_none() {
            backend.void_logs();
        }
        let model = LlamaModel::load_from_file(&backend, path, &LlamaModelParams::default())
            .map_err(|error| failed(error.to_string()))?;
        let template = model.chat_template(None).map_err(|_| failed("it has no chat template".into()))?;
        let control = model
            .tokens(true)
            .filter_map(|(_, bytes)| String::from_utf8(bytes).ok())
            .filter(|text| text.len() > 4 && text.starts_with("<|") && text.ends_with("|>"))
            .collect();
        Ok(Self { backend, model, template, control })
    }

    /// The conversation as the model was trained to see it, ready for its answer.
    fn prompt(&self, request: &Request) -> Result<String, EngineError> {
        let turns = request.messages.iter().map(|turn| {
            LlamaChatMessage::new(turn.role.name().to_owned(), self.disarm(&turn.content))
                .map_err(|error| EngineError::Request(error.to_string()))
        });
        let turns = turns.collect::<Result<Vec<_>, _>>()?;
        let mut prompt = self
            .model
            .apply_chat_template(&self.template, &turns, true)
            .map_err(|error| EngineError::Request(error.to_string()))?;
        prompt.push_str(request.assistant_prefix.as_deref().unwrap_or_default());
        Ok(prompt)
    }

    /// A file that says `<|im_start|>system` must not become a turn of the system: the text is broken up.
    fn disarm(&self, text: &str) -> String {
        let mut text = text.replace('\0', "\u{fffd}");
        if text.contains("<|") {
            for control in &self.control {
                if text.contains(control.as_str()) {
                    text = text.replace(control.as_str(), &control.replacen("<|", "< |", 1));
                }
            }
        }
        text
    }
}

/// A loaded model with its window.
pub(crate) struct Engine<'m> {
    loaded: &'m Loaded,
    context: LlamaContext<'m>,
    /// Tokens that the window holds now.
    past: Vec<LlamaToken>,
}

/// A complete answer, but for its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    finish: Finish,
    prompt: usize,
    reused: usize,
    output: usize,
}

impl Done {
    pub(crate) fn event(&self, id: u64) -> Event<'static> {
        Event::Done {
            id,
            finish: self.finish,
            prompt_tokens: self.prompt,
            reused_tokens: self.reused,
            output_tokens: self.output,
        }
    }
}

impl<'m> Engine<'m> {
    pub(crate) fn new(loaded: &'m Loaded, window: u32, threads: i32) -> Result<Self, EngineError> {
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(window))
            .with_n_batch(512)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let context = loaded.model.new_context(&loaded.backend, params).map_err(internal)?;
        Ok(Self { loaded, context, past: Vec::new() })
    }

    /// Tokens that fit.
    pub(crate) fn window(&self) -> u32 {
        self.context.n_ctx()
    }

    /// Answers a request; `on` gets the text as it comes.
    pub(crate) fn answer(
        &mut self,
        request: &Request,
        mut on: impl FnMut(&str),
    ) -> Result<Done, EngineError> {
        let mut sampler = self.sampler(request)?;
        let prompt = self.loaded.prompt(request)?;
        let vocab = self.loaded.model.vocab();
        let tokens = vocab.tokenize(prompt.as_bytes(), true, true);
        let window = self.window() as usize;
        if tokens.is_empty() {
            return Err(EngineError::Request("there is nothing to answer".into()));
        }
        if tokens.len() + 1 >= window {
            return Err(EngineError::TooLong { tokens: tokens.len(), window: self.window() });
        }
        let result = self.generate(request, &tokens, &mut sampler, &mut on);
        if result.is_err() {
            // What the window holds now is not known.
            self.context.clear_kv_cache();
            self.past.clear();
        }
        result
    }

    fn generate(
        &mut self,
        request: &Request,
        tokens: &[LlamaToken],
        sampler: &mut LlamaSampler,
        on: &mut impl FnMut(&str),
    ) -> Result<Done, EngineError> {
        let window = self.window() as usize;
        let common = tokens.iter().zip(&self.past).take_while(|(new, old)| new == old).count();
        // The last token is always computed, because its result is what the answer starts from.
        let reused = common.min(tokens.len() - 1);
        let from = u32::try_from(reused).map_err(internal)?;
        self.context.clear_kv_cache_seq(Some(0), Some(from), None).map_err(internal)?;
        self.past.truncate(reused);
        self.compute(&tokens[reused..])?;
        let vocab = self.loaded.model.vocab();
        let mut stream = Stream::new(&request.stop);
        let mut output = 0;
        let finish = loop {
            if output >= request.max_tokens as usize || self.past.len() + 1 >= window {
                break Finish::Length;
            }
            let token = sampler.sample(&self.context, -1);
            output += 1;
            if vocab.is_eog(token) {
                break Finish::Stop;
            }
            let text = stream.push(&vocab.token_to_piece(token, false, None));
            if !text.is_empty() {
                on(&text);
            }
            if stream.stopped() {
                break Finish::StopSequence;
            }
            self.compute(&[token])?;
        };
        let rest = stream.finish();
        if !rest.is_empty() {
            on(&rest);
        }
        Ok(Done { finish, prompt: tokens.len(), reused, output })
    }

    fn compute(&mut self, tokens: &[LlamaToken]) -> Result<(), EngineError> {
        let mut batch = LlamaBatch::new(BATCH, 1);
        for chunk in tokens.chunks(BATCH) {
            batch.clear();
            for (index, token) in chunk.iter().enumerate() {
                let position = i32::try_from(self.past.len()).map_err(internal)?;
                batch.add(*token, position, &[0], index + 1 == chunk.len()).map_err(internal)?;
                self.past.push(*token);
            }
            self.context.decode(&mut batch).map_err(internal)?;
        }
        Ok(())
    }

    fn sampler(&self, request: &Request) -> Result<LlamaSampler, EngineError> {
        let wrong = |error: &dyn std::fmt::Display| {
            EngineError::Request(format!("the schema cannot be used: {error}"))
        };
        let mut chain = Vec::new();
        if let Some(schema) = &request.schema {
            let grammar =
                llama_cpp_2::json_schema_to_grammar(&schema.to_string()).map_err(|error| wrong(&error))?;
            let grammar =
                LlamaSampler::grammar(&self.loaded.model, &grammar, "root").map_err(|error| wrong(&error))?;
            chain.push(grammar);
        }
        if request.temperature > 0.0 {
            chain.push(LlamaSampler::top_p(0.95, 1));
            chain.push(LlamaSampler::temp(request.temperature.min(2.0)));
            chain.push(LlamaSampler::dist(request.seed));
        } else {
            chain.push(LlamaSampler::greedy());
        }
        Ok(LlamaSampler::chain_simple(chain))
    }
}
