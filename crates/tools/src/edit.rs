//! edit: exact replacement, or replacement of lines.

use serde::Deserialize;
use serde_json::Value;

use crate::args::parse;
use crate::toolbox::{Failure, Outcome, Toolbox};

#[derive(Deserialize)]
struct EditArgs {
    path: String,
    old: Option<String>,
    new: String,
    start: Option<usize>,
    end: Option<usize>,
}

impl Toolbox<'_> {
    pub(crate) async fn edit(&self, arguments: &Value) -> Result<Outcome, Failure> {
        let args: EditArgs = parse("edit", arguments)?;
        let target = self.target(&args.path)?;
        let path = target.display();
        let content = self.content(&target).await?;
        let Some(text) = content.text() else {
            return Err(Failure::Told(format!("{path} is a binary file; it cannot be edited as text")));
        };
        // The model saw placeholders; it edits what it saw.
        let seen = self.redactor.clean(text, redact::Source::File(&path));
        let after = match (&args.old, args.start) {
            (Some(old), _) if !old.is_empty() => exact(seen.as_str(), old, &args.new, &path)?,
            (_, Some(start)) => lines(seen.as_str(), start, args.end.unwrap_or(start), &args.new, &path)?,
            _ => {
                return Err(Failure::Told(
                    "edit needs old (the exact text to replace), or start and end (line numbers)".into(),
                ));
            }
        };
        self.replace(target, Some(content), &after).await
    }
}

/// Replaces the only occurrence of `old`.
fn exact(text: &str, old: &str, new: &str, path: &str) -> Result<String, String> {
    let found: Vec<usize> = text.match_indices(old).map(|(at, _)| at).collect();
    match found.as_slice() {
        [at] => Ok([&text[..*at], new, &text[at + old.len()..]].concat()),
        [] => Err(format!("the text to replace does not occur in {path}{}", near(text, old))),
        several => {
            let lines: Vec<String> = several
                .iter()
                .take(10)
                .map(|&at| (text[..at].matches('\n').count() + 1).to_string())
                .collect();
            Err(format!(
                "the text to replace occurs {} times in {path} (lines {}); add a line before or after it so that \
                 it occurs once, or use start and end",
                several.len(),
                lines.join(", ")
            ))
        }
    }
}

/// Where the same text stands with other white space, as a hint.
fn near(text: &str, old: &str) -> String {
    let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let Some(first) = old.lines().map(squeeze).find(|line| !line.is_empty()) else { return String::new() };
    let hit = text.lines().enumerate().find(|(_, line)| squeeze(line) == first);
    match hit {
        Some((index, line)) => {
            format!(
                "; line {} is similar: {line:?}. White space must match exactly; read the file again",
                index + 1
            )
        }
        None => "; read the file again: it may be different from what you remember".into(),
    }
}

/// Replaces whole lines, counted from 1; `end` of `start - 1` inserts before `start`.
fn lines(text: &str, start: usize, end: usize, new: &str, path: &str) -> Result<String, String> {
    let all: Vec<&str> = text.split_inclusive('\n').collect();
    if start == 0 || start > all.len() + 1 || end > all.len() || end + 1 < start {
        return Err(format!("{path} has {} lines; lines {start} to {end} cannot be replaced", all.len()));
    }
    let mut new = new.to_owned();
    let follows = end < all.len();
    if !new.is_empty() && !new.ends_with('\n') && (follows || text.ends_with('\n')) {
        new.push('\n');
    }
    Ok([all[..start - 1].concat(), new, all[end..].concat()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_wants_one_occurrence() {
        assert_eq!(exact("a b a c", "b", "X", "f").unwrap(), "a X a c");
        let error = exact("a\na\n", "a", "X", "f").unwrap_err();
        assert!(error.contains("2 times") && error.contains("lines 1, 2"), "{error}");
        let error = exact("    if x:\n", "if  x:", "X", "f").unwrap_err();
        assert!(error.contains("line 1 is similar"), "{error}");
    }

    #[test]
    fn lines_are_replaced_inserted_and_removed() {
        let text = "1\n2\n3\n";
        assert_eq!(lines(text, 2, 2, "two", "f").unwrap(), "1\ntwo\n3\n");
        assert_eq!(lines(text, 2, 3, "", "f").unwrap(), "1\n");
        assert_eq!(lines(text, 2, 1, "x", "f").unwrap(), "1\nx\n2\n3\n");
        assert_eq!(lines(text, 4, 3, "4", "f").unwrap(), "1\n2\n3\n4\n");
        assert_eq!(lines("a", 1, 1, "b", "f").unwrap(), "b");
        for (start, end) in [(0, 1), (5, 5), (2, 9), (3, 1)] {
            assert!(lines(text, start, end, "x", "f").is_err(), "{start}-{end}");
        }
    }
}
