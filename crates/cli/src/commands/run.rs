//! `varvel run`: an agent works on a directory.

use std::io::{self, IsTerminal, Read};
use std::rc::Rc;
use std::time::{Duration, Instant};

use action::{Autonomy, Reach, Root};
use agent::repair::{self, Ending, Repair, Trial};
use agent::{AgentError, AgentEvent, Events, Options, Session, StopCause, Summary, instructions};
use gate::{Gate, Limits, Nobody};
use llm::Model;
use redact::Redactor;
use serde_json::json;
use tools::{Confinement, Toolbox};

use super::progress::{observer, print_json};
use super::prove;
use super::trail::{Range, Trail, dollars, outcome};
use crate::args::{Output, RunArgs, Strategy};
use crate::confinement::confinement;
use crate::exit::{Exit, Failure};
use crate::home::Home;
use crate::status::Status;
use crate::{approve, model, sessions, signals, terminal};

/// Longest prompt, in bytes.
const MAX_PROMPT: u64 = 1 << 20;
/// What a run may cost when nothing is said, in millionths of a US dollar.
const DEFAULT_COST: u64 = 5_000_000;
/// Most tokens of one answer: for small windows, and for others.
const SMALL_ANSWER: u32 = 1024;
const ANSWER: u32 = 8192;
/// A window below this is small, in tokens.
const SMALL_WINDOW: u64 = 16_384;
/// Bytes of one tool result: for small windows, and for others.
const SMALL_RESULT: usize = 3_000;
const RESULT: usize = 24_000;

/// How the work ended.
struct End {
    exit: Exit,
    answer: String,
    reason: Option<String>,
    limited: bool,
}

/// Everything that one run works with.
struct Run<'a> {
    args: &'a RunArgs,
    prompt: String,
    gate: &'a Gate,
    root: &'a Root,
    model: &'a dyn Model,
    redactor: &'a Redactor,
    confinement: &'a Confinement,
    summary: Summary,
    trial: Option<Trial>,
}

pub(crate) async fn run(args: RunArgs) -> Result<Exit, Failure> {
    let started = Instant::now();
    let home = Home::find()?;
    let config = home.config()?;
    let root = home.workspace(&args.workspace)?;
    let prompt = prompt(&args)?;
    let mode = args.mode.map(Autonomy::from).or(config.mode).unwrap_or(Autonomy::Ask);
    let model = model::choose(&home, &config, &args)?;
    let info = model.info();
    let limits = limits(&args, info.price.is_some())?;
    let about = json!({
        "workspace": action::printable(root.path()), "mode": mode.to_string(), "provider": info.provider,
        "model": info.name,
    });
    let confinement = confinement(&home, &config, &args.network)?;
    let status = Rc::new(Status::default());
    let approver = approve::approver(Rc::clone(&status), home.network_file());
    if approver.is_none() && mode != Autonomy::Observe {
        // Nobody watches: what holds must have been seen to hold, on this kernel, with this program.
        prove::require(&home).await?;
    }
    let approver = approver.unwrap_or_else(|| Box::new(Nobody));
    let (gate, first) = sessions::agent(&home, mode, confinement.network.clone(), limits, approver, about)?;
    let redactor = Redactor::new();
    let mut events = observer(args.output, args.verbose, status);
    events.event(&AgentEvent::Session {
        id: gate.actor().session.as_str(),
        model: &format!("{} {}", info.provider, info.name),
        workspace: &crate::home::short(root.path()),
        mode: &mode.to_string(),
    });
    let mut run = Run {
        args: &args,
        prompt,
        gate: &gate,
        root: &root,
        model: &*model,
        redactor: &redactor,
        confinement: &confinement,
        summary: Summary::default(),
        trial: None,
    };
    let end = run.until_stopped(&mut *events).await?;
    drop(events);
    let summary = run.summary;
    let exit = match end.exit {
        Exit::DONE if !summary.refused.is_empty() => Exit::REFUSED,
        exit => exit,
    };
    let used = gate.used();
    let last = gate.end(json!({
        "exit": exit.code(), "steps": gate.steps(), "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens, "cost_micro_usd": used.cost_micro_usd,
    }))?;
    let network = match &info.reach {
        Reach::Server(destination) if gate.steps() > 0 => vec![destination.to_string()],
        _ => Vec::new(),
    };
    let trail = Trail {
        session: gate.actor().session.to_string(),
        outcome: outcome(exit, end.limited),
        exit: exit.code(),
        answer: end.answer,
        reason: end.reason,
        summary,
        network,
        steps: gate.steps(),
        input_tokens: used.input_tokens,
        output_tokens: used.output_tokens,
        cost_usd: info.price.map(|_| dollars(used)),
        seconds: started.elapsed().as_secs_f64(),
        ledger: Range { directory: home.ledger().display().to_string(), first, last },
    };
    match args.output {
        Output::Text => {
            // On a terminal the answer was shown as it came.
            if !trail.answer.is_empty() && (!terminal::stdout_is_terminal() || !streamed(&args)) {
                terminal::outln(&terminal::safe(&trail.answer));
            }
            trail.show(&home.ledger(), started.elapsed());
        }
        Output::Json | Output::StreamJson => print_json(&trail),
    }
    Ok(exit)
}

