//! What an agent's commands want from the network, with and without a person to ask.

use std::fs;

use scripted::{Server, Turn, Wire};
use serde_json::json;

use super::web::Web;
use super::{place, refused};
use crate::approval::Terminal;
use crate::support::{Place, eventually, finish};

/// What only a question about a connection offers.
const ASKED: &str = "[a] always";

/// The client connects to `localhost`, a name that no rule allows and that may lead to this machine.
fn connect(web: &Web, path: &str) -> Turn {
    Turn::call(
        "run",
        json!({ "command": format!("python3 client.py tunnel localhost {} {path}", web.port()) }),
    )
}

/// An agent in a place with a server beside it.
struct Session {
    place: Place,
    web: Web,
    server: Server,
}

impl Session {
    fn new(turns: impl FnOnce(&Web) -> Vec<Turn>) -> Self {
        let web = Web::start("127.0.0.1");
        let mut turns = turns(&web);
        turns.push(Turn::text("finished"));
        Self { place: place(), server: Server::start(turns).unwrap(), web }
    }

    fn command(&self, server: &Server, options: &[&str]) -> std::process::Command {
        let mut command = self.place.run_command(server, Wire::OpenAi, &["--allow-private", "localhost"]);
        command.args(options).arg("hi");
        command
    }

    fn at_terminal(&self, options: &[&str]) -> Terminal {
        Terminal::start(&self.command(&self.server, options), &self.place)
    }

    fn at(&self) -> String {
        format!("localhost:{}", self.web.port())
    }

    /// Results of the tools so far, as the model got them.
    fn told(&self) -> String {
        self.server.requests().last().unwrap().raw.clone()
    }

    fn rules(&self) -> Option<String> {
        fs::read_to_string(self.place.home.path().join(".config/varvel/network.toml")).ok()
    }
}

fn asked(terminal: &Terminal, times: usize) {
    eventually(&format!("question {times}: {}", terminal.text()), || {
        terminal.text().matches(ASKED).count() == times
    });
}

