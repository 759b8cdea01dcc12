//! Ctrl-C and its relatives.

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Failure};

/// Resolves with 128 + N when signal N asks the program to end: SIGINT (130), SIGTERM (143) or SIGHUP (129).
pub(crate) fn interrupted() -> Result<impl Future<Output = Exit>, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")));
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        let number = tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
            _ = hangup.recv() => 1,
        };
        Exit::from_code(128 + number)
    })
}
