//! Asking the person at the terminal.

use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;

use action::Action;
use gate::{Answer, Approver, Question};

use crate::grants;
use crate::status::Status;
use crate::terminal::{self, BOLD, DIM, styled};

/// What can be answered.
const CHOICES: &str = "[y] yes  [s] yes, for this session  [n] no  or say what to do instead: ";
/// The same for connections.
const NETWORK_CHOICES: &str =
    "[y] once  [s] for this session  [a] always  [n] no  or say what to do instead: ";
/// Lines of a diff that are shown before asking.
const DIFF_LINES: usize = 60;
/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 4096;

/// The person at the terminal, if there is one. What they allow for good is written to `network_file`.
pub(crate) fn approver(status: Rc<Status>, network_file: PathBuf) -> Option<Box<dyn Approver>> {
    // Not standard input: the prompt may have come from there.
    if somebody_is_there() { Some(Box::new(Person { status, network_file })) } else { None }
}

/// Whether a person can be asked.
pub(crate) fn somebody_is_there() -> bool {
    terminal::stderr_is_terminal() && File::open("/dev/tty").is_ok()
}

struct Person {
    status: Rc<Status>,
    network_file: PathBuf,
}

impl Approver for Person {
    fn ask<'a>(&'a self, question: Question<'a>) -> Pin<Box<dyn Future<Output = Answer> + 'a>> {
        Box::pin(async move {
            self.status.idle();
            show(&question);
            // What asks because of what is in view now, or because a rule says so, is not allowed for good.
            let lasting = match question.action {
                Action::Connect(connect) if question.decision.rule == policy::network::DEFAULT_DENY => {
                    Some(connect.destination.to_string())
                }
                _ => None,
            };
            loop {
                terminal::err(&styled(BOLD, if lasting.is_some() { NETWORK_CHOICES } else { CHOICES }));
                let Ok(Some(line)) = tokio::task::spawn_blocking(read_line).await else {
                    return Answer::Nobody;
                };
                match (parse(&line), &lasting) {
                    (Some(Answer::Always), Some(rule)) => match grants::allow(&self.network_file, rule) {
                        Ok(_) => return Answer::Always,
                        Err(failure) => terminal::error(&failure.message),
                    },
                    (Some(Answer::Always) | None, _) => {}
                    (Some(answer), _) => return answer,
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
        "a" | "always" => Answer::Always,
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
        assert_eq!(parse("a"), Some(Answer::Always));
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
