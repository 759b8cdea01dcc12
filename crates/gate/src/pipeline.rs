//! The pipeline. Read [`Gate::perform`] first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use action::{Action, Actor, Connect, Decision, Effect, Label, Labelled, Outside, Verdict};
use ledger::{Approval, Ledger, LedgerError, Outcome, Record, Sequence, Status};
use policy::Policy;

use crate::approval::{Answer, Approver, Grant, Question};
use crate::limits::{Limits, Meter, Usage};
use crate::turn::Turn;

/// An action that may be done, once: recorded, allowed, and bound to what was decided on.
///
/// Only [`Gate::perform`] makes one; executors take it by value.
#[derive(Debug)]
#[must_use = "an authorised action that is not executed leaves an intent without effect"]
pub struct Authorized<A> {
    action: A,
}

impl<A> Authorized<A> {
    /// What was authorised.
    pub fn action(&self) -> &A {
        &self.action
    }

    /// Uses it up.
    pub fn into_action(self) -> A {
        self.action
    }
}

/// What an executor says about what it did: for the ledger and the limits.
pub trait Report {
    /// Facts for the ledger: numbers and digests, never content.
    fn outcome(&self) -> Outcome;

    /// What it used.
    fn usage(&self) -> Usage {
        Usage::default()
    }
}

/// Why an action did not happen or did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError<E> {
    /// A rule, a limit or a person said no.
    #[error("refused by {}: {}", .decision.rule, .decision.reason)]
    Refused {
        /// The rule and why.
        decision: Decision,
        /// Whether a person said no, rather than a rule.
        by_person: bool,
    },
    /// It needs a person and nobody could be asked.
    #[error("needs a person's approval ({}: {}), and nobody is there to ask", .decision.rule, .decision.reason)]
    Unanswered {
        /// The rule and why.
        decision: Decision,
    },
    /// It could not be recorded, so it was not done (or its outcome could not be recorded).
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It was done and failed.
    #[error("{0}")]
    Failed(E),
}

/// The gate of one session.
pub struct Gate {
    actor: Actor,
    policy: Policy,
    limits: Limits,
    approver: Box<dyn Approver>,
    ledger: Ledger,
    state: Mutex<State>,
    /// A person is asked one thing at a time.
    turn: Turn,
}

struct State {
    context: Label,
    grants: Vec<Grant>,
    /// Connections that the person said no to: a program that tries again does not ask again.
    refusals: Vec<Grant>,
    meter: Meter,
}

impl Gate {
    /// The gate for a session of `actor`. Its context starts with what the person typed.
    #[must_use]
    pub fn new(
        actor: Actor,
        policy: Policy,
        limits: Limits,
        approver: Box<dyn Approver>,
        ledger: Ledger,
    ) -> Self {
        let state =
            State { context: Label::PERSON, grants: Vec::new(), refusals: Vec::new(), meter: Meter::new() };
        let (state, turn) = (Mutex::new(state), Turn::default());
        Self { actor, policy, limits, approver, ledger, state, turn }
    }

    /// Takes `effect` from wish to result. `execute` is called only if everything before it agreed, and the
    /// intent is on disk by then.
    ///
    /// # Errors
    /// See [`GateError`]. If the returned future is dropped half-way, the outcome is recorded as stopped.
    pub async fn perform<A, T, E>(
        &self,
        effect: A,
        execute: impl AsyncFnOnce(Authorized<A>) -> Result<T, E>,
    ) -> Result<Labelled<T>, GateError<E>>
    where
        A: Effect,
        T: Report,
        E: Report,
    {
        // Normalised by construction: paths in an effect are resolved handles.
        let action = effect.action();
        let context = self.context();

        // Policy, information flow, limits: the strictest decides.
        let decision = both(self.policy.decide(&self.actor, &action), flow::decide(context, &action))
            .stricter(self.state().meter.decide(&self.limits, &action));

        // Approval, where a person is needed.
        let approval = match decision.verdict {
            Verdict::Allow => None,
            Verdict::Deny => return Err(self.refuse(action, decision, context, false)?),
            Verdict::Ask => match self.ask(&action, &decision).await {
                Answer::Once => Some(self.approval("once")),
                Answer::Session => Some(self.approval("session")),
                Answer::Always => Some(self.approval("always")),
                Answer::No { instead } => {
                    let reason = instead.unwrap_or_else(|| "the person said no".to_owned());
                    let decision = Decision::new(Verdict::Deny, decision.rule, reason);
                    return Err(self.refuse(action, decision, context, true)?);
                }
                Answer::Nobody => {
                    self.record_refusal(action, decision.clone(), context)?;
                    return Err(GateError::Unanswered { decision });
                }
            },
        };

        // The record, durable before the effect.
        let recorded = action.clone();
        let actor = self.actor.clone();
        let intent = self.ledger.append_durable(&Record::Intent {
            actor,
            action: recorded,
            decision,
            approval,
            context,
        })?;
        let pending = Pending { ledger: &self.ledger, intent: Some(intent) };
        self.count_step(&action);

        // The effect, confined by its executor.
        let result = execute(Authorized { action: effect }).await;

        // The outcome, and the label of what came back.
        match result {
            Ok(value) => {
                self.state().meter.usage = self.used().plus(value.usage());
                let label = flow::label_of_result(&action, context, policy::is_secret);
                // What a person does by hand has no model whose context could be tainted.
                if self.actor.agent != policy::BY_HAND {
                    let mut state = self.state();
                    state.context = state.context.join(label);
                }
                pending.finish(value.outcome())?;
                Ok(Labelled { value, label })
            }
            Err(error) => {
                self.state().meter.usage = self.used().plus(error.usage());
                pending.finish(error.outcome())?;
                Err(GateError::Failed(error))
            }
        }
    }

