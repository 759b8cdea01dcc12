//! Rules of the network: what a confined command may connect to.
//!
//! Nothing is allowed that no rule names. Deny beats ask beats allow, wherever the rules come from. A name that is
//! allowed must not lead to an address of this machine or of a private network, unless that was said as well.

mod address;
mod host;
mod path;
mod pattern;

use std::collections::BTreeSet;
use std::net::IpAddr;

use action::{Connect, Decision, Destination, Verdict};
use serde::{Deserialize, Serialize};

pub use address::{AddressClass, classify};
pub use host::{HostError, normal_host};
pub use path::PathGlobError;
use pattern::Matched;
pub use pattern::{NetworkPattern, PatternError};

/// Rule that asks when no rule matches.
pub const DEFAULT_DENY: &str = "network.default-deny";
/// Rule that refuses addresses that are not public.
pub const PRIVATE_ADDRESS: &str = "network.private-address";
/// Rule that refuses what cannot be looked into although a rule is about paths or methods.
pub const UNSEEN: &str = "network.unseen-request";

/// Most rules from one source.
const MAX_RULES: usize = 10_000;

/// Rules of the network as they stand in a file, under `[network]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Patterns that may be connected to.
    pub allow: Vec<String>,
    /// Patterns that a person is asked about.
    pub ask: Vec<String>,
    /// Patterns that may not be connected to.
    pub deny: Vec<String>,
    /// Hosts that may lead to private addresses or to this machine.
    pub private: Vec<String>,
    /// Hosts whose TLS is opened, so that rules with methods and paths hold for them.
    pub inspect: Vec<String>,
}

/// Why rules could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkRuleError {
    /// A pattern does not parse.
    #[error("{place}: network pattern {text:?}: {why}")]
    Pattern {
        /// Where it stands.
        place: String,
        /// The pattern.
        text: String,
        /// What is wrong with it.
        #[source]
        why: PatternError,
    },
    /// `private` and `inspect` name hosts only.
    #[error("{place}: {text:?}: `{list}` takes hosts and ports; methods and paths belong into `allow`")]
    OnlyHosts {
        /// Where it stands.
        place: String,
        /// The pattern.
        text: String,
        /// `private` or `inspect`.
        list: &'static str,
    },
    /// Over 10,000 patterns.
    #[error("{place}: more than {MAX_RULES} network patterns; use *.example.org or a block of addresses")]
    TooMany {
        /// Where they stand.
        place: String,
    },
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRule {
    /// What it says.
    pub verdict: Verdict,
    /// What it is about.
    pub pattern: NetworkPattern,
    /// Where it stands: a file, `--allow`, the name of a profile.
    pub source: String,
}

impl NetworkRule {
    /// Stable name, such as `network.allow (varvel.toml: example.org)`.
    fn name(&self) -> String {
        format!("network.{} ({}: {})", word(self.verdict), self.source, self.pattern)
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Ask => "ask",
        Verdict::Deny => "deny",
    }
}

/// All rules in force. Without any, everything asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkRules {
    rules: Vec<NetworkRule>,
    private: Vec<NetworkPattern>,
    inspect: Vec<NetworkPattern>,
}

