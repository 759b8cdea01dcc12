//! Control groups: limits for the whole tree, where the machine lets us have them.
//!
//! Whether it does is found out by behaviour, not by whether a write succeeds: [`probe`] sets a limit and sees whether
//! it bites. The result is kept with the proof of the sandbox. Where none bites, rlimits and the look at the tree
//! (`limits`) are what holds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::launcher::Failure;
use crate::plan::Plan;
use crate::profile::ResourceLimits;

/// A controller whose limits were seen to bite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Memory,
    Pids,
    Cpu,
}

/// A hierarchy of control groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Hierarchy {
    /// Where it is mounted.
    mount: PathBuf,
    /// Its controllers as /proc/self/cgroup names them; empty for version 2.
    names: String,
    /// What bites there.
    kinds: Vec<Kind>,
}

impl Hierarchy {
    fn unified(&self) -> bool {
        self.names.is_empty()
    }

    /// The directory in which a group is made: where this process is now. In version 2 a group with processes has no
    /// groups with limits, so ours stands beside it.
    fn parent(&self) -> io::Result<PathBuf> {
        let membership = fs::read_to_string("/proc/self/cgroup")?;
        let own = membership.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next() == Some(self.names.as_str())).then(|| fields.next()).flatten()
        });
        let own = own.ok_or_else(|| io::Error::other("this process is in no such group"))?;
        let own = self.mount.join(own.trim_start_matches('/'));
        let parent = if self.unified() { own.parent().map(Path::to_owned) } else { Some(own) };
        parent
            .filter(|parent| parent.starts_with(&self.mount))
            .ok_or_else(|| io::Error::other("there is no room beside its group"))
    }
}

/// Which control groups limit something here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controllers(Vec<Hierarchy>);

impl Controllers {
    /// What bites, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let all: Vec<_> = self
            .0
            .iter()
            .flat_map(|hierarchy| &hierarchy.kinds)
            .map(|kind| match kind {
                Kind::Memory => "memory",
                Kind::Pids => "pids",
                Kind::Cpu => "cpu",
            })
            .collect();
        if all.is_empty() { "none; rlimits and a watcher hold instead".into() } else { all.join(", ") }
    }
}

/// The groups of one command. They are removed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Groups(Vec<PathBuf>);

impl Groups {
    /// Makes groups with the limits of a profile.
    pub(crate) fn create(controllers: &Controllers, limits: &ResourceLimits) -> io::Result<Self> {
        let mut groups = Self::default();
        for hierarchy in &controllers.0 {
            let directory = hierarchy.parent()?.join(fresh_name());
            fs::create_dir(&directory)?;
            groups.0.push(directory.clone());
            for kind in &hierarchy.kinds {
                for (file, value) in settings(*kind, hierarchy.unified(), limits) {
                    fs::write(directory.join(file), value)?;
                }
            }
        }
        Ok(groups)
    }