    /// Records that something outside the workspace was asked for. It has no effect to be authorised: no handle of
    /// it exists.
    ///
    /// # Errors
    /// If it cannot be recorded.
    pub fn refuse_outside(&self, path: &str) -> Result<(), LedgerError> {
        let reason = "it is outside the workspace";
        let decision = Decision::new(Verdict::Deny, "workspace.outside", reason);
        self.record_refusal(Action::Outside(Outside { path: path.to_owned() }), decision, self.context())
    }

    /// Records that a connection was found out to lead where it must not: its name leads to a private address, its
    /// TLS names another host, a limit of its command is reached. Nothing was sent.
    ///
    /// # Errors
    /// If it cannot be recorded.
    pub fn refuse_connection(&self, connect: Connect, decision: Decision) -> Result<(), LedgerError> {
        self.record_refusal(Action::Connect(connect), decision, self.context())
    }

    /// Records that the session began. Nothing can be performed before the ledger takes it.
    ///
    /// # Errors
    /// If it cannot be recorded.
    pub fn start(&self, version: &str, about: serde_json::Value) -> Result<Sequence, LedgerError> {
        let actor = self.actor.clone();
        self.ledger.append(&Record::SessionStart { actor, version: version.to_owned(), about })
    }

    /// Records that the session ended, durably.
    ///
    /// # Errors
    /// If it cannot be recorded.
    pub fn end(&self, about: serde_json::Value) -> Result<Sequence, LedgerError> {
        self.ledger.append_durable(&Record::SessionEnd { actor: self.actor.clone(), about })
    }

    /// The join of the labels of everything in the context.
    #[must_use]
    pub fn context(&self) -> Label {
        self.state().context
    }

    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// What the session has used so far.
    #[must_use]
    pub fn used(&self) -> Usage {
        self.state().meter.usage
    }

    /// Model calls so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.state().meter.steps
    }

    async fn ask(&self, action: &Action, decision: &Decision) -> Answer {
        let grant = Grant::covering(action, decision);
        // Connections come in dozens at once. Whoever waited may have got the answer meanwhile.
        let _turn = self.turn.take().await;
        if let Some(grant) = &grant {
            let state = self.state();
            if state.grants.contains(grant) {
                return Answer::Session;
            }
            if state.refusals.contains(grant) {
                return Answer::No { instead: Some("the person said no to this before".to_owned()) };
            }
        }
        let answer = self.approver.ask(Question { action, decision }).await;
        match (&answer, grant) {
            (Answer::Session | Answer::Always, Some(grant)) => self.state().grants.push(grant),
            (Answer::No { .. }, Some(grant)) if matches!(action, Action::Connect(_)) => {
                self.state().refusals.push(grant);
            }
            _ => {}
        }
        answer
    }

    fn approval(&self, scope: &str) -> Approval {
        Approval { by: self.actor.person.clone(), scope: scope.to_owned() }
    }

    /// Records a refusal and makes the error for it.
    fn refuse<E>(
        &self,
        action: Action,
        decision: Decision,
        context: Label,
        by_person: bool,
    ) -> Result<GateError<E>, LedgerError> {
        self.record_refusal(action, decision.clone(), context)?;
        Ok(GateError::Refused { decision, by_person })
    }

    fn record_refusal(&self, action: Action, decision: Decision, context: Label) -> Result<(), LedgerError> {
        let actor = self.actor.clone();
        self.ledger.append_durable(&Record::Refused { actor, action, decision, context }).map(drop)
    }

    fn count_step(&self, action: &Action) {
        if matches!(action, Action::ModelCall(_)) {
            self.state().meter.steps += 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stricter of policy and information flow. If both ask, it is about both: a yes that was given before secrets
/// came into view is none for afterwards.
fn both(policy: Decision, flow: Decision) -> Decision {
    if policy.verdict == Verdict::Ask && flow.verdict == Verdict::Ask {
        let reason = format!("{}; {}", flow.reason, policy.reason);
        return Decision::new(Verdict::Ask, flow.rule, reason);
    }
    policy.stricter(flow)
}

/// An intent whose outcome is not recorded yet. Dropping it (Ctrl-C, a panic) records that it was stopped.
struct Pending<'a> {
    ledger: &'a Ledger,
    intent: Option<Sequence>,
}

impl Pending<'_> {
    fn finish(mut self, outcome: Outcome) -> Result<(), LedgerError> {
        match self.intent.take() {
            Some(intent) => self.ledger.append(&Record::Outcome { intent, outcome }).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(intent) = self.intent.take() {
            // Nothing better can be done here; `audit verify` shows the intent as interrupted then.
            let _ = self
                .ledger
                .append_durable(&Record::Outcome { intent, outcome: Outcome::new(Status::Stopped) });
        }
    }
}
