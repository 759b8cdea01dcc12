use std::path::Path;

use action::{
    Action, Actor, Autonomy, Command, Commit, Connect, Destination, Digest, Effect, FileDelete, FileRead,
    FileWrite, Network, Root, SessionId, StagedChange, StagedKind, Verdict, Via,
};
use proptest::prelude::*;

use super::*;

fn agent() -> Actor {
    Actor { person: "p".into(), agent: "varvel".into(), session: SessionId::new("s") }
}

fn write(root: &Root, path: &str) -> Action {
    let path = root.resolve_or_new(path).unwrap();
    FileWrite { path, content: vec![], replaces: None, diff: String::new() }.action()
}

#[test]
fn levels() {
    use Autonomy::{Ask, Auto, Edit, Observe};
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let here = root.resolve(".").unwrap();
    let file = || root.resolve_or_new("a.txt").unwrap();
    let read = FileRead { path: file() }.action();
    let change = write(&root, "a.txt");
    let delete = FileDelete { path: file() }.action();
    let run = Command {
        argv: vec!["ls".into()],
        directory: here,
        profile: "workspace".into(),
        privileges: vec![],
        timeout: None,
    }
    .action();
    let fetch = Network {
        destination: Destination { host: "example.org".into(), port: 443 },
        url: "https://example.org/".into(),
        purpose: "x".into(),
    }
    .action();
    use Verdict as V;
    for (level, expected) in [
        (Observe, [V::Allow, V::Deny, V::Deny, V::Deny, V::Deny]),
        (Ask, [V::Allow, V::Ask, V::Ask, V::Ask, V::Deny]),
        (Edit, [V::Allow, V::Allow, V::Ask, V::Ask, V::Deny]),
        (Auto, [V::Allow, V::Allow, V::Allow, V::Allow, V::Deny]),
    ] {
        let policy = Policy::new(level);
        let got = [&read, &change, &delete, &run, &fetch].map(|a| policy.decide(&agent(), a).verdict);
        assert_eq!(got, expected, "{level}");
    }
    let here = root.resolve(".").unwrap();
    let download = Command {
        argv: vec!["pip".into()],
        directory: here,
        profile: DOWNLOAD_PROFILE.into(),
        privileges: Vec::new(),
        timeout: None,
    }
    .action();
    let decision = Policy::new(Auto).decide(&agent(), &download);
    assert_eq!((decision.verdict, decision.rule.as_str()), (V::Deny, "builtin.network-profile"));
    let person = Actor { agent: BY_HAND.into(), ..agent() };
    assert_eq!(Policy::new(Observe).decide(&person, &fetch).verdict, V::Allow);
}

#[test]
fn protections_hold_at_every_level() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let policy = Policy::new(Autonomy::Auto);
    for path in [
        ".git/hooks/pre-commit",
        ".git",
        "sub/.vscode/tasks.json",
        "AGENTS.md",
        "deep/Agents.MD",
        ".github/workflows/ci.yml",
        ".cargo/config.toml",
        ".mcp.json",
    ] {
        let decision = policy.decide(&agent(), &write(&root, path));
        assert_eq!(
            (decision.verdict, decision.rule.as_str()),
            (Verdict::Ask, "builtin.host-trusted-file"),
            "{path}"
        );
    }
    for path in [".env", "sub/.env.local", "ID_RSA", "server.key", ".ssh/config", "x/credentials.json"] {
        let read = FileRead { path: root.resolve_or_new(path).unwrap() }.action();
        assert_eq!(policy.decide(&agent(), &read).rule, "builtin.secret-file", "{path}");
    }
    for path in [".env.example", "src/key.rs", "environment.md", "github/workflows/x"] {
        assert!(!is_secret(Path::new(path)) && !host_trusted(Path::new(path)), "{path}");
    }
    let observe = Policy::new(Autonomy::Observe).decide(&agent(), &write(&root, ".git/config"));
    assert_eq!(observe.verdict, Verdict::Deny, "deny beats ask");
}

