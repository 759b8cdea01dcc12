//! Commands, the proxy beside them, and the rules between.

use std::net::UdpSocket;

use super::web::Web;
use super::{client, facts, place, refused};
use crate::support::{Done, Place, finish};

/// Refused by `rule`: the command learns it, the person learns the rule and what to type, the ledger has it.
fn is_refused(place: &Place, done: &Done, at: &str, rule: &str, via: &str, typed: &str) {
    assert_eq!(done.code, 1, "{done:?}");
    let note = format!("note: refused ({rule}): connecting to {at}: ");
    assert!(done.err.contains(&note) && done.err.contains(typed), "{note} {typed}: {done:?}");
    let last = refused(place).pop().unwrap();
    assert_eq!((last.0.as_str(), last.1.as_str(), last.2.as_str()), (at, rule, via), "{done:?}");
}

/// It got an answer, and nothing was refused on the way.
fn works(done: &Done) {
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("served /") && !done.err.contains("refused"), "{done:?}");
}

#[test]
fn nothing_goes_out_that_no_rule_names() {
    let place = place();
    let cases: &[(&[&str], &str, &str, &str)] = &[
        (&["url", "GET", "http://example.org/x"], "403 network.default-deny", "example.org:80", "http"),
        (&["url", "POST", "http://example.org/x"], "403 network.default-deny", "example.org:80", "http"),
        (&["url", "GET", "https://example.org/x"], "403 Forbidden", "example.org:443", "tunnel"),
        (&["tunnel", "example.org", "443"], "no rule names example.org:443", "example.org:443", "tunnel"),
        (&["tunnel", "example.org", "22"], "no rule names example.org:22", "example.org:22", "tunnel"),
        (&["tunnel", "example.org", "80"], "no rule names example.org:80", "example.org:80", "tunnel"),
        (&["tunnel", "1.1.1.1", "443"], "no rule names 1.1.1.1:443", "1.1.1.1:443", "tunnel"),
        (&["socks", "example.org", "443"], "socks 2", "example.org:443", "socks"),
        (&["socks", "example.org", "80"], "no rule names example.org:80", "example.org:80", "socks"),
        (&["direct", "example.org", "80"], "no rule names example.org:80", "example.org:80", "direct"),
        (&["tls", "example.org", "443"], "SSL", "example.org:443", "direct"),
        (&["direct", "1.1.1.1", "80"], "no rule names 1.1.1.1:80", "1.1.1.1:80", "direct"),
        (&["direct", "2606:4700::1", "80"], "no rule names", "[2606:4700::1]:80", "direct"),
        (&["tls", "1.1.1.1", "443"], "SSL", "1.1.1.1:443", "direct"),
        // The address alone decides nothing: TLS names the host.
        (&["tls", "1.1.1.1", "443", "example.org"], "SSL", "example.org:443", "direct"),
    ];
    for (number, (words, text, at, via)) in (1..).zip(cases) {
        let done = client(&place, &[], words);
        assert!(done.out.contains(text), "{words:?}: {done:?}");
        is_refused(&place, &done, at, "network.default-deny", via, &format!("`--allow {at}`"));
        assert!(done.err.contains("varvel network allow "), "{words:?}: {done:?}");
        assert_eq!(refused(&place).len(), number, "{words:?}: one wish, one record");
    }
    assert!(place.records("intent").iter().all(|record| record["action"]["kind"] != "connect"));
    place.verify();
}

