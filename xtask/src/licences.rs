//! Licences of everything that is linked, against the list in `deny.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::Deserialize;

use crate::{Result, root};

#[derive(Deserialize)]
struct Deny {
    licenses: Licences,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

pub(crate) fn check() -> Result<bool> {
    let deny: Deny = toml::from_str(&fs::read_to_string(root().join("deny.toml"))?)?;
    let mut wrong = BTreeMap::new();
    let mut count = 0;
    for manifest in ["Cargo.toml", "crates/llm-worker/Cargo.toml"] {
        let output = Command::new("cargo")
            .args([
                "metadata",
                "--format-version",
                "1",
                "--locked",
                "--filter-platform",
                "x86_64-unknown-linux-gnu",
                "--manifest-path",
            ])
            .arg(root().join(manifest))
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        for package in metadata.packages {
            count += 1;
            let licence = package.license.unwrap_or_default();
            if !allowed(&licence, &deny.licenses.allow) {
                wrong.insert(format!("{} {}", package.name, package.version), licence);
            }
        }
    }
    for (package, licence) in &wrong {
        println!("{package}: {licence:?} is not allowed by deny.toml");
    }
    println!("{count} packages, {} with a licence that is not allowed", wrong.len());
    Ok(wrong.is_empty())
}

/// Whether an SPDX expression can be met with allowed licences: `AND` binds stronger than `OR`.
fn allowed(expression: &str, allow: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    !words.is_empty() && any(&mut words, allow) && words.is_empty()
}

fn any(words: &mut &[&str], allow: &[String]) -> bool {
    let mut met = all(words, allow);
    while let [word, rest @ ..] = *words
        && word.eq_ignore_ascii_case("or")
    {
        *words = rest;
        met |= all(words, allow);
    }
    met
}

fn all(words: &mut &[&str], allow: &[String]) -> bool {
    let mut met = one(words, allow);
    while let [word, rest @ ..] = *words
        && word.eq_ignore_ascii_case("and")
    {
        *words = rest;
        met &= one(words, allow);
    }
    met
}

fn one(words: &mut &[&str], allow: &[String]) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let met = any(words, allow);
            match *words {
                [")", rest @ ..] => {
                    *words = rest;
                    met
                }
                _ => false,
            }
        }
        [name, with, exception, rest @ ..] if with.eq_ignore_ascii_case("with") => {
            *words = rest;
            let whole = format!("{name} WITH {exception}");
            allow.iter().any(|allowed| *allowed == whole || allowed == name)
        }
        [name, rest @ ..] => {
            *words = rest;
            allow.iter().any(|allowed| allowed == name)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions() {
        let allow: Vec<String> = ["MIT", "Apache-2.0", "BSD-3-Clause"].map(str::to_owned).to_vec();
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "(MIT OR Apache-2.0) AND BSD-3-Clause",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(allowed(good, &allow), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT)", "GPL-2.0 OR (MIT AND AGPL-3.0)"] {
            assert!(!allowed(bad, &allow), "{bad}");
        }
    }
}