/// Whether the model's own text was shown while it came.
fn streamed(args: &RunArgs) -> bool {
    !args.no_stream
}

impl Run<'_> {
    /// Works until it is done, interrupted, or out of time. Whatever was under way then is stopped and recorded.
    async fn until_stopped(&mut self, events: &mut dyn Events) -> Result<End, Failure> {
        let limit = Duration::from_secs(self.args.max_time);
        let interrupted = signals::interrupted()?;
        let stopped = tokio::select! {
            result = self.work(events) => Err(result),
            exit = interrupted => Ok(End { exit, answer: String::new(), reason: Some("interrupted".into()), limited: false }),
            () = tokio::time::sleep(limit) => {
                let reason = format!("the time limit of {} s is reached; raise it with --max-time", limit.as_secs());
                Ok(End { exit: Exit::REFUSED, answer: String::new(), reason: Some(reason), limited: true })
            }
        };
        let result = match stopped {
            Ok(end) => {
                if let Some(trial) = self.trial.take() {
                    repair::take_back(self.gate, self.root, &trial).await.map_err(Failure::failed)?;
                }
                return Ok(end);
            }
            Err(result) => result,
        };
        let failed = |exit, error: &dyn std::fmt::Display| {
            Ok(End { exit, answer: String::new(), reason: Some(error.to_string()), limited: false })
        };
        match result {
            Ok(end) => Ok(end),
            Err(AgentError::Ledger(error)) => Err(error.into()),
            Err(AgentError::Model(error)) if error.is_unreachable() => failed(Exit::UNREACHABLE, &error),
            Err(error @ AgentError::Refused(_)) => failed(Exit::REFUSED, &error),
            Err(error) => failed(Exit::FAILED, &error),
        }
    }

    async fn work(&mut self, events: &mut dyn Events) -> Result<End, AgentError> {
        let tests = self.args.test.clone().or_else(|| repair::detect_tests(self.root));
        match (self.args.strategy, tests) {
            (Strategy::Repair, Some(tests)) => self.repair(tests, false, events).await,
            (Strategy::Repair, None) => Ok(End {
                exit: Exit::USAGE,
                answer: String::new(),
                reason: Some("it is not clear how to run the tests here; say so with --test LINE".into()),
                limited: false,
            }),
            (Strategy::Auto, Some(tests)) if self.model.info().small => {
                self.repair(tests, true, events).await
            }
            (Strategy::Auto | Strategy::Tools, _) => self.tools(events).await,
        }
    }

    async fn tools(&mut self, events: &mut dyn Events) -> Result<End, AgentError> {
        let small = self.model.info().context_tokens < SMALL_WINDOW;
        let system = instructions(self.root, self.gate, self.redactor).await?;
        let limit = if small { SMALL_RESULT } else { RESULT };
        let toolbox = Toolbox::new(self.root, self.gate, self.redactor, self.confinement, limit);
        let max_output_tokens = if small { SMALL_ANSWER } else { ANSWER };
        let options = Options { stream: !self.args.no_stream, max_output_tokens };
        let mut session =
            Session::new(self.gate, self.model, toolbox, self.redactor, system, options, &mut self.summary);
        let (answer, cause) = session.run(&self.prompt, events).await?;
        Ok(end(answer, cause))
    }

    async fn repair(
        &mut self,
        tests: String,
        or_tools: bool,
        events: &mut dyn Events,
    ) -> Result<End, AgentError> {
        let mut repair = Repair {
            gate: self.gate,
            model: self.model,
            root: self.root,
            redactor: self.redactor,
            tests,
            attempts: self.args.attempts,
            summary: &mut self.summary,
            trial: &mut self.trial,
        };
        let (answer, exit, reason) = match repair.run(&self.prompt, events).await? {
            Ending::NothingToRepair(_) if or_tools => {
                events.event(&AgentEvent::Notice {
                    text: "the tests pass, so this is not a repair; going on with tools",
                });
                return self.tools(events).await;
            }
            Ending::NothingToRepair(answer) | Ending::Fixed(answer) => (answer, Exit::DONE, None),
            Ending::NotFixed(answer) => (answer, Exit::FAILED, None),
            Ending::Limit(why) => (String::new(), Exit::REFUSED, Some(why)),
        };
        events.event(&AgentEvent::Text { text: &answer });
        let limited = reason.is_some();
        Ok(End { exit, answer, reason, limited })
    }
}

