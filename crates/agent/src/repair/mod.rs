//! Repair: the strategy for small local models.
//!
//! The program runs the tests, finds out which functions the failure concerns, shows the model one of them with the
//! failing output, and asks for the corrected function only. The answer is spliced in and the tests run again; what
//! does not help is taken back. Measured: see `cargo xtask repair`.

mod code;
mod locate;
mod tests_command;

use std::collections::HashSet;
use std::time::Duration;

use action::{Command, Effect, FileRead, FileWrite, Root, Target};
use gate::{Gate, GateError};
use ledger::LedgerError;
use llm::{ChatRequest, Message, Model};
use redact::{Clean, Redactor, Source};
use sandbox::{CommandOutput, Exit, Io};
use tools::Note;
use workspace::{Change, Content};

use crate::event::{AgentEvent, Events};
use crate::session::{AgentError, Stop, ask};
use crate::summary::Summary;

pub use tests_command::detect as detect_tests;

/// For fuzzing: a repository's file, a test's output and a model's answer meet. Returns the file with the answer in
/// place of the first suspected function.
#[doc(hidden)]
#[must_use]
pub fn meet(path: &str, file: &str, output: &str, answer: &str) -> Option<String> {
    let language = Language::of(path)?;
    let files = [locate::SourceFile::new(path.to_owned(), language, file)];
    let candidate = locate::rank(&files, locate::relevant(output, OUTPUT_SHOWN)).into_iter().next()?;
    code::splice(language, file, &candidate.function, &code::block(answer))
}

use code::{Function, Language};
use locate::Candidate;

/// Longest a test run may take.
const TEST_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of test output that are kept, and that the model sees.
const OUTPUT_KEPT: usize = 64 * 1024;
const OUTPUT_SHOWN: usize = 1400;
/// Functions that are tried.
const FUNCTIONS: usize = 4;
/// Temperature of the attempts after the first round.
const WARM: f64 = 0.7;

const SYSTEM: &str = "You fix bugs in code. You answer with the corrected function and nothing else.";

/// One run of the strategy.
pub struct Repair<'a> {
    /// The gate.
    pub gate: &'a Gate,
    /// The model.
    pub model: &'a dyn Model,
    /// The workspace.
    pub root: &'a Root,
    /// Secrets never reach the model.
    pub redactor: &'a Redactor,
    /// The shell line that runs the tests.
    pub tests: String,
    /// Most attempts.
    pub attempts: usize,
    /// What happened, even when it is dropped half-way.
    pub summary: &'a mut Summary,
    /// The attempt that is in a file now and not yet known to be right; see [`take_back`].
    pub trial: &'a mut Option<Trial>,
}

/// An attempt that was written to a file.
#[derive(Debug, Clone)]
pub struct Trial {
    path: String,
    before: Content,
}

/// How a repair ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The tests passed before anything was changed.
    NothingToRepair(String),
    /// The tests pass now. The text is for the person.
    Fixed(String),
    /// They do not, and every file is as it was.
    NotFixed(String),
    /// A limit was reached; every file is as it was.
    Limit(String),
}

/// Why an attempt or the whole strategy could not go on.
enum Halt {
    Error(AgentError),
    Limit(String),
    /// A refusal, told to the person.
    Told(String),
}

impl From<AgentError> for Halt {
    fn from(error: AgentError) -> Self {
        Self::Error(error)
    }
}

impl From<LedgerError> for Halt {
    fn from(error: LedgerError) -> Self {
        Self::Error(error.into())
    }
}

