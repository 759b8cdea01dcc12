//! Limits: how much a session may use. The gate counts; nothing else can.

use std::time::{Duration, Instant};

use action::{Action, Decision, Verdict};

/// What an effect used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens sent to a model.
    pub input_tokens: u64,
    /// Tokens that a model produced.
    pub output_tokens: u64,
    /// Price in millionths of a US dollar, where it is known.
    pub cost_micro_usd: u64,
}

impl Usage {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cost_micro_usd: self.cost_micro_usd.saturating_add(other.cost_micro_usd),
        }
    }
}

/// Upper bounds for a session; `None` means no bound.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Model calls.
    pub steps: Option<u64>,
    /// Tokens in and out together.
    pub tokens: Option<u64>,
    /// Millionths of a US dollar.
    pub cost_micro_usd: Option<u64>,
    /// Wall-clock time.
    pub time: Option<Duration>,
}

/// What a session has used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    pub(crate) started: Instant,
    pub(crate) steps: u64,
    pub(crate) usage: Usage,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), steps: 0, usage: Usage::default() }
    }

    /// Whether another `action` fits.
    pub(crate) fn decide(&self, limits: &Limits, action: &Action) -> Decision {
        let deny = |rule: &str, reason: String| Decision::new(Verdict::Deny, rule, reason);
        // Not for reading and writing files: taking back a half-done change must still be possible.
        let takes_time = matches!(
            action,
            Action::ModelCall(_) | Action::Command(_) | Action::Network(_) | Action::Connect(_)
        );
        if takes_time && limits.time.is_some_and(|limit| self.started.elapsed() >= limit) {
            let limit = limits.time.unwrap_or_default().as_secs();
            return deny(
                "limit.time",
                format!("the time limit of {limit} s is reached; raise it with --max-time"),
            );
        }
        if matches!(action, Action::ModelCall(_)) {
            let tokens = self.usage.input_tokens.saturating_add(self.usage.output_tokens);
            if let Some(limit) = limits.steps.filter(|&limit| self.steps >= limit) {
                return deny(
                    "limit.steps",
                    format!("the limit of {limit} steps is reached; raise it with --max-steps"),
                );
            }
            if let Some(limit) = limits.tokens.filter(|&limit| tokens >= limit) {
                return deny(
                    "limit.tokens",
                    format!("the limit of {limit} tokens is reached; raise it with --max-tokens"),
                );
            }
            if let Some(limit) = limits.cost_micro_usd.filter(|&limit| self.usage.cost_micro_usd >= limit) {
                #[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
                let usd = limit as f64 / 1e6;
                return deny(
                    "limit.cost",
                    format!("the cost limit of ${usd:.2} is reached; raise it with --max-cost"),
                );
            }
        }
        Decision::new(Verdict::Allow, "limit.ok", "within the limits")
    }
}