impl NetworkRules {
    /// Reads rules; `source` says where they stand, for the names of rules and for errors.
    ///
    /// # Errors
    /// If a pattern does not parse, or there are too many.
    pub fn from_config(config: &NetworkConfig, source: &str) -> Result<Self, NetworkRuleError> {
        let lists = [&config.allow, &config.ask, &config.deny, &config.private, &config.inspect];
        if lists.iter().map(|list| list.len()).sum::<usize>() > MAX_RULES {
            return Err(NetworkRuleError::TooMany { place: source.to_owned() });
        }
        let parse = |text: &String| -> Result<NetworkPattern, NetworkRuleError> {
            let place = source.to_owned();
            text.parse().map_err(|why| NetworkRuleError::Pattern { place, text: text.clone(), why })
        };
        let hosts = |list: &'static str, texts: &[String]| -> Result<Vec<NetworkPattern>, NetworkRuleError> {
            let host = |text: &String| match parse(text)? {
                pattern if pattern.needs_request() => {
                    Err(NetworkRuleError::OnlyHosts { place: source.to_owned(), text: text.clone(), list })
                }
                pattern => Ok(pattern),
            };
            texts.iter().map(host).collect()
        };
        let mut rules = Vec::new();
        for (verdict, texts) in
            [(Verdict::Allow, &config.allow), (Verdict::Ask, &config.ask), (Verdict::Deny, &config.deny)]
        {
            for text in texts {
                rules.push(NetworkRule { verdict, pattern: parse(text)?, source: source.to_owned() });
            }
        }
        Ok(Self {
            rules,
            private: hosts("private", &config.private)?,
            inspect: hosts("inspect", &config.inspect)?,
        })
    }

    /// Adds the rules of another source. The order does not matter.
    pub fn extend(&mut self, other: Self) {
        self.rules.extend(other.rules);
        self.private.extend(other.private);
        self.inspect.extend(other.inspect);
    }

    /// Every rule.
    pub fn rules(&self) -> impl Iterator<Item = &NetworkRule> {
        self.rules.iter()
    }

    /// Ports that a rule may let somebody connect to; always 80 and 443.
    #[must_use]
    pub fn ports(&self) -> BTreeSet<u16> {
        let named = self.rules.iter().filter(|rule| rule.verdict != Verdict::Deny);
        named.filter_map(|rule| rule.pattern.port()).chain([80, 443]).collect()
    }

    /// Whether TLS to there is opened.
    #[must_use]
    pub fn inspects(&self, at: &Destination) -> bool {
        self.inspect.iter().any(|pattern| pattern.matches_host(&at.host) && pattern.matches_port(at.port))
    }

    /// Whether any TLS is opened, so that a command needs the certificate of the session.
    #[must_use]
    pub fn inspects_anything(&self) -> bool {
        !self.inspect.is_empty()
    }

    /// Decides on a connection, by name. [`NetworkRules::decide_address`] decides on where the name leads.
    pub fn decide(&self, connect: &Connect) -> Decision {
        let at = &connect.destination;
        match normal_host(&at.host) {
            Ok(normal) if normal == at.host => {}
            Ok(_) | Err(_) => {
                let reason = format!("{:?} is not a host name that can be decided on", at.host);
                return Decision::new(Verdict::Deny, "network.bad-host", reason);
            }
        }
        let mut decided: Option<Decision> = None;
        let mut unseen = None;
        for rule in &self.rules {
            let decision = match (rule.pattern.matches(connect), rule.verdict) {
                (Matched::No, _) => continue,
                // What cannot be seen is not allowed by a rule about it, and is not let past a stricter one.
                (Matched::Unseen, Verdict::Allow) => {
                    unseen = unseen.or(Some(rule));
                    continue;
                }
                (Matched::Unseen, verdict) => {
                    Decision::new(verdict, rule.name(), unseen_reason(rule, connect))
                }
                (Matched::Yes, verdict) => {
                    let reason = match verdict {
                        Verdict::Allow => "a rule allows it".to_owned(),
                        Verdict::Ask => format!("a rule asks before connections to {at}"),
                        Verdict::Deny => format!("a rule of {} denies it", rule.source),
                    };
                    Decision::new(verdict, rule.name(), reason)
                }
            };
            decided = Some(match decided {
                Some(before) => before.stricter(decision),
                None => decision,
            });
        }
        let decision = match (decided, unseen) {
            (Some(decision), _) => decision,
            (None, Some(rule)) => Decision::new(Verdict::Deny, UNSEEN, unseen_reason(rule, connect)),
            (None, None) => Decision::new(Verdict::Ask, DEFAULT_DENY, default_reason(at)),
        };
        // For an address literal everything is known already.
        match host::literal(&at.host) {
            Some(address) => decision.stricter(self.decide_address(at, address)),
            None => decision,
        }
    }

    /// Decides on an address that `at` leads to: it must be public, unless a rule names it or its host is named
    /// under `private`; and no rule may deny it.
    pub fn decide_address(&self, at: &Destination, address: IpAddr) -> Decision {
        let address = address.to_canonical();
        let deny = |rule: String, reason| Decision::new(Verdict::Deny, rule, reason);
        let shown = address.to_string();
        let denies = |rule: &&NetworkRule| {
            let pattern = &rule.pattern;
            rule.verdict == Verdict::Deny
                && pattern.is_literal()
                && !pattern.needs_request()
                && pattern.matches_host(&shown)
                && pattern.matches_port(at.port)
        };
        if let Some(rule) = self.rules.iter().find(denies) {
            return deny(
                rule.name(),
                format!("{} leads to {address}, which a rule of {} denies", at.host, rule.source),
            );
        }
        let class = classify(address);
        let named = match class {
            AddressClass::Public => true,
            AddressClass::Loopback | AddressClass::Private | AddressClass::Cgnat | AddressClass::Reserved => {
                self.names(at, |pattern| pattern.matches_host(&at.host))
            }
            // A cloud's metadata hands out credentials: only the very address opens it, never a name or a block.
            AddressClass::LinkLocal | AddressClass::Metadata => {
                shown == at.host && self.names(at, |pattern| pattern.is_address(address))
            }
            AddressClass::Multicast | AddressClass::Broadcast | AddressClass::Unspecified => false,
        };
        if named {
            return Decision::new(Verdict::Allow, "network.address-ok", "the address may be connected to");
        }
        let leads = if shown == at.host { "is".to_owned() } else { format!("leads to {address},") };
        let fix = match remedy(PRIVATE_ADDRESS, at) {
            Some(remedy)
                if !matches!(
                    class,
                    AddressClass::Multicast | AddressClass::Broadcast | AddressClass::Unspecified
                ) =>
            {
                format!("; if that is meant: {remedy}")
            }
            _ => String::new(),
        };
        deny(PRIVATE_ADDRESS.to_owned(), format!("{} {leads} a {class} address{fix}", at.host))
    }

    /// Whether `private` or an allowing rule with an address names the place.
    fn names(&self, at: &Destination, test: impl Fn(&NetworkPattern) -> bool) -> bool {
        let by_rule = |rule: &NetworkRule| {
            rule.verdict != Verdict::Deny
                && rule.pattern.is_literal()
                && rule.pattern.matches_port(at.port)
                && test(&rule.pattern)
        };
        self.private.iter().any(&test) || self.rules.iter().any(by_rule)
    }
}

