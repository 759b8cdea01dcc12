//! A process outside the sandbox that lets itself be attacked, so that nothing of value is.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};

use super::{BAIT, CANARY_ARG};

/// The process. It ends when this is dropped, or when Varvel dies.
pub(crate) struct Bait(Child);

impl Bait {
    pub(crate) fn start(nonce: &str) -> io::Result<Self> {
        let child = Command::new("/proc/self/exe")
            .arg(CANARY_ARG)
            .arg(format!("{BAIT}{nonce}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }

    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap_or(-1)
    }

    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// The process that traces it; 0 for none.
    pub(crate) fn tracer(&self) -> i32 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.and_then(|pid| pid.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        // Already ended: then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the bait does: nothing, until its input ends.
pub(crate) fn wait_for_the_end() -> ! {
    let mut byte = [0u8; 1];
    while matches!(io::stdin().read(&mut byte), Ok(1..)) {}
    std::process::exit(0)
}
