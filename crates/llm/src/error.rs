//! What can go wrong with a model.

use egress::EgressError;
use gate::Report;
use ledger::{Outcome, Status};

/// Why a model gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LlmError {
    /// The name is not known.
    #[error("there is no provider {name:?}; there are: {known}")]
    NoSuchProvider {
        /// As it was given.
        name: String,
        /// All names.
        known: String,
    },
    /// The provider's address is needed and not given.
    #[error("the provider {provider} needs an address: add --base-url URL")]
    NoBaseUrl {
        /// Its name.
        provider: String,
    },
    /// A model name is needed and not given.
    #[error("the provider {provider} has no default model: add --model NAME")]
    NoModel {
        /// Its name.
        provider: String,
    },
    /// No key for a provider that needs one.
    #[error(
        "no key for {provider}: run `varvel vault set {provider}`, or set VARVEL_API_KEY \
         (other variables are not read, so that no key turns a cloud model on by itself)"
    )]
    NoKey {
        /// Its name.
        provider: String,
    },
    /// A key would travel unencrypted.
    #[error("{url} is not encrypted, so the key is not sent there; use https, or a server on this machine")]
    Unencrypted {
        /// The address.
        url: String,
    },
    /// Bad address or TLS set-up.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The server cannot be reached.
    #[error("cannot reach {at}: {why}")]
    Unreachable {
        /// Where.
        at: String,
        /// The cause.
        why: String,
    },
    /// The server refused the key.
    #[error("{at} refused the key ({status}): {message}")]
    Refused {
        /// Where.
        at: String,
        /// HTTP status.
        status: u16,
        /// The server's own words, clipped.
        message: String,
    },
    /// The server answered with another error.
    #[error("{at} answered {status}: {message}")]
    Status {
        /// Where.
        at: String,
        /// HTTP status.
        status: u16,
        /// The server's own words, clipped.
        message: String,
    },
    /// The answer ended in the middle.
    #[error("the answer from {at} broke off in the middle; nothing of it was used")]
    Truncated {
        /// Where.
        at: String,
    },
    /// The answer makes no sense.
    #[error("{at} sent something that is not an answer: {why}")]
    Protocol {
        /// Where.
        at: String,
        /// What is wrong with it.
        why: String,
    },
    /// No answer came in time.
    #[error("no answer from {at} for {seconds} s")]
    Timeout {
        /// Where.
        at: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The request is longer than the model's window.
    #[error("the request has {tokens} tokens, more than the model's window of {window}")]
    TooLong {
        /// Tokens in the request.
        tokens: u64,
        /// The window.
        window: u64,
    },
    /// The embedded model is not installed.
    #[error("{what} is not installed: {fix}")]
    NotInstalled {
        /// The worker or the weights.
        what: String,
        /// What to do.
        fix: String,
    },
    /// The embedded model's process failed.
    #[error("the embedded model failed: {why}")]
    Worker {
        /// The cause.
        why: String,
    },
}

impl LlmError {
    /// Whether the model could not be reached or used at all (exit status 4), rather than answering badly.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        !matches!(self, Self::TooLong { .. })
    }
}

impl Report for LlmError {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Failed).with("error", self.to_string())
    }
}