/// What to write so that it is allowed, for a refusal by `rule`; `None` where nothing is meant to help.
#[must_use]
pub fn remedy(rule: &str, at: &Destination) -> Option<String> {
    let usual = at.port == 443 || at.port == 80;
    let host = if at.host.contains(':') { format!("[{}]", at.host) } else { at.host.clone() };
    match rule {
        DEFAULT_DENY if usual => Some(format!("`--allow {at}` or `varvel network allow {host}`")),
        DEFAULT_DENY => Some(format!("`--allow {at}` or `varvel network allow {at}`")),
        PRIVATE_ADDRESS if host::literal(&at.host).is_some() => Some(format!("`--allow {at}`")),
        PRIVATE_ADDRESS => {
            Some(format!("`--allow-private {host}` or `varvel network allow --private {host}`"))
        }
        UNSEEN if usual => Some(format!("`--inspect {host}` or `varvel network allow --inspect {host}`")),
        UNSEEN => Some(format!("`--inspect {at}` or `varvel network allow --inspect {at}`")),
        _ => None,
    }
}

fn default_reason(at: &Destination) -> String {
    let remedy = remedy(DEFAULT_DENY, at).unwrap_or_default();
    format!("no rule names {at}; allow it with {remedy}")
}

fn unseen_reason(rule: &NetworkRule, connect: &Connect) -> String {
    let at = &connect.destination;
    if connect.path.is_some() {
        return format!(
            "the rule `{}` is about paths, and servers read this path differently (`..`, `//`, encoded slashes)",
            rule.pattern
        );
    }
    format!(
        "the rule `{}` is about methods or paths, and what goes through this connection cannot be seen; it needs {}",
        rule.pattern,
        remedy(UNSEEN, at).unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
