//! What the compiler does not check: which crate may know which, and where effects may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{Result, root};

/// The layers, from the bottom. A crate may depend on crates of lower layers, and on those of its own layer that
/// stand before it.
const LAYERS: &[(&str, &[&str])] = &[
    ("trusted core", &["action", "ledger", "policy", "flow", "redact", "gate"]),
    ("enforcement", &["workspace", "sandbox", "egress", "vault"]),
    ("capabilities", &["llm", "models", "tools"]),
    ("products", &["agent", "cli"]),
];

/// Crates of the trusted core may use nothing of this.
const NOT_IN_CORE: &[&str] = &["tokio", "reqwest", "hyper", "genai", "nix", "rustls", "futures-util"];

/// Effects, and the crates that may hold them.
const EFFECTS: &[(&str, &[&str], &[&str])] = &[
    ("a raw process", &["process::Command", "posix_spawn", "libc::execve", "libc::fork"], &["sandbox"]),
    (
        "a raw connection",
        &[
            "reqwest::Client::",
            "TcpStream::connect",
            "UdpSocket",
            "UnixStream::connect",
            "hyper_util::client",
        ],
        // The sandbox makes the sockets that it hands out, inside the command's own network.
        &["egress", "sandbox"],
    ),
    (
        "a raw file write",
        &[
            "fs::write",
            "fs::remove",
            "fs::rename",
            "fs::copy",
            "fs::create_dir",
            "fs::hard_link",
            "File::create",
            "OpenOptions",
            "DirBuilder",
            "set_permissions",
            "unlinkat",
            "renameat",
            "fs::unlink",
            "fs::mkdir",
        ],
        &["workspace", "ledger", "sandbox"],
    ),
    (
        "a disabled lint on effects",
        &["disallowed_methods", "disallowed_types"],
        &["workspace", "ledger", "sandbox", "egress"],
    ),
    ("a made-up authorisation", &["Authorized {"], &["gate"]),
];

#[derive(Deserialize)]
struct Manifest {
    package: Named,
    #[serde(default)]
    dependencies: BTreeMap<String, toml::Value>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

pub(crate) fn check() -> Result<bool> {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir(root().join("crates"))?.flatten() {
        let directory = entry.path();
        if directory.ends_with("llm-worker") || !directory.join("Cargo.toml").is_file() {
            continue;
        }
        let manifest: Manifest = toml::from_str(&fs::read_to_string(directory.join("Cargo.toml"))?)?;
        let name = manifest.package.name;
        edges(&name, manifest.dependencies.keys(), &mut problems);
        sources(&name, &directory.join("src"), &mut problems)?;
        seen.insert(name);
    }
    for (_, crates) in LAYERS {
        problems.extend(
            crates
                .iter()
                .filter(|name| !seen.contains(**name))
                .map(|name| format!("{name} is in a layer and not in crates/")),
        );
    }
    for problem in &problems {
        println!("{problem}");
    }
    println!("{} crates, {} problems", seen.len(), problems.len());
    Ok(problems.is_empty())
}

/// Position of a crate: its layer, and its place there.
fn position(name: &str) -> Option<(usize, usize)> {
    LAYERS.iter().enumerate().find_map(|(layer, (_, crates))| {
        crates.iter().position(|other| *other == name).map(|place| (layer, place))
    })
}

fn edges<'a>(name: &str, dependencies: impl Iterator<Item = &'a String>, problems: &mut Vec<String>) {
    let Some(own) = position(name) else {
        problems.push(format!("{name} is in no layer; see LAYERS in xtask/src/architecture.rs"));
        return;
    };
    for dependency in dependencies {
        match position(dependency) {
            Some(other) if other >= own => problems
                .push(format!("{name} must not depend on {dependency}, which is above it or beside it")),
            None if own.0 == 0 && NOT_IN_CORE.contains(&dependency.as_str()) => {
                problems.push(format!("{name} is of the trusted core and must not depend on {dependency}"));
            }
            _ => {}
        }
    }
}

/// Looks for effects in the sources of a crate, its tests aside.
fn sources(name: &str, directory: &Path, problems: &mut Vec<String>) -> Result<()> {
    for path in files(directory)? {
        if path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
        {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        for (number, line) in product_lines(&text) {
            let code = line.split("//").next().unwrap_or_default();
            if name != "sandbox"
                && (code.contains("unsafe {")
                    || code.contains("unsafe fn")
                    || code.contains("allow(unsafe_code"))
            {
                problems.push(format!("{shown}:{number}: unsafe outside sandbox"));
            }
            for (what, signs, allowed) in EFFECTS {
                if !allowed.contains(&name) && signs.iter().any(|sign| code.contains(sign)) {
                    problems.push(format!("{shown}:{number}: {what} outside {}", allowed.join(", ")));
                }
            }
        }
    }
    Ok(())
}

/// Lines before the module of unit tests.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_edges_are_found() {
        let mut problems = Vec::new();
        for (name, dependency) in [
            ("gate", "sandbox"),
            ("policy", "tokio"),
            ("llm", "agent"),
            ("sandbox", "egress"),
            ("new", "action"),
        ] {
            edges(name, [dependency.to_owned()].iter(), &mut problems);
        }
        assert_eq!(problems.len(), 5, "{problems:?}");
        edges("agent", ["llm".to_owned(), "tokio".to_owned()].iter(), &mut problems);
        assert_eq!(problems.len(), 5);
    }

    #[test]
    fn effects_in_the_wrong_place_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let bad = "fn f() { std::fs::write(p, b); }\nlet c = std::process::Command::new(x);\nunsafe { g() }\n// fs::write in words\n#[cfg(test)]\nfs::write";
        fs::write(dir.path().join("a.rs"), bad).unwrap();
        let mut problems = Vec::new();
        sources("tools", dir.path(), &mut problems).unwrap();
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
