//! `varvel network`, `varvel sandbox`, and the files behind them.

use std::fs;

use serde_json::{Value, json};

use super::web::Web;
use super::{client, place, settings};
use crate::support::{Done, Place};

/// An error with this exit status that says all of this.
fn fails(done: &Done, words: &[&str]) {
    assert_eq!((done.code, done.out.as_str()), (2, ""), "{done:?}");
    for word in words {
        assert!(done.err.contains(word), "{word:?}: {done:?}");
    }
}

fn json_of(done: &Done) -> Value {
    assert_eq!(done.code, 0, "{done:?}");
    serde_json::from_str(&done.out).unwrap()
}

#[test]
fn what_is_allowed_for_good_can_be_seen_and_taken_back() {
    let (place, web) = (place(), Web::start("127.0.0.1"));
    let at = web.place();
    let get = || client(&place, &[], &["url", "GET", &web.url("/")]);
    let done = place.call(["network", "list"]);
    assert_eq!((done.code, done.out.as_str()), (0, "ask   everything else\n"), "{done:?}");
    assert_eq!(json_of(&place.call(["network", "list", "--json"])), json!([]));
    assert_eq!(get().code, 1);

    let file = "~/.config/varvel/network.toml";
    let done = place.call(["network", "allow", &at]);
    assert_eq!((done.code, done.out), (0, format!("allowed: {at} in {file}\n")));
    let done = place.call(["network", "allow", &at]);
    assert!(done.code == 0 && done.out.contains("it was allowed already"), "{done:?}");
    let done = place.call(["network", "list"]);
    assert!(done.out.contains(&format!("allow {at}")) && done.out.contains(file), "{done:?}");
    let all = json_of(&place.call(["network", "list", "--json"]));
    assert_eq!(all, json!([{ "verdict": "allow", "rule": at, "source": file }]));
    assert_eq!(get().code, 0);

    let done = place.call(["network", "forget", &at]);
    assert_eq!((done.code, done.out), (0, format!("taken back: {at}\n")));
    fails(&place.call(["network", "forget", &at]), &[&at, "there is no rule", file]);
    assert_eq!(get().code, 1);
    assert_eq!(web.seen(), ["GET /"]);
}