#[test]
fn curl_is_told() {
    let place = place();
    if place.call(["exec", "--", "curl", "--version"]).code != 0 {
        return;
    }
    let cases: &[(&[&str], i32)] = &[
        (&["--fail", "http://example.org/"], 22),
        (&["https://example.org/"], 56),
        (&["--noproxy", "*", "https://example.org/"], 35),
        (&["--socks5-hostname", "127.0.0.1:3128", "https://example.org/"], 97),
    ];
    for (words, code) in cases {
        let mut command = place.varvel();
        command.args(["exec", "--profile", "workspace+net", "--", "curl", "-sS"]).args(*words);
        let done = finish(&mut command);
        assert_eq!(done.code, *code, "{words:?}: {done:?}");
        assert!(done.err.contains("note: refused (network.default-deny)"), "{words:?}: {done:?}");
    }
    let done = place.call(["exec", "--profile", "workspace+net", "--", "curl", "-sS", "http://example.org/"]);
    assert!(done.out.contains("varvel network allow example.org"), "{done:?}");
}

#[test]
fn this_machine_is_not_reached_unless_it_is_named() {
    let place = place();
    for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
        let Some(web) = Web::at(host) else { continue };
        let (port, at) = (web.port(), web.place());
        let bare = host.trim_matches(['[', ']']);
        let typed = format!("`--allow {at}`");
        let done = client(&place, &[], &["url", "GET", &web.url("/")]);
        is_refused(&place, &done, &at, "network.private-address", "http", &typed);
        assert!(done.out.contains("403 network.private-address"), "{done:?}");
        // A star does not name it.
        for options in [&[][..], &["--allow", "*:*"]] {
            let done = client(&place, options, &["tunnel", bare, &port]);
            is_refused(&place, &done, &at, "network.private-address", "tunnel", &typed);
            let done = client(&place, options, &["socks", bare, &port]);
            is_refused(&place, &done, &at, "network.private-address", "socks", &typed);
        }
        // Some rule has opened the door at this port, for another host.
        let done = client(&place, &["--allow", &format!("example.org:{port}")], &["direct", bare, &port]);
        is_refused(&place, &done, &at, "network.private-address", "direct", &typed);
        assert_eq!(web.seen(), [""; 0], "{host}");
    }
    place.verify();
}

#[test]
fn a_name_that_leads_to_this_machine() {
    let (place, web) = (place(), Web::start("127.0.0.1"));
    let (port, at) = (web.port(), format!("localhost:{}", web.port()));
    let words = ["tunnel", "localhost", &port];
    is_refused(&place, &client(&place, &[], &words), &at, "network.default-deny", "tunnel", "--allow");
    let private = ["--allow-private", "localhost"];
    let done = client(&place, &private, &words);
    is_refused(&place, &done, &at, "network.default-deny", "tunnel", &format!("`--allow {at}`"));
    let done = client(&place, &["--allow", &at], &words);
    is_refused(&place, &done, &at, "network.private-address", "tunnel", "`--allow-private localhost`");
    assert!(done.err.contains("localhost leads to 127.0.0.1, a loopback address"), "{done:?}");
    assert_eq!(web.seen(), [""; 0]);

    let both = ["--allow", &at, "--allow-private", "localhost"];
    works(&client(&place, &both, &words));
    works(&client(&place, &both, &["socks", "localhost", &port]));
    works(&client(&place, &both, &["url", "GET", &format!("http://{at}/")]));
    assert_eq!(web.seen().len(), 3);
    place.verify();
}

/// A person who does what the note says, and nothing else, gets there.
#[test]
fn what_the_note_says_helps() {
    let (place, web) = (place(), Web::start("127.0.0.1"));
    let (port, literal) = (web.port(), web.url("/"));
    let cases: [&[&str]; 2] = [&["tunnel", "localhost", &port], &["url", "GET", &literal]];
    let note = |done: &Done, nth: usize| -> Vec<String> {
        let typed = done.err.split('`').nth(nth).unwrap_or_else(|| panic!("nothing to type: {done:?}"));
        typed.split(' ').map(str::to_owned).collect()
    };
    for words in cases {
        let mut options: Vec<String> = Vec::new();
        let done = loop {
            let all: Vec<&str> = options.iter().map(String::as_str).collect();
            let done = client(&place, &all, words);
            if done.code == 0 || options.len() > 8 {
                break done;
            }
            // The options come first, the commands for good after them.
            options.extend(note(&done, 1));
        };
        works(&done);
    }
    for _ in 0..2 {
        let done = client(&place, &[], cases[0]);
        let typed = note(&done, 3);
        assert_eq!(typed[0], "varvel", "{done:?}");
        assert_eq!(place.call(&typed[1..]).code, 0, "{typed:?}");
    }
    works(&client(&place, &[], cases[0]));
}

