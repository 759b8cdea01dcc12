//! The order of the pipeline: what is asked, recorded and done, and what is not.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use action::{
    Action, Actor, Autonomy, Command, Confidentiality, Connect, Decision, Destination, Effect, FileRead,
    ModelCall, Reach, Root, SessionId, Verdict, Via,
};
use ledger::{Entries, Ledger, Outcome, Status};
use policy::Policy;

use super::*;

struct Done;

impl Report for Done {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Done)
    }

    fn usage(&self) -> Usage {
        Usage { input_tokens: 10, output_tokens: 5, cost_micro_usd: 7 }
    }
}

#[derive(Debug)]
struct Broken;

impl Report for Broken {
    fn outcome(&self) -> Outcome {
        Outcome::new(Status::Failed)
    }
}

/// Answers as told, and counts the questions.
struct Scripted(Answer, std::rc::Rc<Cell<usize>>);

impl Approver for Scripted {
    fn ask<'a>(&'a self, _: Question<'a>) -> Pin<Box<dyn Future<Output = Answer> + 'a>> {
        self.1.set(self.1.get() + 1);
        Box::pin(std::future::ready(self.0.clone()))
    }
}

/// Everything here is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

struct Place {
    dir: tempfile::TempDir,
    root: Root,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        std::fs::write(dir.path().join("work/a.txt"), "a").unwrap();
        std::fs::write(dir.path().join("work/.env"), "a").unwrap();
        let root = Root::open(&dir.path().join("work")).unwrap();
        Self { dir, root }
    }

    fn gate(&self, level: Autonomy, limits: Limits, approver: impl Approver + 'static) -> Gate {
        let actor = Actor { person: "p".into(), agent: "a".into(), session: SessionId::new("s") };
        let ledger = Ledger::open(&self.dir.path().join("ledger")).unwrap();
        Gate::new(actor, Policy::new(level), limits, Box::new(approver), ledger)
    }

    fn records(&self) -> Vec<String> {
        let entries = Entries::open(&self.dir.path().join("ledger")).unwrap();
        entries.map(|entry| entry["record"]["type"].as_str().unwrap().to_owned()).collect()
    }

    fn command(&self) -> Command {
        Command {
            argv: vec!["true".into()],
            directory: self.root.resolve(".").unwrap(),
            profile: "workspace".into(),
            privileges: Vec::new(),
            timeout: None,
        }
    }

    fn read(&self, path: &str) -> FileRead {
        FileRead { path: self.root.resolve(path).unwrap() }
    }
}

fn model(host: &str) -> ModelCall {
    ModelCall {
        provider: "p".into(),
        model: "m".into(),
        reach: Reach::Server(Destination { host: host.into(), port: 443 }),
        request: action::Digest::of(b""),
        bytes: 0,
    }
}

#[test]
fn the_intent_is_on_record_before_the_effect_and_the_outcome_after() {
    let place = Place::new();
    let gate = place.gate(Autonomy::Auto, Limits::default(), Nobody);
    let _ = now(gate.perform(place.command(), async |_| Ok::<_, Broken>(Done))).unwrap();
    assert_eq!(place.records(), ["intent", "outcome"]);
    let during = Cell::new(0);
    now(gate.perform(place.command(), async |authorized| {
        during.set(place.records().len());
        assert!(matches!(authorized.action().action(), Action::Command(_)));
        Err::<Done, _>(Broken)
    }))
    .err()
    .unwrap();
    assert_eq!(during.get(), 3, "two of the first, and the intent of this one");
    assert_eq!(place.records().len(), 4, "a failure is an outcome");
}

#[test]
fn what_is_refused_is_recorded_and_not_done() {
    let place = Place::new();
    let gate = place.gate(Autonomy::Observe, Limits::default(), Nobody);
    let result = now(gate.perform(place.command(), async |_| -> Result<Done, Broken> { panic!("it ran") }));
    assert!(matches!(result, Err(GateError::Refused { by_person: false, .. })));
    assert_eq!(place.records(), ["refused"]);
    let gate = place.gate(Autonomy::Ask, Limits::default(), Nobody);
    let result = now(gate.perform(place.command(), async |_| -> Result<Done, Broken> { panic!("it ran") }));
    assert!(matches!(result, Err(GateError::Unanswered { .. })));
    assert_eq!(place.records(), ["refused", "refused"]);
}

#[test]
fn a_person_is_asked_once_for_a_session_and_each_time_otherwise() {
    for (answer, questions) in [(Answer::Once, 2), (Answer::Session, 1), (Answer::Always, 1)] {
        let place = Place::new();
        let count = std::rc::Rc::new(Cell::new(0));
        let gate = place.gate(Autonomy::Ask, Limits::default(), Scripted(answer, std::rc::Rc::clone(&count)));
        for _ in 0..2 {
            assert!(now(gate.perform(place.command(), async |_| Ok::<_, Broken>(Done))).is_ok());
        }
        assert_eq!(count.get(), questions);
    }
    let place = Place::new();
    let no = Answer::No { instead: Some("do that".into()) };
    let gate = place.gate(Autonomy::Ask, Limits::default(), Scripted(no, std::rc::Rc::default()));
    let result = now(gate.perform(place.command(), async |_| -> Result<Done, Broken> { panic!("it ran") }));
    let Err(GateError::Refused { decision, by_person: true }) = result else { panic!("not refused") };
    assert_eq!(decision.reason, "do that");
}

