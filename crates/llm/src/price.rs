//! What a token costs, as far as it is known.

use serde::Deserialize;

use crate::TokenUsage;

/// US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Sent.
    pub input: f64,
    /// Produced.
    pub output: f64,
}

/// List prices by the beginning of the model's name, the longest match first. They change: `[prices]` in the
/// person's configuration takes precedence, and a model that is in neither has no known price.
const PRICES: &[(&str, f64, f64)] = &[
    ("claude-opus-4", 5.0, 25.0),
    ("claude-sonnet-4", 3.0, 15.0),
    ("claude-haiku-4", 1.0, 5.0),
    ("gpt-5-mini", 0.25, 2.0),
    ("gpt-5-nano", 0.05, 0.4),
    ("gpt-5", 1.25, 10.0),
    ("gpt-4.1-mini", 0.4, 1.6),
    ("gpt-4.1", 2.0, 8.0),
    ("gemini-2.5-flash", 0.3, 2.5),
    ("gemini-2.5-pro", 1.25, 10.0),
    ("deepseek-chat", 0.28, 0.42),
    ("deepseek-reasoner", 0.28, 0.42),
];

impl Price {
    /// Nothing: models that run here.
    pub const FREE: Self = Self { input: 0.0, output: 0.0 };

    /// The list price of `model`, if it is known.
    #[must_use]
    pub fn listed(model: &str) -> Option<Self> {
        PRICES
            .iter()
            .filter(|(prefix, ..)| model.starts_with(prefix))
            .max_by_key(|(prefix, ..)| prefix.len())
            .map(|&(_, input, output)| Self { input, output })
    }

    /// The price of `tokens` in millionths of a dollar, rounded up. Cached tokens count in full: an upper bound.
    #[must_use]
    pub fn of(self, tokens: TokenUsage) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let exact = tokens.input as f64 * self.input + tokens.output as f64 * self.output;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is not negative"
        )]
        let rounded = exact.ceil().max(0.0) as u64;
        rounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_name_wins_and_unknown_is_unknown() {
        assert_eq!(Price::listed("gpt-5-mini-2026").unwrap().output, 2.0);
        assert_eq!(Price::listed("gpt-5.1").unwrap().output, 10.0);
        assert!(Price::listed("stub").is_none());
    }

    #[test]
    fn micro_dollars() {
        let price = Price { input: 3.0, output: 15.0 };
        assert_eq!(price.of(TokenUsage { input: 1000, cached: 0, output: 100 }), 4500);
        assert_eq!(Price::FREE.of(TokenUsage { input: 1000, cached: 0, output: 100 }), 0);
    }
}