impl Repair<'_> {
    /// Repairs until the tests pass or the attempts are used up.
    ///
    /// # Errors
    /// If the model cannot be asked or the ledger cannot be written.
    pub async fn run(&mut self, task: &str, events: &mut dyn Events) -> Result<Ending, AgentError> {
        let worked = self.work(task, events).await;
        // Whatever happened: an attempt that is not known to be right does not stay.
        if let Some(trial) = self.trial.take() {
            take_back(self.gate, self.root, &trial).await?;
        }
        match worked {
            Ok(ending) => Ok(ending),
            Err(Halt::Limit(why)) => Ok(Ending::Limit(why)),
            Err(Halt::Told(why)) => Ok(Ending::NotFixed(why)),
            Err(Halt::Error(error)) => Err(error),
        }
    }

    async fn work(&mut self, task: &str, events: &mut dyn Events) -> Result<Ending, Halt> {
        let (passed, output) = self.run_tests(events).await?;
        if passed {
            let answer = format!("The tests pass already (`{}`); nothing was changed.", self.tests);
            return Ok(Ending::NothingToRepair(answer));
        }
        let candidates = self.candidates(&output).await?;
        if candidates.is_empty() {
            let answer = "The tests fail, but their output leads to no function in a language that is understood \
                          (Python, Rust, JavaScript, Go). Nothing was changed.";
            return Ok(Ending::NotFixed(answer.to_owned()));
        }
        let names: Vec<&str> = candidates.iter().map(|c| c.function.name.as_str()).collect();
        events.event(&AgentEvent::Notice { text: &format!("suspected: {}", names.join(", ")) });
        let task = self.redactor.clean(task, Source::Other);
        let mut seen = HashSet::new();
        for attempt in 0..self.attempts {
            let candidate = &candidates[attempt % candidates.len()];
            // A first round without chance, one answer for each function; then warmer, each with its own seed.
            let round = u32::try_from(attempt / candidates.len()).unwrap_or(u32::MAX);
            let about = format!("attempt {}: {} in {}", attempt + 1, candidate.function.name, candidate.path);
            events.event(&AgentEvent::Notice { text: &about });
            let proposal = self.propose(&task, &output, candidate, round, events).await?;
            let Some(new) = proposal.filter(|new| seen.insert((candidate.path.clone(), new.clone()))) else {
                events.event(&AgentEvent::Notice {
                    text: "rejected: unchanged, tried before, or not a function",
                });
                continue;
            };
            let before = self.read(&candidate.path).await?;
            if before.bytes == new.as_bytes() {
                continue;
            }
            *self.trial = Some(Trial { path: candidate.path.clone(), before: before.clone() });
            let change = self.write(&candidate.path, &before, new.as_bytes()).await?;
            let (passed, _) = self.run_tests(events).await?;
            if passed {
                *self.trial = None;
                self.summary.add(Note::Changed(change));
                return Ok(Ending::Fixed(format!(
                    "Fixed `{}` in {}; the tests pass now (`{}`).",
                    candidate.function.name, candidate.path, self.tests
                )));
            }
            if let Some(trial) = self.trial.take() {
                take_back(self.gate, self.root, &trial).await?;
            }
        }
        Ok(Ending::NotFixed(format!(
            "Not fixed: none of {} attempts made the tests pass (`{}`). Every file is as it was.",
            self.attempts, self.tests
        )))
    }

    /// Asks for a corrected function; returns the whole file with it in place.
    async fn propose(
        &self,
        task: &Clean,
        output: &str,
        candidate: &Candidate,
        round: u32,
        events: &mut dyn Events,
    ) -> Result<Option<String>, Halt> {
        let source = Source::File(&candidate.path);
        let function = self.redactor.clean(&candidate.function.text, source);
        let output = self.redactor.clean(locate::relevant(output, OUTPUT_SHOWN), Source::Other);
        let fence = candidate.language.fence();
        let text = [
            task.clone(),
            Clean::fixed("\n\nThe tests fail:\n```\n"),
            output,
            Clean::fixed("\n```\n\nThe bug is in this function:\n```"),
            Clean::fixed(fence),
            Clean::fixed("\n"),
            function,
            Clean::fixed("\n```\n\nAnswer with the whole corrected function in one code block."),
        ];
        let request = ChatRequest {
            system: Clean::fixed(SYSTEM),
            messages: vec![Message::User(Clean::join(&text, ""))],
            tools: Vec::new(),
            max_output_tokens: 700,
            temperature: Some(if round == 0 { 0.0 } else { WARM }),
            stop: if candidate.prefix(self.model).is_some() { vec!["```".to_owned()] } else { Vec::new() },
            prefix: candidate.prefix(self.model),
            seed: Some(round),
            stream: true,
        };
        let reply = ask(self.gate, self.model, &request, events).await.map_err(|stop| match stop {
            Stop::Limit(why) => Halt::Limit(why),
            Stop::Error(error) => Halt::Error(error),
        })?;
        let Ok(answer) = self.redactor.restore(&code::block(&reply.text), &candidate.path) else {
            return Ok(None);
        };
        let file = self.read(&candidate.path).await?;
        let Some(text) = file.text() else { return Ok(None) };
        Ok(code::splice(candidate.language, text, &candidate.function, &answer))
    }

    /// Functions that the failure may come from, the likeliest first.
    async fn candidates(&self, output: &str) -> Result<Vec<Candidate>, Halt> {
        let mut files = Vec::new();
        for path in locate::source_files(self.root) {
            let Some(language) = Language::of(&path) else { continue };
            let content = self.read(&path).await?;
            if let Some(text) = content.text() {
                files.push(locate::SourceFile::new(path, language, text));
            }
        }
        let mut candidates = locate::rank(&files, output);
        candidates.truncate(FUNCTIONS.min(self.attempts.max(1)));
        Ok(candidates)
    }

    async fn run_tests(&mut self, events: &mut dyn Events) -> Result<(bool, String), Halt> {
        events.event(&AgentEvent::Tool { name: "run", about: &self.tests });
        let effect = Command {
            argv: vec!["/bin/sh".into(), "-c".into(), self.tests.clone()],
            directory: self.root.resolve(".").map_err(|error| Halt::Told(error.to_string()))?,
            profile: "workspace".into(),
            privileges: Vec::new(),
            timeout: Some(TEST_TIMEOUT),
        };
        let what = effect.action().summary();
        let mut tap = |bytes: &[u8]| events.output(bytes);
        let io = Io::Captured { limit: OUTPUT_KEPT, tap: Some(&mut tap) };
        let ran = self.gate.perform(effect, async |command| sandbox::run(command, io).await).await;
        let ran: CommandOutput = ran.map_err(|error| self.told(what, error))?.value;
        let passed = ran.exit == Exit::Code(0);
        let about = format!("exit {}, {:.1} s", ran.code(), ran.duration.as_secs_f64());
        events.event(&AgentEvent::ToolDone { name: "run", ok: passed, about: &about });
        self.summary.add(Note::Ran { command: self.tests.clone(), code: ran.code() });
        // Paths relative to the workspace: shorter, and the same wherever it is.
        let prefix = format!("{}/", self.root.path().display());
        Ok((passed, ran.output.text().replace(&prefix, "")))
    }

    async fn read(&self, path: &str) -> Result<Content, Halt> {
        let target = self.root.resolve(path).map_err(|error| Halt::Told(error.to_string()))?;
        let read = self.gate.perform(FileRead { path: target }, async |file| workspace::read(file)).await;
        match read {
            Ok(content) => Ok(content.value),
            Err(GateError::Ledger(error)) => Err(error.into()),
            Err(error) => Err(Halt::Told(error.to_string())),
        }
    }

    async fn write(&mut self, path: &str, before: &Content, after: &[u8]) -> Result<Change, Halt> {
        let target = self.root.resolve(path).map_err(|error| Halt::Told(error.to_string()))?;
        let effect = replacing(target, path, before, after);
        let what = effect.action().summary();
        let wrote = self.gate.perform(effect, async |write| workspace::write(write)).await;
        Ok(wrote.map_err(|error| self.told(what, error))?.value)
    }

    /// A refusal ends the strategy, and is remembered.
    fn told<E: gate::Report + std::fmt::Display>(&mut self, what: String, error: GateError<E>) -> Halt {
        let text = error.to_string();
        match error {
            GateError::Ledger(error) => error.into(),
            GateError::Refused { decision, .. } if decision.rule.starts_with("limit.") => {
                Halt::Limit(decision.reason)
            }
            GateError::Refused { decision, .. } => {
                self.summary.add(Note::Refused { what, decision, unanswered: false });
                Halt::Told(text)
            }
            GateError::Unanswered { decision } => {
                self.summary.add(Note::Refused { what, decision, unanswered: true });
                Halt::Told(text)
            }
            _ => Halt::Told(text),
        }
    }
}