    /// Whether the kernel has killed something inside for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let files = self
            .0
            .iter()
            .flat_map(|group| ["memory.events", "memory.oom_control"].map(|file| group.join(file)));
        files.filter_map(|file| fs::read_to_string(file).ok()).any(|text| {
            let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            killed.is_some_and(|count| count.trim() != "0")
        })
    }

    pub(crate) fn directories(&self) -> &[PathBuf] {
        &self.0
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for directory in &self.0 {
            // What is still ending keeps it busy for a moment.
            for _ in 0..20 {
                match fs::remove_dir(directory) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// Puts this process, and so all that it starts, into the groups of the plan.
pub(crate) fn join(plan: &Plan) -> Result<(), Failure> {
    for directory in &plan.cgroups {
        fs::write(directory.get().join("cgroup.procs"), "0")
            .map_err(Failure::at("joining a control group"))?;
    }
    Ok(())
}

/// Files and values for one controller.
fn settings(kind: Kind, unified: bool, limits: &ResourceLimits) -> Vec<(&'static str, String)> {
    // A little beyond what the watcher allows: it ends everything and says so, this ends what is too fast for it.
    let bytes = (limits.memory_mb << 20).saturating_add(limits.memory_mb << 17);
    match (kind, unified) {
        (Kind::Memory, _) if limits.memory_mb == 0 => vec![],
        (Kind::Memory, true) => vec![("memory.max", bytes.to_string()), ("memory.swap.max", "0".into())],
        (Kind::Memory, false) => vec![("memory.limit_in_bytes", bytes.to_string())],
        (Kind::Pids, _) if limits.processes == 0 => vec![],
        // The launcher's own two processes count.
        (Kind::Pids, _) => vec![("pids.max", (limits.processes + 2).to_string())],
        (Kind::Cpu, _) if limits.cpu_percent == 0 => vec![],
        (Kind::Cpu, true) => vec![("cpu.max", format!("{} 100000", limits.cpu_percent * 1000))],
        (Kind::Cpu, false) => vec![
            ("cpu.cfs_period_us", "100000".into()),
            ("cpu.cfs_quota_us", (limits.cpu_percent * 1000).to_string()),
        ],
    }
}

/// Finds out what bites here. Takes some tenths of a second; starts and ends a few small processes.
#[must_use]
pub fn probe() -> Controllers {
    let mut found = Vec::new();
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for names in membership.lines().filter_map(|line| line.split(':').nth(1)) {
        for (mount, kinds) in mounts(names) {
            let mut hierarchy = Hierarchy { mount, names: names.to_owned(), kinds: Vec::new() };
            if let Ok(parent) = hierarchy.parent() {
                sweep(&parent);
            }
            hierarchy.kinds = kinds.into_iter().filter(|kind| bites(&hierarchy, *kind)).collect();
            if !hierarchy.kinds.is_empty() {
                found.push(hierarchy);
            }
        }
    }
    Controllers(found)
}

/// Where the hierarchy with these controllers is mounted, and which of ours it has.
fn mounts(names: &str) -> Vec<(PathBuf, Vec<Kind>)> {
    let all = [("memory", Kind::Memory), ("pids", Kind::Pids), ("cpu", Kind::Cpu)];
    let wanted: Vec<Kind> = all
        .iter()
        .filter(|(name, _)| names.split(',').any(|own| own == *name))
        .map(|(_, kind)| *kind)
        .collect();
    let unified = names.is_empty();
    if wanted.is_empty() && !unified {
        return Vec::new();
    }
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found = Vec::new();
    for line in table.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(place), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if unified && kind == "cgroup2" {
            found.push((PathBuf::from(place), all.iter().map(|(_, kind)| *kind).collect()));
        } else if !unified
            && kind == "cgroup"
            && names.split(',').all(|name| options.split(',').any(|o| o == name))
        {
            found.push((PathBuf::from(place), wanted.clone()));
        }
    }
    found
}

/// Whether a limit set in a new group holds back a process that goes beyond it.
fn bites(hierarchy: &Hierarchy, kind: Kind) -> bool {
    let limits = ResourceLimits {
        memory_mb: 16,
        processes: 4,
        cpu_percent: 10,
        open_files: 0,
        file_mb: 0,
        scratch_mb: 0,
    };
    let script = match kind {
        Kind::Memory => "head -c 67108864 /dev/zero | tail -c 67108864 | wc -c",
        Kind::Pids => "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1 & done; wait; echo 67108864",
        Kind::Cpu => "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done",
    };
    let one = Controllers(vec![Hierarchy { kinds: vec![kind], ..hierarchy.clone() }]);
    let Ok(groups) = Groups::create(&one, &limits) else { return false };
    let Some(directory) = groups.directories().first() else { return false };
    let script = format!("echo 0 > \"$1/cgroup.procs\" || exit 3\n{script}");
    let ran = Command::new("/bin/sh")
        .args(["-c", &script, "probe"])
        .arg(directory)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let Ok(ran) = ran else { return false };
    match kind {
        // Held back when it did not come to its end.
        Kind::Memory | Kind::Pids => {
            ran.status.code() != Some(3) && !String::from_utf8_lossy(&ran.stdout).contains("67108864")
        }
        Kind::Cpu => fs::read_to_string(directory.join("cpu.stat"))
            .unwrap_or_default()
            .lines()
            .any(|line| line.strip_prefix("nr_throttled ").is_some_and(|count| count.trim() != "0")),
    }
}

/// Removes groups that a killed process of ours has left.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("varvel-").and_then(|rest| rest.split('-').next()) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            // Not empty means that somebody else lives there.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn fresh_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("varvel-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_writes_nothing() {
        let none = ResourceLimits {
            memory_mb: 0,
            processes: 0,
            open_files: 0,
            file_mb: 0,
            scratch_mb: 0,
            cpu_percent: 0,
        };
        for kind in [Kind::Memory, Kind::Pids, Kind::Cpu] {
            assert!(settings(kind, true, &none).is_empty() && settings(kind, false, &none).is_empty());
        }
        assert_eq!(Controllers::default().describe(), "none; rlimits and a watcher hold instead");
    }
}