#[test]
fn the_file_of_rules_is_a_person_s_own() {
    let place = place();
    settings(&place, "network.toml", "deny = ['bad.example.org']\nprivate = ['localhost']\n");
    assert_eq!(place.call(["network", "allow", "example.org"]).code, 0);
    assert_eq!(place.call(["network", "forget", "example.org"]).code, 0);
    let text = fs::read_to_string(place.home.path().join(".config/varvel/network.toml")).unwrap();
    assert!(text.contains("bad.example.org") && text.contains("localhost"), "{text}");
    use std::os::unix::fs::PermissionsExt;
    let mode =
        fs::metadata(place.home.path().join(".config/varvel/network.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

#[test]
fn what_would_become_of_a_connection() {
    let place = place();
    settings(
        &place,
        "varvel.toml",
        "[network]\nallow = ['*.example.org']\nask = ['a.example.org']\ndeny = ['b.example.org']\n",
    );
    let source = "~/.config/varvel/varvel.toml";
    let cases: &[(&[&str], i32, &str)] = &[
        (&["x.example.org"], 0, "allow x.example.org:443  network.allow"),
        (&["X.Example.ORG.:443"], 0, "allow x.example.org:443"),
        (&["x.example.org:22"], 3, "ask   x.example.org:22  network.default-deny"),
        (&["a.example.org"], 3, "ask   a.example.org:443  network.ask"),
        (&["b.example.org"], 3, "deny  b.example.org:443  network.deny"),
        (&["example.com"], 3, "`varvel network allow example.com`"),
        (&["example.com", "--allow", "example.com"], 0, "network.allow (the command line: example.com)"),
        (&["b.example.org", "--allow", "b.example.org"], 3, "network.deny"),
        (&["127.0.0.1:80"], 3, "deny  127.0.0.1:80  network.private-address"),
        (&["[::1]:80"], 3, "deny  [::1]:80  network.private-address"),
        (&["127.0.0.1:80", "--allow", "127.0.0.1:80"], 0, "allow"),
        (&["169.254.169.254:80", "--allow", "*:*"], 3, "cloud metadata"),
        (&["http://x.test/pub/a", "--allow", "GET http://x.test/pub/*"], 0, "allow x.test:80"),
        (&["http://x.test/pub/a", "--allow", "GET http://x.test/pub/*", "--method", "POST"], 3, "ask"),
        (&["http://x.test/a", "--allow", "GET http://x.test/pub/*"], 3, "ask"),
        (&["x.test", "--allow", "GET x.test/pub/*"], 3, "`--inspect x.test`"),
    ];
    for (words, code, text) in cases {
        let done = place.call(["network", "check"].iter().chain(*words));
        assert!(done.code == *code && done.out.contains(text), "{words:?}: {done:?}");
    }
    assert!(place.call(["network", "check", "b.example.org"]).out.contains(source));
    assert!(place.ledger().is_empty(), "a question is no action");
}

#[test]
fn bad_rules_are_named_and_nothing_runs() {
    let place = place();
    let bad: &[(&str, &str)] = &[
        ("", "the host is missing"),
        ("a..b", "is not a host name"),
        ("exa*mple.org", "*.example.org"),
        ("ftp://example.org", "http:// and https://"),
        ("get example.org", "GET,HEAD"),
        ("example.org:0", "1 to 65535"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("10.1.2.3/8", "10.0.0.0/8"),
    ];
    for (rule, words) in bad {
        fails(&place.call(["network", "allow", rule]), &[rule, words]);
        let done = client(&place, &["--allow", rule], &["resolve", "localhost"]);
        fails(&done, &["the command line", rule, words]);
        fails(&place.call(["network", "check", "example.org", "--allow", rule]), &[rule, words]);
    }
    for (option, rule) in [("--allow-private", "example.org/x"), ("--inspect", "GET example.org")] {
        let done = client(&place, &[option, rule], &["resolve", "localhost"]);
        fails(&done, &["the command line", rule, "belong into `allow`"]);
    }
    for to in ["", "a..b", "user@example.org:80", "ftp://example.org/", "http://"] {
        let done = place.call(["network", "check", to]);
        assert!(done.code == 2 && done.out.is_empty() && done.err.contains("error: "), "{to:?}: {done:?}");
    }
    fails(&place.call(["network", "forget", "nothing"]), &["nothing"]);
    fails(&client(&place, &["--max-network", "much"], &["resolve", "localhost"]), &["--max-network"]);
    assert!(!place.home.path().join(".config/varvel/network.toml").exists());
    assert!(place.ledger().is_empty());
}

/// A broken file is no empty file: what it denied would be open.
#[test]
fn broken_files_are_named_and_open_nothing() {
    let (place, web) = (place(), Web::start("127.0.0.1"));
    let cases: &[(&str, &str, &[&str])] = &[
        ("network.toml", "allow = ['", &["TOML parse error"]),
        ("network.toml", "alow = ['x.test']", &["alow", "allow"]),
        ("network.toml", "deny = ['a..b']", &["a..b"]),
        ("network.toml", "\u{0}", &[]),
        ("varvel.toml", "[network]\nalow = []", &["alow", "allow"]),
        ("varvel.toml", "[network]\ndeny = ['a..b']", &["a..b"]),
        ("varvel.toml", "[network]\ninspect = ['GET x.test']", &["inspect"]),
        ("varvel.toml", "[network]\nallow = 'x.test'", &["sequence"]),
    ];
    for (name, text, words) in cases {
        settings(&place, name, text);
        let mut all = vec![*name];
        all.extend(*words);
        let run = |words: &[&str]| place.call(words);
        fails(&run(&["network", "list"]), &all);
        fails(&run(&["network", "check", "x.test"]), &all);
        fails(&client(&place, &["--allow", &web.place()], &["url", "GET", &web.url("/")]), &all);
        // The profile makes no difference.
        fails(&run(&["exec", "--profile", "workspace", "--", "touch", "ran"]), &all);
        fails(
            &run(&["run", "--mode", "auto", "--model", "m", "--base-url", "http://127.0.0.1:9", "hi"]),
            &all,
        );
        if *name == "network.toml" && !text.contains("a..b") {
            fails(&run(&["network", "allow", "x.test"]), &all);
            let path = place.home.path().join(".config/varvel/network.toml");
            assert_eq!(fs::read_to_string(path).unwrap(), *text, "it is not overwritten");
        }
        fs::remove_file(place.home.path().join(".config/varvel").join(name)).unwrap();
    }
    assert!(web.seen().is_empty() && !place.has("ran") && place.ledger().is_empty());
}

#[test]
fn profiles_can_be_listed_and_shown() {
    let place = place();
    let done = place.call(["sandbox", "list"]);
    assert_eq!(done.code, 0, "{done:?}");
    for name in
        ["workspace ", "read-only ", "workspace+net ", "strict ", "cargo ", "npm ", "pip ", "git ", "client "]
    {
        assert!(done.out.lines().any(|line| line.starts_with(name)), "{name}: {}", done.out);
    }
    assert!(!done.out.contains("download") && !done.out.contains("worker"), "{}", done.out);
    let shown = place.call(["sandbox", "show"]);
    assert!(shown.out.starts_with("workspace ") && shown.out.contains("network       none"), "{shown:?}");
    let shown = place.call(["sandbox", "show", "client"]);
    assert!(shown.out.contains("python3 client.py") && shown.out.contains("the proxy"), "{shown:?}");
    let json = json_of(&place.call(["sandbox", "show", "strict", "--json"]));
    assert_eq!((&json["name"], &json["profile"]["syscalls"]), (&json!("strict"), &json!("allow-list")));
    fails(&place.call(["sandbox", "show", "nope"]), &["\"nope\"", "there are: workspace, ", "client"]);
}

#[test]
fn a_profile_of_one_s_own() {
    let (place, web) = (place(), Web::start("127.0.0.1"));
    settings(
        &place,
        "profiles/closed.toml",
        "extends = 'workspace+net'\nnetwork = 'none'\nworkspace = 'read-only'\n",
    );
    let get = |profile: &[&str]| {
        let mut options = profile.to_vec();
        let at = web.place();
        options.extend(["--allow", &at]);
        client(&place, &options, &["url", "GET", &web.url("/")])
    };
    // Named, it is used; not named, the one that is meant for the command.
    let done = get(&["--profile", "closed"]);
    assert!(done.code == 1 && done.out.contains("refused"), "{done:?}");
    assert_eq!(get(&["--profile", "workspace+net"]).code, 0);
    assert_eq!(get(&[]).code, 0);
    let profiles: Vec<_> = place
        .records("intent")
        .into_iter()
        .filter(|record| record["action"]["kind"] == "command")
        .map(|record| record["action"]["profile"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(profiles, ["closed", "workspace+net", "client"]);
    // A shell line that says more than the command chooses nothing.
    let line = format!("python3 client.py url GET {}; true", web.url("/"));
    let done = place.call(["exec", "--allow", &web.place(), "--", "sh", "-c", &line]);
    assert!(done.out.contains("refused"), "{done:?}");
    assert_eq!(web.seen().len(), 2);
    assert_eq!(place.call(["exec", "--profile", "closed", "--", "touch", "x"]).code, 1);
    place.verify();
}

#[test]
fn ports_of_a_profile_are_open_to_direct_connections() {
    let (place, web) = (place(), Web::start("127.0.0.1"));
    let port = web.port();
    let text = format!("extends = 'workspace+net'\nports = [{port}]\n");
    settings(&place, "profiles/ports.toml", &text);
    let done = client(&place, &["--profile", "ports"], &["direct", "example.org", &port]);
    assert!(done.code == 1 && done.out.contains("403"), "{done:?}");
    assert!(done.err.contains(&format!("--allow example.org:{port}")), "{done:?}");
}

#[test]
fn bad_profiles_are_named_and_nothing_runs() {
    let place = Place::new();
    let cases: &[(&str, &str, &[&str])] = &[
        ("mine", "", &["extends = \"workspace\""]),
        ("mine", "extends = 'workspace'\nnetwork = 'proxi'", &["proxi", "proxy"]),
        ("mine", "extends = 'workspace'\nnetwerk = 'proxy'", &["netwerk", "network"]),
        ("mine", "extends = 'workspace'\nnetwork = 'host'", &["host", "use \"proxy\""]),
        ("mine", "extends = 'mine'", &["extends itself"]),
        ("mine", "extends = 'workspace'\nisolation = 'landlock'\nnetwork = 'proxy'", &["landlock", "none"]),
        ("mine", "extends = 'workspace'\n[limits]\nmemory_mb = -1", &["-1"]),
        ("cargo", "extends = 'workspace'", &["built in"]),
        ("a b", "extends = 'workspace'", &["letters, digits"]),
    ];
    for (name, text, words) in cases {
        let file = format!("profiles/{name}.toml");
        settings(&place, &file, text);
        let mut all = vec![*name];
        all.extend(*words);
        fails(&place.call(["sandbox", "list"]), &all);
        fails(&place.call(["exec", "--", "touch", "ran"]), &all);
        fs::remove_file(place.home.path().join(".config/varvel").join(file)).unwrap();
    }
    fails(&place.call(["exec", "--profile", "mine", "--", "touch", "ran"]), &["\"mine\"", "there are: "]);
    settings(&place, "profiles/mine.toml", "extends = 'nope'");
    fails(&place.call(["exec", "--", "touch", "ran"]), &["nope"]);
    assert!(!place.has("ran") && place.ledger().is_empty());
}