fn connect(host: &str) -> Action {
    Connect {
        destination: Destination { host: host.into(), port: 443 },
        via: Via::Tunnel,
        method: None,
        path: None,
    }
    .action()
}

#[test]
fn connections_are_decided_by_rules_for_everybody() {
    let config = NetworkConfig { allow: vec!["example.org".into()], ..NetworkConfig::default() };
    let rules = NetworkRules::from_config(&config, "--allow").unwrap();
    let person = Actor { agent: BY_HAND.into(), ..agent() };
    for level in [Autonomy::Observe, Autonomy::Ask, Autonomy::Edit, Autonomy::Auto] {
        let policy = Policy::new(level).with_network(rules.clone());
        let observe = level == Autonomy::Observe;
        let expected = if observe { Verdict::Deny } else { Verdict::Allow };
        assert_eq!(policy.decide(&agent(), &connect("example.org")).verdict, expected);
        assert_eq!(policy.decide(&person, &connect("example.org")).verdict, Verdict::Allow);
        let other = policy.decide(&person, &connect("example.com"));
        assert_eq!((other.verdict, other.rule.as_str()), (Verdict::Ask, network::DEFAULT_DENY));
        assert_eq!(policy.decide(&agent(), &connect("example.com")).verdict.max(Verdict::Ask), {
            if observe { Verdict::Deny } else { Verdict::Ask }
        });
    }
    let none = Policy::new(Autonomy::Auto).decide(&agent(), &connect("example.org"));
    assert_eq!(none.verdict, Verdict::Ask, "no rules, no connection without a person");
}

#[test]
fn staged_changes_are_decided_like_writes() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    let commit = |path: &str, host_trusted| {
        let change = StagedChange { path: path.into(), kind: StagedKind::Changed, host_trusted };
        Commit {
            workspace: root.resolve(".").unwrap(),
            stage: "1".into(),
            changes: vec![change],
            digest: Digest::of(b""),
            diff: String::new(),
        }
        .action()
    };
    let person = Actor { agent: BY_HAND.into(), ..agent() };
    use Verdict::{Allow, Ask, Deny};
    for (level, plain, trusted) in [
        (Autonomy::Observe, Deny, Deny),
        (Autonomy::Ask, Ask, Ask),
        (Autonomy::Edit, Allow, Ask),
        (Autonomy::Auto, Allow, Ask),
    ] {
        let policy = Policy::new(level);
        assert_eq!(policy.decide(&agent(), &commit("src/a.rs", false)).verdict, plain, "{level}");
        for change in [commit("src/a.rs", true), commit(".envrc", false), commit("x/.env", false)] {
            assert_eq!(policy.decide(&agent(), &change).verdict, trusted, "{level}");
            assert_eq!(policy.decide(&person, &change).verdict, Allow);
        }
    }
    let rule = Policy::new(Autonomy::Auto).decide(&agent(), &commit("a", true)).rule;
    assert_eq!(rule, "builtin.host-trusted-file");
}

#[test]
fn sockets_of_the_machine_ask_at_every_level() {
    let dir = tempfile::tempdir().unwrap();
    let here = Root::open(dir.path()).unwrap().resolve(".").unwrap();
    let command = Command {
        argv: vec!["ssh".into()],
        directory: here,
        profile: "workspace".into(),
        privileges: vec!["ssh-agent".into()],
        timeout: None,
    }
    .action();
    let decision = Policy::new(Autonomy::Auto).decide(&agent(), &command);
    assert_eq!((decision.verdict, decision.rule.as_str()), (Verdict::Ask, "builtin.privilege"));
    assert_eq!(Policy::new(Autonomy::Observe).decide(&agent(), &command).verdict, Verdict::Deny);
    let person = Actor { agent: BY_HAND.into(), ..agent() };
    assert_eq!(Policy::new(Autonomy::Auto).decide(&person, &command).verdict, Verdict::Allow);
}

proptest! {
    #[test]
    fn a_protected_directory_protects_everything_below(parts in prop::collection::vec("[a-z.]{1,6}", 0..4)) {
        let path = Path::new("a/.git").join(parts.join("/"));
        prop_assert!(host_trusted(&path));
    }
}
