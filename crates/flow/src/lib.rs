//! Information flow: where labelled data may go.
//!
//! A session's context carries the join of the labels of everything that was put into it. An effect that
//! carries data off the machine is checked against that label: restricted data (credentials) does not leave,
//! and an untrusted context does not choose a network destination.

use action::{Action, Confidentiality, Decision, Integrity, Label, Reach, Verdict};

/// The label of what an action brings into the context.
///
/// `secret` says whether a path names a file of secrets (the policy's list).
#[must_use]
pub fn label_of_result(action: &Action, context: Label, secret: impl Fn(&std::path::Path) -> bool) -> Label {
    match action {
        Action::FileRead(read) if secret(read.path.path()) => Label::SECRET,
        Action::Network(_) | Action::Connect(_) => Label::new(Integrity::Untrusted, Confidentiality::Public),
        // What a model says is made of what it was told.
        Action::ModelCall(_) => context,
        // Whoever wrote these files, or the program that printed this, is not the person who gave the task.
        _ => Label::new(Integrity::Untrusted, Confidentiality::Internal),
    }
}

/// Whether `action` may be taken with `context` in view.
pub fn decide(context: Label, action: &Action) -> Decision {
    let allow = || Decision::new(Verdict::Allow, "flow.ok", "its data may go there");
    match action {
        Action::ModelCall(call) if !call.reach.is_local() => {
            if context.confidentiality >= Confidentiality::Restricted {
                let place = match &call.reach {
                    Reach::Server(at) => at.to_string(),
                    Reach::Embedded => call.model.clone(),
                };
                return Decision::new(
                    Verdict::Deny,
                    "flow.restricted-stays-here",
                    format!(
                        "a file of secrets was read in this session, so nothing more may be sent to {place}; \
                         start a new session, or use `--provider embedded`"
                    ),
                );
            }
            allow()
        }
        Action::Connect(connect) if context.confidentiality >= Confidentiality::Restricted => Decision::new(
            Verdict::Ask,
            "flow.restricted-stays-here",
            format!(
                "a file of secrets was read in this session, so a person decides whether a command may reach {}",
                connect.destination
            ),
        ),
        Action::Network(_) if context.integrity == Integrity::Untrusted => Decision::new(
            Verdict::Ask,
            "flow.untrusted-destination",
            "text from outside is in view and may have chosen this destination",
        ),
        _ => allow(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use action::{Destination, Digest, ModelCall};

    fn call(host: &str) -> Action {
        let reach = Reach::Server(Destination { host: host.into(), port: 443 });
        let request = Digest::of(b"");
        Action::ModelCall(ModelCall {
            provider: "openai".into(),
            model: "m".into(),
            reach,
            request,
            bytes: 0,
        })
    }

    #[test]
    fn secrets_stay_on_the_machine() {
        assert_eq!(decide(Label::SECRET, &call("api.example.org")).verdict, Verdict::Deny);
        assert_eq!(decide(Label::PERSON, &call("api.example.org")).verdict, Verdict::Allow);
        for local in ["127.0.0.1", "localhost", "::1"] {
            assert_eq!(decide(Label::SECRET, &call(local)).verdict, Verdict::Allow, "{local}");
        }
        // A name that merely looks local is not.
        for remote in ["localhost.example.org", "127.0.0.1.example.org"] {
            assert_eq!(decide(Label::SECRET, &call(remote)).verdict, Verdict::Deny, "{remote}");
        }
    }

    #[test]
    fn after_secrets_were_read_a_person_decides_on_connections() {
        let destination = Destination { host: "example.org".into(), port: 443 };
        let connect = Action::Connect(action::Connect {
            destination: destination.clone(),
            via: action::Via::Tunnel,
            method: None,
            path: None,
        });
        let decision = decide(Label::SECRET, &connect);
        assert_eq!((decision.verdict, decision.rule.as_str()), (Verdict::Ask, "flow.restricted-stays-here"));
        assert_eq!(
            decide(Label::new(Integrity::Untrusted, Confidentiality::Confidential), &connect).verdict,
            Verdict::Allow
        );
        let fetch =
            Action::Network(action::Network { destination, url: String::new(), purpose: String::new() });
        let label = |action| label_of_result(action, Label::SECRET, |_| false);
        assert_eq!(label(&connect), label(&fetch));
    }

    #[test]
    fn what_others_wrote_is_untrusted() {
        let directory = tempfile::tempdir().unwrap();
        let root = action::Root::open(directory.path()).unwrap();
        let list = Action::FileList(action::FileList { path: root.resolve(".").unwrap() });
        let label = label_of_result(&list, Label::PERSON, |_| false);
        assert_eq!(label, Label::new(Integrity::Untrusted, Confidentiality::Internal));
        assert_eq!(label_of_result(&call("x"), Label::SECRET, |_| false), Label::SECRET);
    }

    #[test]
    fn a_higher_label_never_allows_more() {
        use action::Confidentiality::{Confidential, Internal, Public, Restricted};
        for integrity in [Integrity::Trusted, Integrity::Untrusted] {
            let verdicts = [Public, Internal, Confidential, Restricted]
                .map(|level| decide(Label::new(integrity, level), &call("api.example.org")).verdict);
            assert!(verdicts.is_sorted());
        }
    }
}
