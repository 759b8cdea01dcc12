//! Printing. What comes from models, files and commands is made harmless first: it cannot move the cursor, change
//! colours or the title, or reorder what is shown.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};

pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();

/// Text without control characters (but tab and line feed) and without invisible characters that reorder text.
pub(crate) fn safe(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{061c}')
    };
    if text.contains(harmful) { Cow::Owned(text.replace(harmful, "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// As [`safe`], on one line of at most `most` characters.
pub(crate) fn line(text: &str, most: usize) -> String {
    let mut shown: String =
        safe(text).chars().map(|c| if c == '\n' || c == '\t' { ' ' } else { c }).take(most).collect();
    if text.chars().nth(most).is_some() {
        shown.pop();
        shown.push('\u{2026}');
    }
    shown
}

/// `text` in `style`; the streams below leave colours out where they do not belong.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes to standard output. When nobody reads it any more, the program ends as `cat` would.
pub(crate) fn out(text: &str) {
    let mut stream = anstream::stdout().lock();
    if stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_err() {
        std::process::exit(141);
    }
}

/// Writes a line to standard output.
pub(crate) fn outln(text: &str) {
    out(&format!("{text}\n"));
}

/// Writes to standard error; if that fails there is nobody to tell.
pub(crate) fn err(text: &str) {
    let mut stream = anstream::stderr().lock();
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

/// Writes a line to standard error.
pub(crate) fn errln(text: &str) {
    err(&format!("{text}\n"));
}

/// An error that ends the program.
pub(crate) fn error(message: &str) {
    errln(&format!("{} {}", styled(BAD.bold(), "error:"), safe(message)));
}

/// Something that a person should know.
pub(crate) fn warn(message: &str) {
    errln(&format!("{} {}", styled(WARN.bold(), "note:"), safe(message)));
}

pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// 1234567 as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// Bytes in the unit that a person would use.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => format!("{:.1} kB", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", number as f64 / 1e6),
        _ => format!("{:.2} GB", number as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_harmless() {
        assert_eq!(safe("a\x1b[31mb\u{202e}c\r\n\td"), "a\u{fffd}[31mb\u{fffd}c\u{fffd}\n\td");
        assert!(matches!(safe("plain\n"), Cow::Borrowed(_)));
        assert_eq!(line("a\nbc", 10), "a bc");
        assert_eq!(line("abcdef", 4), "abc\u{2026}");
    }

    #[test]
    fn numbers() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(bytes(1_117_320_768), "1.12 GB");
    }
}
