//! Opening and closing what every effect needs: an actor, a ledger, a gate.

use action::{Actor, Autonomy, SessionId};
use gate::{Approver, Gate, Limits, Nobody};
use ledger::{Ledger, Sequence};
use policy::{BY_HAND, NetworkRules, Policy};
use serde_json::Value;

use crate::exit::Failure;
use crate::home::Home;

/// Version of the program, as recorded.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Name of the agent, as recorded.
const AGENT: &str = "varvel";

/// Starts a session of the agent. Returns the gate and the number of its first entry.
pub(crate) fn agent(
    home: &Home,
    mode: Autonomy,
    network: NetworkRules,
    limits: Limits,
    approver: Box<dyn Approver>,
    about: Value,
) -> Result<(Gate, Sequence), Failure> {
    open(home, AGENT, Policy::new(mode).with_network(network), limits, approver, about)
}

/// Starts a session of the person, for something typed by hand.
pub(crate) fn by_hand(home: &Home, about: Value) -> Result<(Gate, Sequence), Failure> {
    command(home, NetworkRules::default(), about)
}

/// The same for a command, whose connections these rules decide.
pub(crate) fn command(home: &Home, network: NetworkRules, about: Value) -> Result<(Gate, Sequence), Failure> {
    let policy = Policy::new(Autonomy::Observe).with_network(network);
    open(home, BY_HAND, policy, Limits::default(), Box::new(Nobody), about)
}

fn open(
    home: &Home,
    agent: &str,
    policy: Policy,
    limits: Limits,
    approver: Box<dyn Approver>,
    about: Value,
) -> Result<(Gate, Sequence), Failure> {
    let ledger = Ledger::open(&home.ledger())?;
    let session = SessionId::new(uuid::Uuid::now_v7().to_string());
    let actor = Actor { person: person(), agent: agent.to_owned(), session };
    let gate = Gate::new(actor, policy, limits, approver, ledger);
    let first = gate.start(VERSION, about)?;
    Ok((gate, first))
}

/// The operating-system user, by the kernel's word and not the environment's.
fn person() -> String {
    let id = nix::unistd::getuid();
    match nix::unistd::User::from_uid(id) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {id}"),
    }
}