#[test]
fn what_was_read_from_a_file_of_secrets_does_not_go_to_a_model_elsewhere() {
    let place = Place::new();
    let gate = place.gate(Autonomy::Auto, Limits::default(), Scripted(Answer::Once, std::rc::Rc::default()));
    let ask = |host: &str| now(gate.perform(model(host), async |_| Ok::<_, Broken>(Done)));
    assert!(now(gate.perform(place.read("a.txt"), async |_| Ok::<_, Broken>(Done))).is_ok());
    assert!(ask("model.invalid").is_ok(), "ordinary files may go to the model that the person chose");
    assert!(now(gate.perform(place.read(".env"), async |_| Ok::<_, Broken>(Done))).is_ok());
    assert_eq!(gate.context().confidentiality, Confidentiality::Restricted);
    let result = ask("model.invalid");
    assert!(matches!(result, Err(GateError::Refused { .. })), "restricted data stays on this machine");
    assert!(ask("127.0.0.1").is_ok());
}

#[test]
fn limits_hold() {
    let place = Place::new();
    let ask = |gate: &Gate| now(gate.perform(model("127.0.0.1"), async |_| Ok::<_, Broken>(Done)));
    for (limits, calls) in [
        (Limits { steps: Some(2), ..Limits::default() }, 2),
        (Limits { tokens: Some(30), ..Limits::default() }, 2),
        (Limits { cost_micro_usd: Some(15), ..Limits::default() }, 3),
        (Limits { time: Some(std::time::Duration::ZERO), ..Limits::default() }, 0),
    ] {
        let gate = place.gate(Autonomy::Auto, limits, Nobody);
        let done = (0..10).take_while(|_| ask(&gate).is_ok()).count();
        assert_eq!(done, calls, "{limits:?}");
        assert_eq!(gate.steps(), calls as u64);
    }
}

#[test]
fn what_is_dropped_half_way_is_recorded_as_stopped() {
    let place = Place::new();
    let gate = place.gate(Autonomy::Auto, Limits::default(), Nobody);
    {
        let mut future = Box::pin(gate.perform(place.command(), async |_| {
            std::future::pending::<()>().await;
            Ok::<_, Broken>(Done)
        }));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(place.records(), ["intent"]);
    }
    assert_eq!(place.records(), ["intent", "outcome"]);
}

#[test]
fn no_record_no_action() {
    let place = Place::new();
    let gate = place.gate(Autonomy::Auto, Limits::default(), Nobody);
    // Somebody cuts the ledger short under the running session.
    let _ = now(gate.perform(place.command(), async |_| Ok::<_, Broken>(Done))).unwrap();
    std::fs::File::options()
        .write(true)
        .open(place.dir.path().join("ledger/entries.jsonl"))
        .unwrap()
        .set_len(10)
        .unwrap();
    let result = now(gate.perform(place.command(), async |_| -> Result<Done, Broken> { panic!("it ran") }));
    assert!(matches!(result, Err(GateError::Ledger(_))));
}

fn connect(host: &str, port: u16) -> Connect {
    let destination = Destination { host: host.into(), port };
    Connect { destination, via: Via::Tunnel, method: None, path: None }
}

#[test]
fn answers_about_connections_are_remembered_by_host_and_port() {
    let go = |gate: &Gate, host: &str, port| {
        now(gate.perform(connect(host, port), async |_| Ok::<_, Broken>(Done))).is_ok()
    };
    let no = Answer::No { instead: None };
    for (answer, expected) in [(Answer::Session, true), (Answer::Always, true), (no, false)] {
        let place = Place::new();
        let count = std::rc::Rc::new(Cell::new(0));
        let gate =
            place.gate(Autonomy::Auto, Limits::default(), Scripted(answer, std::rc::Rc::clone(&count)));
        for _ in 0..3 {
            assert_eq!(go(&gate, "example.org", 443), expected);
        }
        assert_eq!(count.get(), 1);
        assert_eq!(go(&gate, "example.org", 22), expected);
        assert_eq!(go(&gate, "example.com", 443), expected);
        assert_eq!(count.get(), 3, "another port and another host are other questions");
        let kind = if expected { "intent" } else { "refused" };
        let recorded = place.records().iter().filter(|record| *record == kind).count();
        assert_eq!(recorded, 5, "each of them is on record");
    }
}

#[test]
fn always_is_on_record() {
    let place = Place::new();
    let gate =
        place.gate(Autonomy::Auto, Limits::default(), Scripted(Answer::Always, std::rc::Rc::default()));
    let _ = now(gate.perform(connect("example.org", 443), async |_| Ok::<_, Broken>(Done))).unwrap();
    let first = Entries::open(&place.dir.path().join("ledger")).unwrap().next().unwrap();
    assert_eq!(first["record"]["approval"]["scope"], "always");
}

#[test]
fn a_refused_connection_is_on_record() {
    let place = Place::new();
    let gate = place.gate(Autonomy::Auto, Limits::default(), Nobody);
    let decision = Decision::new(Verdict::Deny, "network.private-address", "it leads home");
    gate.refuse_connection(connect("example.org", 443), decision).unwrap();
    assert_eq!(place.records(), ["refused"]);
}

#[test]
fn a_yes_before_secrets_were_read_is_none_afterwards() {
    let place = Place::new();
    let count = std::rc::Rc::new(Cell::new(0));
    let says = Scripted(Answer::Session, std::rc::Rc::clone(&count));
    let gate = place.gate(Autonomy::Auto, Limits::default(), says);
    let go = || now(gate.perform(connect("example.org", 443), async |_| Ok::<_, Broken>(Done))).is_ok();
    assert!(go() && go());
    assert_eq!(count.get(), 1);
    assert!(now(gate.perform(place.read(".env"), async |_| Ok::<_, Broken>(Done))).is_ok());
    assert_eq!(count.get(), 2, "reading it asks");
    assert!(go() && go());
    assert_eq!(count.get(), 3, "and so does connecting, once again");
}