#[test]
fn what_is_allowed_works_and_opens_nothing_else() {
    let place = place();
    for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
        let (Some(web), other) = (Web::at(host), Web::start("127.0.0.3")) else { continue };
        let (port, bare) = (web.port(), host.trim_matches(['[', ']']));
        let options = ["--allow", &web.place()];
        works(&client(&place, &options, &["url", "GET", &web.url("/a")]));
        works(&client(&place, &options, &["tunnel", bare, &port]));
        works(&client(&place, &options, &["socks", bare, &port]));
        works(&client(&place, &options, &["direct", bare, &port]));
        assert_eq!(web.seen().len(), 4, "{:?}", web.seen());

        let done = client(&place, &options, &["url", "GET", &other.url("/")]);
        is_refused(&place, &done, &other.place(), "network.private-address", "http", "--allow");
        let done = client(&place, &options, &["direct", "127.0.0.3", &port]);
        let at = format!("127.0.0.3:{port}");
        is_refused(&place, &done, &at, "network.private-address", "direct", "--allow");
        let done = client(&place, &options, &["tunnel", "example.org", &port]);
        is_refused(
            &place,
            &done,
            &format!("example.org:{port}"),
            "network.default-deny",
            "tunnel",
            "--allow",
        );
        assert_eq!(other.seen(), [""; 0]);
    }
    place.verify();
}

#[test]
fn a_denied_host_stays_denied() {
    let (place, web) = (place(), Web::start("127.0.0.1"));
    super::settings(&place, "varvel.toml", &format!("[network]\ndeny = ['{}']\n", web.place()));
    let done = client(&place, &["--allow", &web.place()], &["url", "GET", &web.url("/")]);
    assert_eq!((done.code, web.seen().len()), (1, 0), "{done:?}");
    let rule = format!("network.deny (~/.config/varvel/varvel.toml: {})", web.place());
    assert!(done.err.contains(&rule), "{done:?}");
    assert_eq!(refused(&place)[0].1, rule);
}

#[test]
fn ports_that_no_rule_names_and_datagrams_lead_nowhere() {
    let (place, web) = (place(), Web::start("127.0.0.1"));
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    let (port, open) = (web.port(), udp.local_addr().unwrap().port().to_string());
    for host in ["example.org", "127.0.0.1", "1.1.1.1", "2606:4700::1"] {
        let done = client(&place, &[], &["direct", host, &port]);
        assert!(done.code == 1 && done.out.contains("ConnectionRefusedError"), "{host}: {done:?}");
    }
    let named = ["--allow", &format!("127.0.0.1:{open}")];
    for (options, host) in [(&[][..], "127.0.0.1"), (&named[..], "127.0.0.1"), (&[], "1.1.1.1"), (&[], "::1")]
    {
        let done = client(&place, options, &["udp", host, &open]);
        assert!(done.code == 1 && !done.out.contains("came back"), "{host}: {done:?}");
    }
    assert!(udp.recv(&mut [0; 8]).is_err(), "a datagram came out");
    assert_eq!((web.seen().len(), refused(&place).len()), (0, 0));
    // A question about a name leaves nothing behind outside: the answer is made up here.
    let done = client(&place, &[], &["resolve", "example.org"]);
    assert_eq!((done.code, done.out.as_str()), (0, "['198.18.0.1']\n"), "{done:?}");
    let done = client(&place, &[], &["direct", "198.18.99.99", "80"]);
    assert!(done.err.contains("network.unknown-address"), "{done:?}");
}

