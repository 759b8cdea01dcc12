//! `varvel network`: where confined commands may connect to.

use action::{Connect, Destination, Verdict, Via};
use serde_json::json;

use crate::args::{NetworkArgs, NetworkVerb};
use crate::confinement::network as rules;
use crate::exit::{Exit, Failure};
use crate::grants::{self, List};
use crate::home::{Home, short};
use crate::terminal::{self, BAD, DIM, GOOD, WARN, styled};

pub(crate) fn network(verb: NetworkVerb) -> Result<Exit, Failure> {
    let home = Home::find()?;
    let config = home.config()?;
    let file = home.network_file();
    match verb {
        NetworkVerb::List { json: as_json } => {
            let rules = rules(&home, &config, &NetworkArgs::default())?;
            if as_json {
                let all: Vec<_> = rules
                    .rules()
                    .map(|rule| json!({ "verdict": rule.verdict, "rule": rule.pattern.to_string(), "source": rule.source }))
                    .collect();
                terminal::outln(&json!(all).to_string());
                return Ok(Exit::DONE);
            }
            for rule in rules.rules() {
                let pattern = rule.pattern.to_string();
                terminal::outln(&format!(
                    "{} {pattern:<40} {}",
                    verdict(rule.verdict),
                    styled(DIM, terminal::safe(&rule.source))
                ));
            }
            let kept = grants::read(&file)?;
            for (what, lists) in [
                ("private", [&config.network.private, &kept.private]),
                ("inspect", [&config.network.inspect, &kept.inspect]),
            ] {
                for host in lists.into_iter().flatten() {
                    terminal::outln(&format!("{} {}", styled(DIM, what), terminal::safe(host)));
                }
            }
            terminal::outln(&format!("{} everything else", verdict(Verdict::Ask)));
        }
        NetworkVerb::Allow { rule, private, inspect } => {
            let lists =
                [Some(List::Allow), private.then_some(List::Private), inspect.then_some(List::Inspect)];
            let lists: Vec<_> = lists.into_iter().flatten().collect();
            let new = grants::add(&file, &rule, &lists)?;
            let said = if new { "allowed" } else { "it was allowed already" };
            terminal::outln(&format!("{said}: {} in {}", terminal::safe(&rule), short(&file)));
        }
        NetworkVerb::Forget { rule } => {
            if !grants::forget(&file, &rule)? {
                return Err(Failure::usage(format!("there is no rule {rule:?} in {}", short(&file))));
            }
            terminal::outln(&format!("taken back: {}", terminal::safe(&rule)));
        }
        NetworkVerb::Check { to, method, network } => {
            let rules = rules(&home, &config, &network)?;
            let connect = connect(&to, method, |destination| rules.inspects(destination))?;
            let decision = rules.decide(&connect);
            terminal::outln(&format!(
                "{} {}  {}",
                verdict(decision.verdict),
                connect.destination,
                styled(DIM, terminal::safe(&format!("{}: {}", decision.rule, decision.reason)))
            ));
            return Ok(if decision.verdict == Verdict::Allow { Exit::DONE } else { Exit::REFUSED });
        }
    }
    Ok(Exit::DONE)
}

/// A connection from `HOST:PORT` or a URL.
fn connect(
    to: &str,
    method: Option<String>,
    inspected: impl Fn(&Destination) -> bool,
) -> Result<Connect, Failure> {
    if to.contains("://") {
        let (destination, encrypted) = egress::destination(to).map_err(Failure::usage)?;
        if encrypted && !inspected(&destination) {
            // What goes through the connection is not seen.
            return Ok(Connect { destination, via: Via::Tunnel, method: None, path: None });
        }
        let via = if encrypted { Via::Tunnel } else { Via::Http };
        let path =
            to.splitn(4, '/').nth(3).map(|rest| format!("/{}", rest.split(['?', '#']).next().unwrap_or("")));
        let path = path.unwrap_or_else(|| "/".to_owned());
        let method = method.unwrap_or_else(|| "GET".to_owned());
        return Ok(Connect { destination, via, method: Some(method), path: Some(path) });
    }
    let (host, port) = match to.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().unwrap_or(443)),
        _ => (to, 443),
    };
    let host = policy::network::normal_host(host.trim_matches(['[', ']'])).map_err(Failure::usage)?;
    Ok(Connect { destination: Destination { host, port }, via: Via::Tunnel, method, path: None })
}

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allow => styled(GOOD, "allow"),
        Verdict::Ask => styled(WARN, "ask  "),
        Verdict::Deny => styled(BAD, "deny "),
    }
}