#[test]
fn nobody_to_ask() {
    let session = Session::new(|web| vec![connect(web, "/1")]);
    let done = finish(&mut session.command(&session.server, &[]));
    assert_eq!(session.web.seen(), [""; 0]);
    assert_eq!(refused(&session.place), [(session.at(), "network.default-deny".into(), "tunnel".into())]);
    let told = session.told();
    for words in [
        "exit status 1",
        "nobody is there to be asked",
        "refused (network.default-deny): connecting to",
        &format!("--allow {}", session.at()),
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // The command failed and the model was told why; whether it goes on without is its own affair.
    assert_eq!(done.code, 0, "{done:?}");
    session.place.verify();
}

#[test]
fn a_rule_is_enough_without_anybody() {
    let session = Session::new(|web| vec![connect(web, "/1")]);
    let done = finish(&mut session.command(&session.server, &["--allow", &session.at()]));
    assert_eq!((done.code, session.web.seen()), (0, vec!["GET /1".to_owned()]), "{done:?}");
    assert!(session.told().contains("served /1"));
    let facts = super::facts(&session.place);
    assert_eq!((&facts["connections"], &facts["connections_refused"]), (&json!(1), &json!(0)));
    session.place.verify();
}

#[test]
fn what_a_rule_denies_is_not_asked_about() {
    let session = Session::new(|web| {
        let command = format!("python3 client.py url GET {}", web.url("/1"));
        vec![Turn::call("run", json!({ "command": command }))]
    });
    let mut terminal = session.at_terminal(&[]);
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    assert!(!terminal.text().contains("[y]"), "{}", terminal.text());
    assert_eq!(refused(&session.place)[0].1, "network.private-address");
    assert!(session.told().contains("refused (network.private-address)"));
    assert_eq!(session.web.seen(), [""; 0]);
}

#[test]
fn yes_is_for_once() {
    let session = Session::new(|web| vec![connect(web, "/1"), connect(web, "/2")]);
    let mut terminal = session.at_terminal(&[]);
    asked(&terminal, 1);
    let text = terminal.text();
    assert!(text.contains(&session.at()) && text.contains("network.default-deny"), "{text}");
    assert_eq!(session.web.seen(), [""; 0], "nothing happens before the answer");
    terminal.type_in("y\n");
    asked(&terminal, 2);
    assert_eq!(session.web.seen(), ["GET /1"]);
    terminal.type_in("n\n");
    terminal.end();
    assert_eq!(session.web.seen(), ["GET /1"]);
    assert_eq!(session.rules(), None);
    let intents = session.place.records("intent");
    let made = intents.iter().find(|record| record["action"]["kind"] == "connect").unwrap();
    assert_eq!(made["approval"]["scope"], "once");
    session.place.verify();
}

#[test]
fn yes_for_the_session() {
    let session = Session::new(|web| vec![connect(web, "/1"), connect(web, "/2"), connect(web, "/3")]);
    let mut terminal = session.at_terminal(&[]);
    asked(&terminal, 1);
    terminal.type_in("s\n");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    asked(&terminal, 1);
    assert_eq!(session.web.seen(), ["GET /1", "GET /2", "GET /3"]);
    assert_eq!(session.rules(), None);

    // Another session knows nothing of it.
    let server = Server::start(vec![connect(&session.web, "/4"), Turn::text("finished")]).unwrap();
    finish(&mut session.command(&server, &[]));
    assert_eq!(session.web.seen().len(), 3);
    session.place.verify();
}

#[test]
fn yes_for_good() {
    let session = Session::new(|web| vec![connect(web, "/1"), connect(web, "/2")]);
    let mut terminal = session.at_terminal(&[]);
    asked(&terminal, 1);
    terminal.type_in("a\n");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    asked(&terminal, 1);
    assert!(session.rules().unwrap().contains(&format!("allow = [\"{}\"]", session.at())));
    let scopes: Vec<_> = session
        .place
        .records("intent")
        .into_iter()
        .filter(|record| record["action"]["kind"] == "connect")
        .map(|record| record["approval"]["scope"].clone())
        .collect();
    assert_eq!(scopes[0], "always");

    // The next one does not ask, and nobody need be there.
    let server = Server::start(vec![connect(&session.web, "/3"), Turn::text("finished")]).unwrap();
    let done = finish(&mut session.command(&server, &[]));
    assert_eq!((done.code, session.web.seen().len()), (0, 3), "{done:?}");
    // It is this port of this host.
    let list = session.place.call(["network", "list"]);
    assert!(list.out.contains(&session.at()), "{list:?}");
    assert_eq!(session.place.call(["network", "check", "localhost"]).code, 3);
    session.place.verify();
}

#[test]
fn no_holds_for_the_session() {
    let session = Session::new(|web| {
        let again =
            format!("sh -c 'for n in 1 2 3; do python3 client.py tunnel localhost {}; done'", web.port());
        vec![connect(web, "/1"), connect(web, "/2"), Turn::call("run", json!({ "command": again }))]
    });
    let mut terminal = session.at_terminal(&[]);
    asked(&terminal, 1);
    terminal.type_in("n\n");
    terminal.end();
    asked(&terminal, 1);
    assert_eq!((session.web.seen().len(), session.rules()), (0, None));
    let told = session.told();
    assert!(told.contains("the person said no to this before"), "{told}");
    assert!(
        refused(&session.place)
            .iter()
            .all(|(at, rule, _)| *at == session.at() && rule == "network.default-deny")
    );
    session.place.verify();
}

#[test]
fn no_with_a_word_reaches_the_model() {
    let session = Session::new(|web| vec![connect(web, "/1")]);
    let mut terminal = session.at_terminal(&[]);
    asked(&terminal, 1);
    terminal.type_in("use the copy in vendor\n");
    terminal.end();
    assert!(session.told().contains("use the copy in vendor"), "{}", session.told());
    assert_eq!(session.web.seen(), [""; 0]);
}

/// One command, many connections at once: one question.
#[test]
fn many_connections_ask_once() {
    let session = Session::new(|web| {
        vec![Turn::call(
            "run",
            json!({ "command": format!("python3 client.py many 8 tunnel localhost {}", web.port()) }),
        )]
    });
    let mut terminal = session.at_terminal(&[]);
    asked(&terminal, 1);
    terminal.type_in("s\n");
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    asked(&terminal, 1);
    assert_eq!(session.web.seen().len(), 8);
    session.place.verify();
}

/// Nobody answers, and the command does not wait: the session goes on without, and ends.
#[test]
fn a_question_whose_command_is_gone() {
    let session = Session::new(|_| vec![Turn::call("run", json!({ "command": "sh impatient.sh" }))]);
    let script =
        format!("timeout 1 python3 client.py tunnel localhost {} /1; echo gone\n", session.web.port());
    fs::write(session.place.work.path().join("impatient.sh"), script).unwrap();
    let mut terminal = session.at_terminal(&[]);
    asked(&terminal, 1);
    assert_eq!(terminal.end(), 0, "{}", terminal.text());
    assert!(terminal.text().contains("gone") && terminal.text().contains("finished"), "{}", terminal.text());
    assert_eq!(session.web.seen(), [""; 0]);
    session.place.verify();
}

/// After secrets came into view a person decides about every destination, and not for good.
#[test]
fn a_file_of_secrets_in_view_asks_again() {
    let read = Turn::call("read", json!({ "path": ".env" }));
    let mut session =
        Session::new(|web| vec![connect(web, "/1"), read, connect(web, "/2"), connect(web, "/3")]);
    session.place = session.place.with(".env", "TOKEN=abc\n");
    let mut terminal = session.at_terminal(&["--allow", &session.at()]);
    terminal.see("[y] yes");
    assert_eq!(session.web.seen(), ["GET /1"], "a rule allowed it before");
    terminal.type_in("y\n");
    terminal.see("flow.restricted-stays-here");
    eventually("the question about the connection", || terminal.text().matches("[y]").count() == 2);
    assert!(!terminal.text().contains(ASKED), "{}", terminal.text());
    terminal.type_in("a\n");
    eventually("the question again", || terminal.text().matches("[y]").count() == 3);
    assert_eq!((session.web.seen().len(), session.rules()), (1, None));
    terminal.type_in("y\n");
    eventually("the next question", || terminal.text().matches("[y]").count() == 4);
    terminal.type_in("n\n");
    terminal.end();
    assert_eq!(session.web.seen(), ["GET /1", "GET /2"]);
    assert_eq!(session.rules(), None);
    let last = refused(&session.place).pop().unwrap();
    assert_eq!(last.1, "flow.restricted-stays-here");
    session.place.verify();
}

#[test]
fn observing_connects_to_nothing() {
    let session = Session::new(|web| vec![connect(web, "/1")]);
    let mut command = session.place.varvel();
    command.args(["run", "--mode", "observe", "--model", "scripted", "--base-url"]);
    command.arg(session.server.url(Wire::OpenAi)).args([
        "--allow",
        &session.at(),
        "--allow-private",
        "localhost",
        "hi",
    ]);
    let done = finish(&mut command);
    assert_eq!((done.code, session.web.seen().len()), (3, 0), "{done:?}");
}
