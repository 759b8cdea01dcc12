//! What a secret looks like: formats published by those who issue them, as data.

use std::sync::OnceLock;

use regex::Regex;

/// One kind of secret.
struct Rule {
    /// Part of the placeholder.
    name: &'static str,
    /// Lower-case text of which at least one must occur, so that most text costs no regular expression.
    keywords: &'static [&'static str],
    /// The first capture group, where there is one, is the secret; else the whole match.
    pattern: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

const fn rule(name: &'static str, keywords: &'static [&'static str], pattern: &'static str) -> Rule {
    Rule { name, keywords, pattern, compiled: OnceLock::new() }
}

/// Name of the rule for text that looks like one of our placeholders.
pub(crate) const LITERAL: &str = "literal";

static RULES: [Rule; 24] = [
    // Text that looks like one of our placeholders is hidden too, so that putting back is exact.
    rule(LITERAL, &["\u{2039}secret:"], r"\x{2039}secret:[^\x{203a}\n]{0,80}\x{203a}"),
    rule(
        "private-key",
        &["private key"],
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:[\s\S]{16,}?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\:,-]{16,})",
    ),
    rule("aws-key", &["akia", "asia", "abia", "acca"], r"\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})\b"),
    rule(
        "aws-secret",
        &["aws"],
        r#"(?i)aws.{0,20}secret.{0,20}[=:]\s*["']?([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+]|$)"#,
    ),
    rule("github-token", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], r"\b(gh[pousr]_[A-Za-z0-9]{36,255})"),
    rule("github-token", &["github_pat_"], r"\b(github_pat_[A-Za-z0-9_]{50,255})"),
    rule("gitlab-token", &["gl"], r"\b(gl(?:pat|dt|rt|cbt|ptt|soat)-[A-Za-z0-9_-]{20,})"),
    rule("slack-token", &["xox"], r"\b(xox[abeoprs]-[A-Za-z0-9-]{10,})"),
    rule(
        "slack-webhook",
        &["hooks.slack.com"],
        r"(https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9+/]{20,})",
    ),
    rule("model-key", &["sk-"], r"\b(sk-(?:ant-|proj-|svcacct-|admin-|or-)?[A-Za-z0-9_-]{20,})"),
    rule("google-key", &["aiza"], r"\b(AIza[A-Za-z0-9_-]{35})"),
    rule("google-token", &["ya29."], r"\b(ya29\.[A-Za-z0-9_-]{20,})"),
    rule(
        "stripe-key",
        &["k_live_", "k_test_", "k_prod_"],
        r"\b([rs]k_(?:live|test|prod)_[A-Za-z0-9]{10,99})",
    ),
    rule("npm-token", &["npm_"], r"\b(npm_[A-Za-z0-9]{36})"),
    rule("pypi-token", &["pypi-"], r"\b(pypi-[A-Za-z0-9_-]{50,})"),
    rule("huggingface-token", &["hf_"], r"\b(hf_[A-Za-z0-9]{30,})"),
    rule("sendgrid-key", &["sg."], r"\b(SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})"),
    rule("twilio-key", &["sk"], r"\b(SK[0-9a-f]{32})\b"),
    rule("digitalocean-token", &["_v1_"], r"\b(do[opr]_v1_[a-f0-9]{64})"),
    rule("age-key", &["age-secret-key-1"], r"\b(AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58})"),
    rule("jwt", &["eyj"], r"\b(eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,})"),
    rule(
        "url-password",
        &["://"],
        r"\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s:/@\x22']{1,80}:([^\s/@\x22']{3,200})@",
    ),
    rule(
        "bearer",
        &["authorization"],
        r"(?i)\bauthorization\b.{0,4}[:=].{0,4}(?:bearer|basic|token)\s+([A-Za-z0-9._~+/=-]{16,})",
    ),
    // A name that says "secret" beside a value that looks random.
    rule(
        ASSIGNED,
        &["passw", "pwd", "secret", "token", "key", "auth"],
        r#"(?i)(?:passw(?:or)?d|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|client[_-]?secret|auth)[a-z0-9_-]{0,20}["']?\s{0,4}(?::=|=>|[:=])\s{0,4}["']?([^\s"'`,;(){}<>\[\]$]{8,200})"#,
    ),
];

const ASSIGNED: &str = "assigned";

impl Rule {
    fn regex(&self) -> Option<&Regex> {
        // A test compiles them all, so `None` does not occur.
        self.compiled.get_or_init(|| Regex::new(self.pattern).ok()).as_ref()
    }
}

/// Byte spans of secrets with the name of the rule, in no order.
pub(crate) fn find(text: &str) -> Vec<(usize, usize, &'static str)> {
    let lower = text.to_ascii_lowercase();
    let mut spans = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.keywords.iter().any(|word| lower.contains(word))) {
        let Some(regex) = rule.regex() else { continue };
        for captures in regex.captures_iter(text) {
            let Some(span) = captures.get(1).or_else(|| captures.get(0)) else { continue };
            if rule.name != ASSIGNED || looks_random(span.as_str()) {
                spans.push((span.start(), span.end(), rule.name));
            }
        }
    }
    spans
}

#[cfg(test)]
pub(crate) fn all_compile() -> bool {
    RULES.iter().all(|rule| rule.regex().is_some())
}

/// Whether a value beside a telling name is likely a real one: mixed characters, not a word or a variable.
fn looks_random(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let letters = value.bytes().filter(u8::is_ascii_alphabetic).count();
    let other = value.len() - digits - letters;
    let dotted_name = value.contains('.') && other == value.matches(['.', '_']).count() && digits < 2;
    digits >= 1 && letters >= 2 && !dotted_name && entropy(value) >= 2.75
}

/// Shannon entropy in bits a byte.
fn entropy(value: &str) -> f64 {
    let mut counts = [0u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let total = f64::from(u32::try_from(value.len()).unwrap_or(u32::MAX));
    counts.iter().filter(|&&n| n > 0).map(|&n| f64::from(n) / total).map(|p| -p * p.log2()).sum()
}
