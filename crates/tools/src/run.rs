//! run: a shell command in the sandbox.

use std::time::Duration;

use action::Effect;
use redact::Source;
use sandbox::{Exit, Io};
use serde::Deserialize;
use serde_json::Value;

use crate::args::parse;
use crate::toolbox::{Failure, Note, Observer, Outcome, Toolbox};

/// Seconds a command may take when the model names no limit, and at most.
const DEFAULT_TIMEOUT: u64 = 120;
const MAX_TIMEOUT: u64 = 1800;

#[derive(Deserialize)]
struct RunArgs {
    command: String,
    timeout: Option<u64>,
}

impl Toolbox<'_> {
    pub(crate) async fn run(
        &self,
        arguments: &Value,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, Failure> {
        let args: RunArgs = parse("run", arguments)?;
        if args.command.trim().is_empty() {
            return Err(Failure::Told("the command is empty".into()));
        }
        self.redactor.check(&args.command)?;
        let limit = Duration::from_secs(args.timeout.unwrap_or(DEFAULT_TIMEOUT).clamp(1, MAX_TIMEOUT));
        let argv = vec!["/bin/sh".into(), "-c".into(), args.command.clone()];
        let effect = self
            .confinement
            .command(argv, self.target(".")?, None, Some(limit))
            .map_err(|error| Failure::Told(error.to_string()))?;
        let what = effect.action().summary();
        let mut tap = |bytes: &[u8]| observer.output(bytes);
        let io = Io::Captured { limit: self.limit, tap: Some(&mut tap) };
        let ran = self
            .gate
            .perform(effect, async |authorized| self.confinement.run(self.gate, authorized, io, None).await)
            .await
            .map_err(|error| Failure::from_gate(what, error))?
            .value;
        let refusals = ran.refusals();
        let ran = ran.command;
        let seconds = ran.duration.as_secs_f64();
        let (line, brief) = match &ran.exit {
            Exit::Code(code) => (format!("exit status {code}"), format!("exit {code}, {seconds:.1} s")),
            Exit::TimedOut(limit) => (
                format!("stopped: it ran longer than {} s; everything it started was ended", limit.as_secs()),
                format!("stopped after {} s", limit.as_secs()),
            ),
            Exit::Exceeded(what) => (
                format!("stopped: it used more than {what}; everything it started was ended"),
                format!("stopped: more than {what}"),
            ),
        };
        let mut text = format!("{line}\n{}", ran.output.text());
        let brief = if refusals.is_empty() { brief } else { format!("{brief}; {}", refusals.join("; ")) };
        for refusal in &refusals {
            text.push('\n');
            text.push_str(refusal);
        }
        let note = Note::Ran { command: args.command, code: ran.code() };
        let mut outcome = self.done(&text, Source::Other, brief, Some(note));
        outcome.ok = ran.exit == Exit::Code(0);
        Ok(outcome)
    }
}
