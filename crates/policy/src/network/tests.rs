use action::Via;
use proptest::prelude::*;

use super::*;

fn rules(config: &str) -> NetworkRules {
    NetworkRules::from_config(&toml::from_str(config).unwrap(), "test").unwrap()
}

fn tunnel(host: &str, port: u16) -> Connect {
    Connect {
        destination: Destination { host: host.into(), port },
        via: Via::Tunnel,
        method: None,
        path: None,
    }
}

fn request(method: &str, host: &str, port: u16, path: &str) -> Connect {
    Connect {
        via: if port == 80 { Via::Http } else { Via::Tunnel },
        method: Some(method.into()),
        path: Some(path.into()),
        ..tunnel(host, port)
    }
}

#[test]
fn patterns_parse_and_print() {
    for (text, printed) in [
        ("example.org", "example.org"),
        ("Example.ORG.", "example.org"),
        ("*.example.org:8443", "*.example.org:8443"),
        ("*", "*"),
        ("*:*", "*:*"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8:22", "10.0.0.0/8:22"),
        ("[2001:db8::]/32", "[2001:db8::]/32"),
        ("[::1]:8080", "[::1]:8080"),
        ("[::ffff:10.0.0.1]", "10.0.0.1"),
        ("https://example.org/a/**", "https://example.org/a/**"),
        ("GET,HEAD example.org/a/*", "GET,HEAD example.org/a/*"),
        ("HEAD,GET,GET  http://example.org", "GET,HEAD http://example.org"),
        ("10.0.0.1:80/8", "10.0.0.1:80/8"),
        ("10.0.0.1/8x", "10.0.0.1/8x"),
        ("10.0.0.0/8/x/*", "10.0.0.0/8/x/*"),
    ] {
        let pattern: NetworkPattern = text.parse().unwrap();
        assert_eq!(pattern.to_string(), printed, "{text}");
        assert_eq!(printed.parse::<NetworkPattern>().unwrap(), pattern, "{text}");
    }
    for bad in [
        "",
        "a b c",
        "ftp://example.org",
        "exa*mple.org",
        "*.*.org",
        "2001:db8::1",
        "example.org:0",
        "example.org:65536",
        "example.org:http",
        "example.org:+80",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "b\u{fc}cher.example",
        "get example.org",
        "example.org/a?b",
        "user@example.org",
        "*.10.0.0.1",
        "127.1",
        "[::1",
        "[::1]80",
        "https://",
        ":80",
        "*.",
    ] {
        assert!(bad.parse::<NetworkPattern>().is_err(), "{bad:?}");
    }
    let error = "10.1.2.3/8".parse::<NetworkPattern>().unwrap_err().to_string();
    assert!(error.contains("10.0.0.0/8"), "{error}");
}

#[test]
fn hosts_and_ports() {
    let matches = |pattern: &str, host: &str, port| {
        pattern.parse::<NetworkPattern>().unwrap().matches(&tunnel(host, port)) == Matched::Yes
    };
    assert!(matches("example.org", "example.org", 443) && matches("example.org", "example.org", 80));
    assert!(!matches("example.org", "example.org", 22) && !matches("example.org", "a.example.org", 443));
    assert!(
        !matches("https://example.org", "example.org", 80)
            && !matches("http://example.org", "example.org", 443)
    );
    assert!(matches("example.org:*", "example.org", 22));
    assert!(matches("*.example.org", "a.b.example.org", 443));
    for other in ["example.org", "notexample.org", ".example.org", "example.org.evil.test"] {
        assert!(!matches("*.example.org", other, 443), "{other}");
    }
    assert!(matches("10.0.0.0/8", "10.200.0.1", 443) && !matches("10.0.0.0/8", "11.0.0.1", 443));
    assert!(!matches("10.0.0.0/8", "ten.example.org", 443));
    assert!(matches("[2001:db8::]/32", "2001:db8:1::1", 443));
    assert!(!"https://example.org".parse::<NetworkPattern>().unwrap().matches_port(80));
}

#[test]
fn deny_beats_ask_beats_allow_and_nothing_asks() {
    let mut all = rules("allow = ['*.example.org', 'example.com']\nask = ['b.example.org']");
    all.extend(rules("deny = ['c.example.org', '*:22']\nallow = ['b.example.org', 'c.example.org:*']"));
    let verdict = |host, port| all.decide(&tunnel(host, port)).verdict;
    assert_eq!(verdict("a.example.org", 443), Verdict::Allow);
    assert_eq!(verdict("b.example.org", 443), Verdict::Ask);
    assert_eq!(verdict("c.example.org", 443), Verdict::Deny);
    assert_eq!(verdict("c.example.org", 22), Verdict::Deny);
    let named = all.decide(&tunnel("a.example.org", 443));
    assert_eq!(named.rule, "network.allow (test: *.example.org)");
    let nothing = all.decide(&tunnel("other.test", 8443));
    assert_eq!((nothing.verdict, nothing.rule.as_str()), (Verdict::Ask, DEFAULT_DENY));
    assert!(nothing.reason.contains("--allow other.test:8443"), "{}", nothing.reason);
    let reason = all.decide(&tunnel("other.test", 443)).reason;
    assert!(reason.contains("`--allow other.test:443` or `varvel network allow other.test`"), "{reason}");
    for odd in ["Example.org", "example.org.", "127.1", "", "::ffff:1.1.1.1"] {
        assert_eq!(verdict(odd, 443), Verdict::Deny, "{odd}");
    }
}

#[test]
fn a_rule_about_paths_needs_to_see_them() {
    let rules = rules("allow = ['GET https://example.org/pub/**', 'http://plain.test/a']");
    let unseen = rules.decide(&tunnel("example.org", 443));
    assert_eq!((unseen.verdict, unseen.rule.as_str()), (Verdict::Deny, UNSEEN));
    assert!(unseen.reason.contains("inspect"), "{}", unseen.reason);
    let verdict = |request: &Connect| rules.decide(request).verdict;
    assert_eq!(verdict(&request("GET", "example.org", 443, "/pub/x/y")), Verdict::Allow);
    assert_eq!(verdict(&request("POST", "example.org", 443, "/pub/x/y")), Verdict::Ask);
    assert_eq!(verdict(&request("GET", "example.org", 443, "/private")), Verdict::Ask);
    assert_eq!(verdict(&request("GET", "example.org", 443, "/pub/../private")), Verdict::Deny);
    assert_eq!(verdict(&request("GET", "example.org", 80, "/pub/x")), Verdict::Ask, "plain is not https");
    assert_eq!(verdict(&request("PUT", "plain.test", 80, "/a")), Verdict::Allow);
}

#[test]
fn a_stricter_rule_about_paths_is_not_passed_unseen() {
    let rules = rules("allow = ['example.org']\ndeny = ['POST example.org', 'example.org/admin/**']");
    assert_eq!(rules.decide(&tunnel("example.org", 443)).verdict, Verdict::Deny);
    let verdict = |method, path| rules.decide(&request(method, "example.org", 443, path)).verdict;
    assert_eq!(verdict("GET", "/x"), Verdict::Allow);
    assert_eq!(verdict("POST", "/x"), Verdict::Deny);
    for path in ["/admin/x", "/%61dmin/x", "//admin/x", "/a/../admin/x", "/a%2f..%2fadmin/x"] {
        assert_eq!(verdict("GET", path), Verdict::Deny, "{path}");
    }
}

#[test]
fn addresses() {
    let rules = rules(
        "allow = ['*:*', '10.1.0.0/16:*', '192.168.1.1', '169.254.169.254:80']
         deny = ['93.184.216.0/24']
         private = ['intranet.example.org', '*.test']",
    );
    let verdict = |host: &str, address: &str| {
        let at = Destination { host: host.into(), port: 443 };
        rules.decide_address(&at, address.parse().unwrap()).verdict
    };
    assert_eq!(verdict("example.org", "1.1.1.1"), Verdict::Allow);
    for private in
        ["10.1.0.1", "127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::a00:1", "fe80::1"]
    {
        assert_eq!(verdict("example.org", private), Verdict::Deny, "{private}");
    }
    assert_eq!(verdict("example.org", "93.184.216.34"), Verdict::Deny, "a denied address, by whatever name");
    assert_eq!(verdict("intranet.example.org", "10.9.9.9"), Verdict::Allow);
    assert_eq!(verdict("a.test", "127.0.0.1"), Verdict::Allow);
    for never in ["169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "fd00:ec2::254"] {
        assert_eq!(verdict("a.test", never), Verdict::Deny, "{never}");
    }
    let decide = |host, port| rules.decide(&tunnel(host, port)).verdict;
    assert_eq!(decide("10.1.2.3", 5432), Verdict::Allow, "the rule names the block");
    assert_eq!(decide("10.2.2.3", 443), Verdict::Deny, "a star does not");
    assert_eq!(decide("192.168.1.1", 443), Verdict::Allow);
    assert_eq!(decide("192.168.1.1", 22), Verdict::Deny);
    assert_eq!(decide("169.254.169.254", 80), Verdict::Allow, "named exactly");
    assert_eq!(decide("169.254.1.1", 80), Verdict::Deny);
    assert_eq!(decide("1.1.1.1", 443), Verdict::Allow);
    let why = rules.decide_address(
        &Destination { host: "evil.example".into(), port: 443 },
        IpAddr::from([127, 0, 0, 1]),
    );
    assert_eq!(why.rule, PRIVATE_ADDRESS);
    assert!(why.reason.contains("--allow-private evil.example"), "{}", why.reason);
}

#[test]
fn configuration() {
    assert!(toml::from_str::<NetworkConfig>("alow = []").is_err());
    let bad = NetworkConfig { deny: vec!["a b c".into()], ..NetworkConfig::default() };
    let error = NetworkRules::from_config(&bad, "varvel.toml").unwrap_err().to_string();
    assert!(error.starts_with("varvel.toml: network pattern \"a b c\""), "{error}");
    let bad = NetworkConfig { inspect: vec!["example.org/x".into()], ..NetworkConfig::default() };
    assert!(matches!(NetworkRules::from_config(&bad, ""), Err(NetworkRuleError::OnlyHosts { .. })));
    let many = NetworkConfig { allow: vec!["a".into(); MAX_RULES + 1], ..NetworkConfig::default() };
    assert!(matches!(NetworkRules::from_config(&many, ""), Err(NetworkRuleError::TooMany { .. })));
    let rules =
        rules("allow = ['a.test:22', 'b.test:*']\ndeny = ['c.test:25']\ninspect = ['*.test', 'd.org:8443']");
    assert_eq!(rules.ports().into_iter().collect::<Vec<_>>(), [22, 80, 443]);
    let inspects = |host: &str, port| rules.inspects(&Destination { host: host.into(), port });
    assert!(inspects("x.test", 443) && !inspects("x.test", 8443) && inspects("d.org", 8443));
    assert!(!inspects("e.org", 443) && rules.inspects_anything());
}

fn pattern() -> impl Strategy<Value = String> {
    let host = prop_oneof![
        Just("*".to_owned()),
        "[a-z0-9-]{1,8}\\.[a-z]{2,4}",
        "\\*\\.[A-Z]{1,8}\\.[a-z]{2,4}",
        any::<[u8; 4]>().prop_map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
        any::<u128>().prop_map(|bits| format!("[{}]", std::net::Ipv6Addr::from_bits(bits))),
        (any::<u32>(), 0u8..=32).prop_map(|(bits, prefix)| {
            let network = std::net::Ipv4Addr::from_bits(bits) & host::mask4(prefix);
            format!("{network}/{prefix}")
        }),
        (any::<u128>(), 0u8..=128).prop_map(|(bits, prefix)| {
            let network = std::net::Ipv6Addr::from_bits(bits) & host::mask6(prefix);
            format!("[{network}]/{prefix}")
        }),
    ];
    let methods = prop_oneof![Just(""), Just("GET "), Just("POST,GET ")];
    let scheme = prop_oneof![Just(""), Just("http://"), Just("https://")];
    let port =
        prop_oneof![Just(String::new()), Just(":*".to_owned()), (1u16..).prop_map(|port| format!(":{port}"))];
    let path = prop_oneof![Just(String::new()), "/[a-z0-9*._-]{0,6}(/[a-z0-9*]{1,4}){0,3}"];
    (methods, scheme, host, port, path)
        .prop_map(|(methods, scheme, host, port, path)| format!("{methods}{scheme}{host}{port}{path}"))
}

proptest! {
    #[test]
    fn printing_and_parsing_agree(text in pattern()) {
        // Some combinations are refused, such as `/..`; what parses prints as itself.
        if let Ok(parsed) = text.parse::<NetworkPattern>() {
            prop_assert_eq!(parsed.to_string().parse::<NetworkPattern>(), Ok(parsed));
        }
    }

    #[test]
    fn any_text_either_prints_as_itself_or_is_refused(text in "\\PC{0,40}") {
        if let Ok(parsed) = text.parse::<NetworkPattern>() {
            prop_assert_eq!(parsed.to_string().parse::<NetworkPattern>(), Ok(parsed));
        }
    }

    #[test]
    fn more_denying_never_allows_more(host in "[abc]\\.test", deny in pattern(), path in "/[a-c%./]{0,6}") {
        let allow = rules("allow = ['*:*']");
        let mut both = allow.clone();
        let config = NetworkConfig { deny: vec![deny], ..NetworkConfig::default() };
        if let Ok(more) = NetworkRules::from_config(&config, "") {
            both.extend(more);
        }
        for connect in [tunnel(&host, 443), request("GET", &host, 80, &path)] {
            prop_assert!(both.decide(&connect).verdict >= allow.decide(&connect).verdict);
        }
    }
}
