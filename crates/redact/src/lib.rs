//! Secrets never reach a model: each becomes a stable placeholder such as `‹secret:aws-key:1›`, and is put back
//! only into the file that it came from.
//!
//! [`Clean`] is text that has been through a [`Redactor`]. Model requests are made of it, so text that has not
//! been looked at does not type-check as something to send.

mod rules;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Text without detectable secrets. Made only by [`Redactor::clean`] and, for our own constants, [`Clean::fixed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clean(String);

impl Clean {
    /// Text that is part of the program, such as the system prompt.
    #[must_use]
    pub fn fixed(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Joins pieces that are clean already, with `separator` between them.
    #[must_use]
    pub fn join<'a>(pieces: impl IntoIterator<Item = &'a Self>, separator: &'static str) -> Self {
        let pieces: Vec<&str> = pieces.into_iter().map(Self::as_str).collect();
        Self(pieces.join(separator))
    }

    /// The text up to `limit` bytes (at a character boundary); for clipping, which cannot reveal anything.
    #[must_use]
    pub fn clipped(&self, limit: usize) -> Self {
        let mut end = limit.min(self.0.len());
        while !self.0.is_char_boundary(end) {
            end -= 1;
        }
        Self(self.0[..end].to_owned())
    }
}

impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a text came from; a secret may go back there and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// A workspace file, by its canonical path.
    File(&'a str),
    /// Anything else: a prompt, the output of a command, the model.
    Other,
}

/// Why a placeholder was not replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The secret belongs to another file, or is wanted in a command.
    #[error("{placeholder} stands for a secret; it can only be written back to the file that it came from{}", from(.home))]
    Elsewhere {
        /// The placeholder.
        placeholder: String,
        /// The file that it came from, if any.
        home: Option<String>,
    },
}

fn from(home: &Option<String>) -> String {
    home.as_ref().map(|file| format!(" ({file})")).unwrap_or_default()
}

struct Secret {
    value: String,
    homes: Vec<String>,
}

#[derive(Default)]
struct Known {
    /// placeholder -> secret
    secrets: HashMap<String, Secret>,
    /// value -> placeholder
    placeholders: HashMap<String, String>,
}

/// Finds secrets and remembers what each placeholder stands for. One a session; nothing is written to disk.
pub struct Redactor {
    known: Mutex<Known>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(..)")
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        for secret in self.secrets.values_mut() {
            secret.value.zeroize();
        }
        for (mut value, _) in self.placeholders.drain() {
            value.zeroize();
        }
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new()
    }
}

impl Redactor {
    /// A redactor with the built-in rules.
    #[must_use]
    pub fn new() -> Self {
        Self { known: Mutex::default() }
    }

    /// Replaces every detectable secret in `text` by a placeholder.
    #[must_use]
    pub fn clean(&self, text: &str, source: Source<'_>) -> Clean {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Only a file is put back, and has to be put back exactly: there, what looks like a placeholder is hidden too.
        // Elsewhere a placeholder is a repeated one, and stays what it is, whatever the text around it looks like.
        let in_file = matches!(source, Source::File(_));
        let segments = if in_file { vec![(0, text.len())] } else { known.between_placeholders(text) };
        let mut spans = Vec::new();
        for &(from, to) in &segments {
            let found = rules::find(&text[from..to])
                .into_iter()
                .filter(|(_, _, rule)| in_file || *rule != rules::LITERAL);
            spans.extend(found.map(|(start, end, rule)| (from + start, from + end, rule)));
        }
        // A value seen once is a secret wherever it turns up, before or after; a scrap of one is not.
        let seen: HashMap<&str, &str> =
            spans.iter().map(|&(start, end, rule)| (&text[start..end], rule)).collect();
        let values = known.placeholders.keys().map(|value| (value.as_str(), KNOWN)).chain(seen);
        for (value, rule) in values.filter(|(value, _)| value.len() >= SHORTEST_KNOWN) {
            for &(from, to) in &segments {
                let again = text[from..to].match_indices(value);
                spans.extend(again.map(|(at, _)| (from + at, from + at + value.len(), rule)));
            }
        }
        if spans.is_empty() {
            return Clean(text.to_owned());
        }
        spans.sort_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for (start, end, rule) in spans {
            // Overlaps: what sticks out beyond the span before it is a secret as well.
            let start = start.max(done);
            if start >= end {
                continue;
            }
            out.push_str(&text[done..start]);
            out.push_str(&known.placeholder(rule, &text[start..end], source));
            done = end;
        }
        out.push_str(&text[done..]);
        Clean(out)
    }

    /// Puts the real values back into text that is about to be written to the file `path`.
    ///
    /// # Errors
    /// If a placeholder stands for a secret that did not come from that file.
    pub fn restore(&self, text: &str, path: &str) -> Result<String, RestoreError> {
        self.replace(text, Some(path))
    }

    /// Checks that `text`, which is about to leave for a command or a new place, holds no placeholder.
    ///
    /// # Errors
    /// If it does.
    pub fn check(&self, text: &str) -> Result<(), RestoreError> {
        self.replace(text, None).map(drop)
    }

    fn replace(&self, text: &str, path: Option<&str>) -> Result<String, RestoreError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(OPEN) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let end = rest.find(CLOSE).map(|end| end + CLOSE.len_utf8());
            let candidate = end.map(|end| &rest[..end]);
            match candidate.and_then(|placeholder| known.secrets.get_key_value(placeholder)) {
                Some((placeholder, secret)) => {
                    if !path.is_some_and(|path| secret.homes.iter().any(|home| home == path)) {
                        let home = secret.homes.first().cloned();
                        return Err(RestoreError::Elsewhere { placeholder: placeholder.clone(), home });
                    }
                    out.push_str(&secret.value);
                    rest = &rest[placeholder.len()..];
                }
                None => {
                    out.push_str(OPEN);
                    rest = &rest[OPEN.len()..];
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }
}

const OPEN: &str = "\u{2039}secret:";
const CLOSE: char = '\u{203a}';

/// A value that turns up again keeps its placeholder, whatever rule would find it now.
const KNOWN: &str = "known";
/// Bytes that a value must have to be looked for everywhere.
const SHORTEST_KNOWN: usize = 6;

impl Known {
    /// The parts of `text` that lie between placeholders of this session, as ranges of bytes.
    fn between_placeholders(&self, text: &str) -> Vec<(usize, usize)> {
        let mut segments = Vec::new();
        let mut done = 0;
        for (open, _) in text.match_indices(OPEN) {
            let Some(length) = text[open..].find(CLOSE) else { continue };
            let end = open + length + CLOSE.len_utf8();
            if open >= done && self.secrets.contains_key(&text[open..end]) {
                segments.push((done, open));
                done = end;
            }
        }
        segments.push((done, text.len()));
        segments
    }

    fn placeholder(&mut self, rule: &str, value: &str, source: Source<'_>) -> String {
        let placeholder = match self.placeholders.get(value) {
            Some(placeholder) => placeholder.clone(),
            None => {
                let placeholder = format!("{OPEN}{rule}:{}{CLOSE}", self.secrets.len() + 1);
                self.placeholders.insert(value.to_owned(), placeholder.clone());
                self.secrets
                    .insert(placeholder.clone(), Secret { value: value.to_owned(), homes: Vec::new() });
                placeholder
            }
        };
        if let (Source::File(path), Some(secret)) = (source, self.secrets.get_mut(&placeholder))
            && !secret.homes.iter().any(|home| home == path)
        {
            secret.homes.push(path.to_owned());
        }
        placeholder
    }
}

#[cfg(test)]
mod tests;