#[test]
fn localhost_inside_is_the_command_s_own() {
    let (place, web) = (place().with("inside.txt", "from inside"), Web::start("127.0.0.1"));
    // As most programs do it: what no_proxy names is asked directly.
    let port = web.port();
    let script = format!(
        "import subprocess, sys, time, urllib.request\n\
         def get():\n    \
             try: return urllib.request.urlopen('http://localhost:{port}/inside.txt').read().decode()\n    \
             except OSError as error: return str(error)\n\
         print(get())\n\
         server = subprocess.Popen([sys.executable, '-m', 'http.server', '{port}', '--bind', '127.0.0.1'],\n    \
             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n\
         end = time.time() + 30\n\
         while 'refused' in (text := get()) and time.time() < end: time.sleep(0.05)\n\
         print(text)\n\
         server.kill()\n"
    );
    let done = place.call(["exec", "--profile", "workspace+net", "--", "python3", "-c", &script]);
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<_> = done.out.lines().collect();
    assert!(lines[0].contains("Connection refused") && lines[1] == "from inside", "{done:?}");
    assert_eq!((web.seen().len(), refused(&place).len()), (0, 0));
    assert_eq!(facts(&place)["connections"], serde_json::Value::Null, "it never was at the proxy");
}

#[test]
fn methods_and_paths_of_plain_http() {
    let (place, web) = (place(), Web::start("127.0.0.2"));
    let rule = format!("GET {}", web.url("/pub/**"));
    let options = ["--allow", &rule];
    works(&client(&place, &options, &["url", "GET", &web.url("/pub/x")]));
    works(&client(&place, &options, &["url", "GET", &web.url("/pub/a/b?q=1")]));
    works(&client(&place, &options, &["direct", "127.0.0.2", &web.port(), "/pub/y"]));
    for (method, path) in [
        ("POST", "/pub/x"),
        ("HEAD", "/pub/x"),
        ("GET", "/private"),
        ("GET", "/public/x"),
        ("GET", "/pub/../private"),
        ("GET", "/pub/%2e%2e/private"),
        ("GET", "/pub/..%2fprivate"),
        ("GET", "//pub/x"),
    ] {
        let done = client(&place, &options, &["url", method, &web.url(path)]);
        assert!(done.code == 1 && done.out.starts_with("403 network."), "{method} {path}: {done:?}");
    }
    let done = client(&place, &options, &["direct", "127.0.0.2", &web.port(), "/private"]);
    assert!(done.code == 1 && done.out.contains("403"), "{done:?}");
    // Nobody looks into a tunnel, so the rule does not open one.
    let done = client(&place, &options, &["tunnel", "127.0.0.2", &web.port(), "/pub/x"]);
    is_refused(&place, &done, &web.place(), "network.unseen-request", "tunnel", "--inspect ");
    assert_eq!(web.seen(), ["GET /pub/x", "GET /pub/a/b?q=1", "GET /pub/y"]);
    let records = place.records("intent");
    let seen = records.iter().find(|record| record["action"]["path"] == "/pub/a/b").unwrap();
    assert_eq!(seen["action"]["method"], "GET", "queries are not recorded");
    place.verify();
}

#[test]
fn a_redirect_is_decided_on_by_itself() {
    let (place, web, other) = (place(), Web::start("127.0.0.1"), Web::start("127.0.0.2"));
    let away = web.url(&format!("/to/{}/secret", other.place()));
    let done = client(&place, &["--allow", &web.place()], &["url", "GET", &away]);
    is_refused(&place, &done, &other.place(), "network.private-address", "http", "--allow");
    assert_eq!((web.seen().len(), other.seen().len()), (1, 0));
    let done = client(&place, &["--allow", &web.place(), "--allow", &other.place()], &["url", "GET", &away]);
    works(&done);
    assert_eq!(other.seen(), ["GET /secret"]);
}

