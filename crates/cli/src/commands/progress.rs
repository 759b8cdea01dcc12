//! Showing what an agent does while it does it.

use std::rc::Rc;

use agent::{AgentEvent, Events};
use serde::Serialize;

use crate::args::Output;
use crate::status::Status;
use crate::terminal::{self, BAD, BOLD, DIM, GOOD, WARN, styled};

/// Lines of a command's output that are shown without `--verbose`.
const OUTPUT_LINES: usize = 12;
/// Longest line shown, in characters.
const WIDTH: usize = 160;

/// The observer that `--output` asks for.
pub(crate) fn observer(output: Output, verbose: bool, status: Rc<Status>) -> Box<dyn Events> {
    match output {
        Output::Text => Box::new(Human::new(verbose, status)),
        Output::Json => Box::new(Silent),
        Output::StreamJson => Box::new(Lines),
    }
}

/// `--output json`: only the end counts.
struct Silent;

impl Events for Silent {
    fn event(&mut self, _: &AgentEvent<'_>) {}
    fn output(&mut self, _: &[u8]) {}
}

/// `--output stream-json`.
struct Lines;

impl Events for Lines {
    fn event(&mut self, event: &AgentEvent<'_>) {
        print_json(event);
    }

    // Not looked at for secrets, so not for programs.
    fn output(&mut self, _: &[u8]) {}
}

/// One JSON object on one line of standard output.
pub(crate) fn print_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(line) => terminal::outln(&line),
        Err(error) => terminal::error(&error.to_string()),
    }
}

/// `--output text`.
struct Human {
    verbose: bool,
    /// Text of the model is being written and has not ended its line.
    in_text: bool,
    /// Text of the model that may be the answer, and is not shown yet.
    held: String,
    /// Lines of the current command's output so far, and the line that is not complete yet.
    lines: usize,
    partial: Vec<u8>,
    status: Rc<Status>,
}

impl Human {
    fn new(verbose: bool, status: Rc<Status>) -> Self {
        Self { verbose, in_text: false, held: String::new(), lines: 0, partial: Vec::new(), status }
    }

    fn say(&mut self, line: &str) {
        self.status.idle();
        self.end_text();
        terminal::errln(line);
    }

    /// The model's words. On a terminal they are the answer as it comes. Else the answer is printed once, at the end;
    /// words that turn out not to be the answer, because something follows, belong to the progress.
    fn text(&mut self, piece: &str) {
        let piece = terminal::safe(piece);
        if terminal::stdout_is_terminal() {
            self.status.idle();
            self.in_text = true;
            terminal::out(&piece);
        } else {
            self.held.push_str(&piece);
        }
    }

    fn end_text(&mut self) {
        if std::mem::take(&mut self.in_text) {
            terminal::out("\n");
        }
        let held = std::mem::take(&mut self.held);
        if !held.trim().is_empty() {
            terminal::errln(held.trim_end());
        }
    }

    fn output_line(&mut self, line: &[u8]) {
        self.lines += 1;
        if self.verbose || self.lines <= OUTPUT_LINES {
            let shown = terminal::line(&String::from_utf8_lossy(line), WIDTH);
            self.say(&styled(DIM, format!("  \u{2502} {shown}")));
        }
    }

    fn end_output(&mut self) {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.output_line(&line);
        }
        if !self.verbose && self.lines > OUTPUT_LINES {
            self.say(&styled(DIM, format!("  \u{2502} ... {} more lines", self.lines - OUTPUT_LINES)));
        }
        self.lines = 0;
    }
}

impl Events for Human {
    fn event(&mut self, event: &AgentEvent<'_>) {
        match *event {
            AgentEvent::Session { model, workspace, mode, .. } => {
                let what = format!("{} {model} {} {mode} {} {workspace}", DOT, DOT, DOT);
                self.say(&format!("{} {}", styled(BOLD, "varvel"), styled(DIM, what)));
                self.status.busy(format!("asking {model}"));
            }
            AgentEvent::Text { text } => self.text(text),
            AgentEvent::Reasoning { .. } | AgentEvent::Turn { .. } => {}
            AgentEvent::Tool { name, about } => {
                let about = terminal::line(about, WIDTH);
                let about = about.strip_prefix(name).unwrap_or(&about).trim_start().to_owned();
                self.say(&format!("{} {} {about}", styled(BOLD, "\u{2192}"), styled(BOLD, name)));
                self.status.busy(format!("{name} {about}"));
            }
            AgentEvent::ToolDone { ok, about, .. } => {
                self.end_output();
                let style = if ok { GOOD } else { BAD };
                self.say(&format!("  {}", styled(style, terminal::line(about, WIDTH))));
                self.status.busy("thinking".to_owned());
            }
            AgentEvent::Retry { attempt, seconds, why } => {
                let why = terminal::line(why, WIDTH);
                self.say(&styled(
                    WARN,
                    format!("attempt {attempt} failed ({why}); trying again in {seconds:.1} s"),
                ));
            }
            AgentEvent::Loading => self.status.busy("loading and asking the embedded model".to_owned()),
            AgentEvent::Compacted { before, after } => {
                let sizes = (terminal::bytes(before as u64), terminal::bytes(after as u64));
                self.say(&styled(DIM, format!("the context was made smaller: {} to {}", sizes.0, sizes.1)));
            }
            AgentEvent::Notice { text } => {
                self.say(&styled(DIM, terminal::line(text, WIDTH)));
                self.status.busy("thinking".to_owned());
            }
            _ => {}
        }
    }

    fn output(&mut self, bytes: &[u8]) {
        // Nothing that is not shown is kept.
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let room = WIDTH * 4;
            let line = piece.strip_suffix(b"\n").unwrap_or(piece);
            self.partial.extend(line.iter().take(room.saturating_sub(self.partial.len())));
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial);
                self.output_line(&line);
            }
        }
    }
}

impl Drop for Human {
    fn drop(&mut self) {
        self.status.idle();
        if self.in_text {
            terminal::out("\n");
        }
    }
}

/// Between the parts of a heading.
const DOT: &str = "\u{b7}";