fn replacing(target: Target, path: &str, before: &Content, after: &[u8]) -> FileWrite {
    FileWrite {
        path: target,
        content: after.to_vec(),
        replaces: Some(before.digest),
        diff: workspace::unified(path, Some(&before.bytes), Some(after)),
    }
}

/// Puts a file back as it was before an attempt, if the attempt is still in it.
///
/// # Errors
/// If it cannot be put back; the error says which file.
pub async fn take_back(gate: &Gate, root: &Root, trial: &Trial) -> Result<(), AgentError> {
    let failed = |why: String| AgentError::NotTakenBack { path: trial.path.clone(), why };
    let target = root.resolve(&trial.path).map_err(|error| failed(error.to_string()))?;
    let read = gate.perform(FileRead { path: target.clone() }, async |file| workspace::read(file)).await;
    let now = read.map_err(|error| failed(error.to_string()))?.value;
    if now.bytes == trial.before.bytes {
        return Ok(());
    }
    let effect = replacing(target, &trial.path, &now, &trial.before.bytes);
    let wrote = gate.perform(effect, async |write| workspace::write(write)).await;
    wrote.map(drop).map_err(|error| failed(error.to_string()))
}

impl Candidate {
    /// The embedded model's answer is started for it; other models are asked in words.
    fn prefix(&self, model: &dyn Model) -> Option<&'static str> {
        (model.info().reach == action::Reach::Embedded).then(|| self.language.opening())
    }
}

impl Function {
    /// Lines that it spans, from 1, for people.
    #[must_use]
    pub(crate) fn contains(&self, line: usize) -> bool {
        (self.first_line..=self.last_line).contains(&line)
    }
}