#[test]
fn an_inspected_server_is_verified() {
    use crate::work::{WebServer, have};
    if !have(&["openssl", "python3"]) {
        return;
    }
    let (place, files) = (place(), tempfile::tempdir().unwrap());
    std::fs::write(files.path().join("a.txt"), "served").unwrap();
    let server = WebServer::start(files.path(), &files.path().join("certificate.pem"));
    let at = format!("localhost:{}", server.port);
    let url = format!("https://{at}/a.txt");
    let options = ["--allow", &at, "--allow-private", "localhost", "--inspect", &at];
    // The command meets the certificate of the session, and trusts it; the server's own is signed by nobody.
    let done = client(&place, &options, &["url", "GET", &url]);
    assert_eq!(done.code, 1, "{done:?}");
    let told = "varvel: no verified TLS connection to localhost";
    assert!(done.out.starts_with("502 ") && done.out.contains(told), "{done:?}");
    // Without inspection the command itself sees the server's certificate.
    let done = client(&place, &options[..4], &["url", "GET", &url]);
    assert!(done.code == 1 && done.out.contains("CERTIFICATE_VERIFY_FAILED"), "{done:?}");
    place.verify();
}

#[test]
fn what_went_over_the_network_is_on_record() {
    let (place, web) = (place(), Web::start("127.0.0.1"));
    let options = ["--allow", &web.place()];
    works(&client(&place, &options, &["url", "GET", &web.url("/a")]));
    let one = facts(&place);
    assert_eq!((&one["connections"], &one["connections_refused"]), (&1.into(), &0.into()), "{one}");
    let done = client(&place, &options, &["url", "GET", &web.url("/big/500000")]);
    assert_eq!(done.code, 0);
    let big = facts(&place);
    let bytes = |name: &str| big[name].as_u64().unwrap();
    assert!(
        (500_000..510_000).contains(&bytes("bytes_in")) && (20..2_000).contains(&bytes("bytes_out")),
        "{big}"
    );
    let records = place.records("outcome");
    let mut connections = records.iter().filter(|record| record["address"] == web.place());
    assert!(connections.all(|record| record["status"] == "done" || record["status"] == 200), "{records:?}");
    client(&place, &options, &["url", "GET", "http://example.org/"]);
    let none = facts(&place);
    assert_eq!((&none["connections"], &none["connections_refused"]), (&0.into(), &1.into()), "{none}");
    let log = place.call(["audit", "log"]);
    assert!(log.code == 0 && log.out.contains(&web.place()) && log.out.contains("example.org:80"), "{log:?}");
    place.verify();
}

#[test]
fn a_command_may_move_so_much_and_no_more() {
    let (place, web) = (place(), Web::start("127.0.0.1"));
    let options = ["--allow", &web.place(), "--max-network", "1"];
    let done = client(&place, &options, &["url", "GET", &web.url("/big/1000000")]);
    assert_eq!(done.code, 0, "{}", done.err);
    let done = client(&place, &options, &["url", "GET", &web.url("/big/3000000")]);
    assert_eq!(done.code, 1, "{}", done.err);
    assert!(done.err.contains("note: refused (limit.network-bytes)"), "{}", done.err);
    assert!(done.err.contains("1048576 bytes of network"), "{}", done.err);
    assert!(facts(&place)["bytes_in"].as_u64().unwrap() <= 1 << 20);
    assert_eq!(refused(&place).pop().unwrap().1, "limit.network-bytes");
    // A second connection of the same command gets nothing at all.
    let twice = format!(
        "for n in 1 2; do python3 client.py url GET {} > $n; done; wc -c < 2",
        web.url("/big/3000000")
    );
    let before = web.seen().len();
    let mut all = vec!["exec", "--profile", "client"];
    all.extend(options);
    all.extend(["--", "sh", "-c", &twice]);
    place.call(all);
    assert!(place.read("2").starts_with("403 limit.network-bytes"), "{}", place.read("2"));
    assert_eq!(web.seen().len(), before + 1);
    place.verify();
}
