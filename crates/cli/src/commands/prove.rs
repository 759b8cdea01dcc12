//! `varvel doctor --prove`: a hostile program tries to get out of the sandbox, on this machine, now.

use std::path::Path;
use std::time::{Duration, Instant};

use action::{Command, Root};
use gate::Gate;
use policy::{NetworkConfig, NetworkRules};
use sandbox::{CANARY_ARG, Canary, Io, Outcome, Playground, Verdict};
use serde_json::json;
use tools::Confinement;

use super::proof;
use crate::exit::{Exit, Failure};
use crate::home::Home;
use crate::terminal::{self, BAD, BOLD, DIM, GOOD, styled};
use crate::{sessions, signals};

/// Longest that all canaries may take in one profile.
const LONGEST: Duration = Duration::from_secs(120);
/// Bytes of output that are kept: many times what the canaries print.
const OUTPUT: usize = 1 << 20;

/// How one canary went in one profile.
struct Finding {
    canary: &'static Canary,
    profile: &'static str,
    verdict: Verdict,
}

/// How all went.
struct Proof {
    findings: Vec<Finding>,
    time: Duration,
}

impl Proof {
    fn failed(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.verdict.result != Outcome::Held)
    }

    fn holds(&self) -> bool {
        self.failed().next().is_none()
    }
}

pub(crate) async fn prove(home: &Home, as_json: bool) -> Result<Exit, Failure> {
    let proof = tokio::select! {
        proof = attack_all(home) => proof?,
        // The dropped future has ended everything and removed the playground.
        exit = signals::interrupted()? => return Ok(exit),
    };
    show(&proof, as_json);
    Ok(if proof.holds() { Exit::DONE } else { Exit::FAILED })
}

/// Makes sure that the sandbox is proven on this kernel before something runs with nobody watching.
///
/// # Errors
/// If something gets out, or the proof cannot be made.
pub(crate) async fn require(home: &Home) -> Result<(), Failure> {
    if proof::proven(home) {
        return Ok(());
    }
    terminal::errln(&styled(DIM, "proving the sandbox on this kernel (first unattended run)...").to_string());
    let proof = attack_all(home).await?;
    let failed: Vec<_> = proof
        .failed()
        .map(|f| format!("  {} ({}): {}", f.canary.name, f.profile, f.verdict.detail))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the sandbox does not hold on this machine, so nothing runs unattended:\n{}\n  see: varvel doctor --prove",
        failed.join("\n")
    )))
}

