//! Changes as unified diffs.

use std::time::Duration;

use similar::TextDiff;

/// How long the shortest diff is looked for; then a longer one is taken.
const PATIENCE: Duration = Duration::from_millis(500);

/// The change from `before` to `after` as a unified diff with three lines of context; empty when they are equal.
/// For content that is not text, one line that says so.
#[must_use]
pub fn unified(path: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> String {
    if before == after {
        return String::new();
    }
    let side = |content: Option<&[u8]>, prefix: &str| match content {
        Some(_) => format!("{prefix}/{path}"),
        None => "/dev/null".to_owned(),
    };
    let names = (side(before, "a"), side(after, "b"));
    let text = |content: Option<&[u8]>| std::str::from_utf8(content.unwrap_or_default()).map(str::to_owned);
    match (text(before), text(after)) {
        (Ok(before), Ok(after)) => {
            let diff = TextDiff::configure().timeout(PATIENCE).diff_lines(&before, &after);
            diff.unified_diff().header(&names.0, &names.1).to_string()
        }
        _ => format!("--- {}\n+++ {}\n(binary content differs)\n", names.0, names.1),
    }
}