fn end(answer: String, cause: StopCause) -> End {
    let (exit, reason, limited) = match cause {
        StopCause::Done => (Exit::DONE, None, false),
        StopCause::Limit(why) => (Exit::REFUSED, Some(why), true),
        StopCause::Repeating => (
            Exit::REFUSED,
            Some("the model made the same call with the same result again and again".into()),
            true,
        ),
    };
    End { exit, answer, reason, limited }
}

fn limits(args: &RunArgs, price_known: bool) -> Result<Limits, Failure> {
    let cost = match (args.max_cost, price_known) {
        (Some(cost), true) => Some(cost),
        (Some(_), false) => {
            return Err(Failure::usage(
                "the price of this model is not known, so --max-cost cannot hold; add [prices.MODEL] with input and \
                 output (US dollars for a million tokens) to the configuration, or use --max-tokens",
            ));
        }
        (None, true) => Some(DEFAULT_COST),
        (None, false) => None,
    };
    Ok(Limits {
        steps: Some(args.max_steps),
        tokens: args.max_tokens,
        cost_micro_usd: cost,
        time: Some(Duration::from_secs(args.max_time)),
    })
}

fn prompt(args: &RunArgs) -> Result<String, Failure> {
    let text = match args.prompt.as_deref() {
        Some(text) if text != "-" => text.to_owned(),
        given => {
            let stdin = io::stdin();
            if given.is_none() && stdin.is_terminal() {
                return Err(Failure::usage("there is nothing to do: give a PROMPT, or pipe one in"));
            }
            let mut bytes = Vec::new();
            let failed = |error: io::Error| Failure::failed(format!("cannot read the prompt: {error}"));
            stdin.take(MAX_PROMPT + 1).read_to_end(&mut bytes).map_err(failed)?;
            if bytes.len() as u64 > MAX_PROMPT {
                return Err(Failure::usage("the prompt is longer than 1 MB"));
            }
            String::from_utf8(bytes).map_err(|_| Failure::usage("the prompt is not UTF-8 text"))?
        }
    };
    if text.trim().is_empty() { Err(Failure::usage("the prompt is empty")) } else { Ok(text) }
}