/// Attacks every profile, and records the proof when all of them held.
async fn attack_all(home: &Home) -> Result<Proof, Failure> {
    let started = Instant::now();
    let network = anywhere()?;
    let about = json!({ "doctor": "prove", "profiles": sandbox::PROVEN });
    let (gate, _) = sessions::command(home, network.clone(), about)?;
    let mut findings = Vec::new();
    let mut failure = None;
    for profile in sandbox::PROVEN {
        match attack(home, &gate, &network, profile).await {
            Ok(found) => findings.extend(found),
            // Without a wall a profile may not even start; what was found before is what a test wants to see.
            Err(_) if sandbox::any_cut() && !findings.is_empty() => break,
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let proof = Proof { findings, time: started.elapsed() };
    let holds = failure.is_none() && proof.holds();
    gate.end(json!({ "exit": if holds { 0 } else { 1 }, "canaries": proof.findings.len() }))?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    // With a wall left out on purpose, nothing is proven.
    if holds && !sandbox::any_cut() {
        proof::record(home, sandbox::probe_cgroups())?;
    } else {
        proof::forget(home)?;
    }
    Ok(proof)
}

/// Rules that let every destination pass, so that what the canaries meet is the wall behind the rules: the check of the
/// address. They connect to this machine only, and to addresses that no packet leaves for.
fn anywhere() -> Result<NetworkRules, Failure> {
    let config = NetworkConfig { allow: vec!["*:*".into()], ..NetworkConfig::default() };
    NetworkRules::from_config(&config, "the proof").map_err(Failure::failed)
}

/// Attacks one profile. An escape counts when either side saw it, and silence is no proof.
async fn attack(
    home: &Home,
    gate: &Gate,
    network: &NetworkRules,
    profile: &'static str,
) -> Result<Vec<Finding>, Failure> {
    let place = home.state().join("canary");
    let failed = |error: std::io::Error| Failure::failed(format!("the playground of the proof: {error}"));
    workspace::create_private_dir(&place).map_err(failed)?;
    let real_home = std::env::var_os("HOME").unwrap_or_else(|| "/nonexistent".into());
    let mut playground = Playground::new(&place, home.state(), Path::new(&real_home)).map_err(failed)?;
    let output = confined(gate, network, &playground, profile).await?;
    let lines = sandbox::lines(&output);
    let evidence = playground.evidence();
    let finding = |canary: &'static Canary| {
        let said = lines.iter().find(|line| line.name == canary.name).map(|line| line.verdict.clone());
        let mut verdict = said.unwrap_or_else(|| Verdict {
            result: Outcome::Error,
            detail: "the program inside said nothing about it".into(),
        });
        for seen in evidence.iter().filter(|seen| seen.canary == canary.name) {
            let inside = if verdict.result == Outcome::Escaped { verdict.detail } else { String::new() };
            let detail = format!("{inside}{}{}", if inside.is_empty() { "" } else { "; " }, seen.detail);
            verdict = Verdict { result: Outcome::Escaped, detail };
        }
        Finding { canary, profile, verdict }
    };
    Ok(sandbox::canaries().map(finding).collect())
}

/// Runs the canary program in the sandbox; returns what it printed.
async fn confined(
    gate: &Gate,
    network: &NetworkRules,
    playground: &Playground,
    profile: &str,
) -> Result<String, Failure> {
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let root = Root::open(playground.workspace()).map_err(Failure::failed)?;
    let effect = Command {
        argv: vec![
            program.to_string_lossy().into_owned(),
            CANARY_ARG.into(),
            playground.brief().argument().map_err(Failure::failed)?,
        ],
        directory: root.resolve(".").map_err(Failure::failed)?,
        profile: profile.into(),
        privileges: Vec::new(),
        timeout: Some(LONGEST),
    };
    let io = Io::Captured { limit: OUTPUT, tap: None };
    let confinement =
        Confinement { network: network.clone(), visible: vec![program], ..Confinement::default() };
    let ran = gate.perform(effect, async |command| confinement.run(gate, command, io, None).await).await?;
    Ok(ran.value.command.output.text())
}

fn show(proof: &Proof, as_json: bool) {
    let ms = u64::try_from(proof.time.as_millis()).unwrap_or(u64::MAX);
    if as_json {
        let all: Vec<_> = proof
            .findings
            .iter()
            .map(|Finding { canary, profile, verdict }| {
                json!({ "name": canary.name, "theme": canary.theme, "profile": profile, "result": verdict.result, "detail": verdict.detail })
            })
            .collect();
        let whole = json!({ "held": proof.holds(), "kernel": proof::kernel(), "profiles": sandbox::PROVEN, "ms": ms, "canaries": all });
        terminal::outln(&whole.to_string());
        return;
    }
    let mut theme = "";
    for canary in sandbox::canaries() {
        if canary.theme != theme {
            theme = canary.theme;
            terminal::outln(&styled(BOLD, theme).to_string());
        }
        let failed: Vec<_> = proof.failed().filter(|finding| finding.canary.name == canary.name).collect();
        if failed.is_empty() {
            let mark = styled(GOOD, "\u{2713}");
            terminal::outln(&format!("  {mark} {:<20} {}", canary.name, styled(DIM, canary.tried)));
        }
        for Finding { profile, verdict, .. } in failed {
            let mark = styled(BAD.bold(), "\u{2717}");
            let what = if verdict.result == Outcome::Escaped { "got out" } else { "not shown" };
            let detail = terminal::line(&verdict.detail, 400);
            terminal::outln(&format!("  {mark} {:<20} {what} ({profile}): {detail}", canary.name));
        }
    }
    let (count, failed) = (proof.findings.len(), proof.failed().count());
    let profiles = sandbox::PROVEN.join(", ");
    let seconds = proof.time.as_secs_f64();
    terminal::outln(&if failed == 0 {
        format!(
            "{count} attempts to get out, none did (profiles {profiles}; kernel {}; {seconds:.1} s)",
            proof::kernel()
        )
    } else {
        format!(
            "{count} attempts to get out, {failed} not held (profiles {profiles}; kernel {}; {seconds:.1} s)",
            proof::kernel()
        )
    });
}
