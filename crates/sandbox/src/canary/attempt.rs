//! Attempts: each in a process of its own, with a time limit, and with the rule by which an answer is judged.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// Longest verdict that is read, in bytes.
const MAX_VERDICT: u64 = 65536;
/// Most answers that a verdict lists.
const MAX_LISTED: usize = 6;

/// How a canary went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It did not get out.
    Held,
    /// It got out.
    Escaped,
    /// It could not be tried, which proves nothing.
    Error,
}

/// How a canary went, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How.
    pub result: Outcome,
    /// The kernel's answers, or what got out.
    pub detail: String,
}

impl Verdict {
    pub(crate) fn held(detail: impl Into<String>) -> Self {
        Self { result: Outcome::Held, detail: detail.into() }
    }

    pub(crate) fn escaped(detail: impl Into<String>) -> Self {
        Self { result: Outcome::Escaped, detail: detail.into() }
    }

    pub(crate) fn error(detail: impl Into<String>) -> Self {
        Self { result: Outcome::Error, detail: detail.into() }
    }
}

/// Collects the answers to the several attempts of one canary.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answers: BTreeSet<String>,
    escapes: Vec<String>,
    errors: Vec<String>,
}

impl Tally {
    /// Anything but an error is an escape.
    pub(crate) fn must_fail<T, E: Into<Code>>(&mut self, what: &str, result: Result<T, E>) {
        match result {
            Ok(_) => self.escaped(what),
            Err(error) => {
                self.answers.insert(error.into().name());
            }
        }
    }

    /// The call must not even be looked at: any answer but "not permitted" or "no such call" means that the kernel
    /// read its arguments.
    pub(crate) fn must_be_barred<T, E: Into<Code>>(&mut self, what: &str, result: Result<T, E>) {
        match result.map_err(Into::into) {
            Err(code @ Code(libc::EPERM | libc::ENOSYS)) => {
                self.answers.insert(code.name());
            }
            Err(code) => self.escaped(format!("{what} reached the kernel ({})", code.name())),
            Ok(_) => self.escaped(what),
        }
    }

    pub(crate) fn escaped(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.escapes.contains(&what) {
            self.escapes.push(what);
        }
    }

    pub(crate) fn answer(&mut self, what: impl Into<String>) {
        self.answers.insert(what.into());
    }

    pub(crate) fn error(&mut self, what: impl Into<String>) {
        self.errors.push(what.into());
    }

    pub(crate) fn verdict(self) -> Verdict {
        if !self.escapes.is_empty() {
            return Verdict::escaped(listed(&self.escapes.iter().collect::<Vec<_>>()));
        }
        if !self.errors.is_empty() {
            return Verdict::error(listed(&self.errors.iter().collect::<Vec<_>>()));
        }
        Verdict::held(listed(&self.answers.iter().collect::<Vec<_>>()))
    }
}

/// The first few, and how many more there are.
fn listed(all: &[&String]) -> String {
    let shown: Vec<_> = all.iter().take(MAX_LISTED).map(|text| text.as_str()).collect();
    match all.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// An error number, whichever library it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) i32);

impl Code {
    /// As in errno(3): `EPERM`.
    pub(crate) fn name(self) -> String {
        format!("{:?}", Errno::from_raw(self.0))
    }

    fn last() -> Self {
        Self(Errno::last_raw())
    }
}

impl From<rustix::io::Errno> for Code {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl From<Errno> for Code {
    fn from(errno: Errno) -> Self {
        Self(errno as i32)
    }
}

impl From<std::io::Error> for Code {
    fn from(error: std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

/// A system call by its number.
///
/// # Safety
/// Every argument that this call takes for a pointer must be valid for it, or an address that is never mapped.
pub(crate) unsafe fn call(number: libc::c_long, args: [usize; 6]) -> Result<i64, Code> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: passed on to the caller.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 { Err(Code::last()) } else { Ok(result) }
}

/// How an isolated attempt ended.
pub(crate) enum Ended {
    /// With a verdict.
    Said(Verdict),
    /// By this signal.
    Killed(i32),
    /// Otherwise.
    Silent,
}

/// Makes the attempt in a child process that lives at most `seconds`.
pub(crate) fn isolated(seconds: u32, attempt: impl FnOnce() -> Verdict) -> Ended {
    let Ok((reader, mut writer)) = std::io::pipe() else { return Ended::Silent };
    // SAFETY: this process has one thread, so the child may do everything.
    match unsafe { libc::fork() } {
        0 => {
            drop(reader);
            // SAFETY: sets a timer; the default action of its signal ends this child.
            unsafe { libc::alarm(seconds) };
            if let Ok(mut line) = serde_json::to_vec(&attempt()) {
                line.push(b'\n');
                let _ = writer.write_all(&line);
            }
            // SAFETY: ends the child without running what the parent registered.
            unsafe { libc::_exit(0) }
        }
        -1 => Ended::Said(Verdict::error(format!("fork: {}", Code::last().name()))),
        child => {
            drop(writer);
            let mut line = String::new();
            // One line, not to the end: what the attempt left behind may hold the pipe.
            let _ = BufReader::new(reader.take(MAX_VERDICT)).read_line(&mut line);
            let status = wait(child);
            match serde_json::from_str(&line) {
                Ok(verdict) => Ended::Said(verdict),
                Err(_) if libc::WIFSIGNALED(status) => Ended::Killed(libc::WTERMSIG(status)),
                Err(_) => Ended::Silent,
            }
        }
    }
}

/// Waits for a child; returns its status as of wait(2).
pub(crate) fn wait(child: libc::pid_t) -> i32 {
    let mut status = 0;
    loop {
        // SAFETY: `status` is valid for the call.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        if waited == child || Errno::last_raw() != libc::EINTR {
            return status;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_escape_outweighs_everything() {
        let mut tally = Tally::default();
        tally.must_fail("a", Err::<(), _>(Code(libc::EROFS)));
        tally.must_be_barred("b", Err::<(), _>(Code(libc::EPERM)));
        assert_eq!(tally.verdict(), Verdict::held("EPERM, EROFS"));
        let mut tally = Tally::default();
        tally.error("x");
        tally.must_be_barred("bpf", Err::<(), _>(Code(libc::EFAULT)));
        tally.must_fail("read", Ok::<_, Code>(()));
        assert_eq!(tally.verdict(), Verdict::escaped("bpf reached the kernel (EFAULT), read"));
    }
}
