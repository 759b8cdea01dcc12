//! The line that says what is under way, on a terminal. One for everything that prints, so that a question is never
//! painted over.

use std::cell::RefCell;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal;

/// The line, when it is shown.
#[derive(Debug, Default)]
pub(crate) struct Status(RefCell<Option<ProgressBar>>);

impl Status {
    /// Shows that something is under way.
    pub(crate) fn busy(&self, what: String) {
        self.idle();
        if !terminal::stderr_is_terminal() {
            return;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(terminal::line(&what, 60));
        bar.enable_steady_tick(Duration::from_millis(120));
        *self.0.borrow_mut() = Some(bar);
    }

    /// Takes the line away, so that something can be printed.
    pub(crate) fn idle(&self) {
        if let Some(bar) = self.0.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
