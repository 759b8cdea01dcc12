//! Asking the person at the terminal.

use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::pin::Pin;
use std::rc::Rc;

use action::Action;
use gate::{Answer, Approver, Nobody, Question};

use crate::status::Status;
use crate::terminal::{self, BOLD, DIM, styled};

/// Lines of a diff that are shown before asking.
const DIFF_LINES: usize = 60;
/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 4096;

/// The person at the terminal, if there is one; else nobody.
pub(crate) fn approver(status: Rc<Status>) -> Box<dyn Approver> {
    // Not standard input: the prompt may have come from there.
    if somebody_is_there() { Box::new(Person(status)) } else { Box::new(Nobody) }
}

/// Whether a person can be asked.
pub(crate) fn somebody_is_there() -> bool {
    terminal::stderr_is_terminal() && File::open("/dev/tty").is_ok()
}

struct Person(Rc<Status>);

impl Approver for Person {
    fn ask<'a>(&'a self, question: Question<'a>) -> Pin<Box<dyn Future<Output = Answer> + 'a>> {
        Box::pin(async move {
            self.0.idle();
            show(&question);
            loop {
                let choices = "[y] yes  [s] yes, for this session  [n] no  or say what to do instead: ";
                terminal::err(&styled(BOLD, choices));
                let Ok(Some(line)) = tokio::task::spawn_blocking(read_line).await else {
                    return Answer::Nobody;
                };
                if let Some(answer) = parse(&line) {
                    return answer;
                }
            }
        })
    }
}

fn show(question: &Question<'_>) {
    let Question { action, decision } = question;
    terminal::errln(&format!("\n{} {}", styled(BOLD, "?"), styled(BOLD, terminal::safe(&action.summary()))));
    if let Action::FileWrite(write) = action {
        let lines = write.diff.lines().count();
        for line in write.diff.lines().take(DIFF_LINES) {
            terminal::errln(&diff_line(line));
        }
        if lines > DIFF_LINES {
            terminal::errln(&styled(DIM, format!("  ... {} more lines", lines - DIFF_LINES)));
        }
    }
    terminal::errln(&styled(DIM, format!("  {} ({})", terminal::safe(&decision.reason), decision.rule)));
}

/// One line of a diff in its colour.
pub(crate) fn diff_line(line: &str) -> String {
    let shown = terminal::safe(line);
    match line.as_bytes().first() {
        Some(b'+') => format!("  {}", styled(terminal::GOOD, shown)),
        Some(b'-') => format!("  {}", styled(terminal::BAD, shown)),
        _ => format!("  {shown}"),
    }
}

/// A line typed at the terminal; `None` at its end.
pub(crate) fn read_line() -> Option<String> {
    let tty = File::open("/dev/tty").ok()?;
    let mut line = String::new();
    match BufReader::new(std::io::Read::take(tty, MAX_ANSWER)).read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line),
    }
}

/// `None` when the question must be asked again: an empty line is no answer.
fn parse(line: &str) -> Option<Answer> {
    let line = line.trim();
    Some(match line.to_ascii_lowercase().as_str() {
        "" => return None,
        "y" | "yes" => Answer::Once,
        "s" | "session" => Answer::Session,
        "n" | "no" => Answer::No { instead: None },
        // A slip of the finger must not become an instruction.
        short if short.chars().count() < 3 => return None,
        _ => Answer::No { instead: Some(line.to_owned()) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(parse(" Y \n"), Some(Answer::Once));
        assert_eq!(parse("session"), Some(Answer::Session));
        assert_eq!(parse("no"), Some(Answer::No { instead: None }));
        assert_eq!(
            parse("use the other file"),
            Some(Answer::No { instead: Some("use the other file".into()) })
        );
        for again in ["", "\n", "x", "yy"] {
            assert_eq!(parse(again), None, "{again:?}");
        }
    }
}
