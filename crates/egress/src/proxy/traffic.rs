//! Counting, limiting and slowing down what goes over a connection to the outside.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes of one connection, both directions.
#[derive(Debug, Default)]
pub(super) struct Counts {
    out: AtomicU64,
    inward: AtomicU64,
}

impl Counts {
    /// Bytes sent to the outside.
    pub(super) fn out(&self) -> u64 {
        self.out.load(Ordering::Relaxed)
    }

    /// Bytes received from there.
    pub(super) fn inward(&self) -> u64 {
        self.inward.load(Ordering::Relaxed)
    }

    /// Returns when nothing has gone in either direction for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        let (mut seen, mut quiet) = (self.out() + self.inward(), 0);
        while quiet < 4 {
            tokio::time::sleep(limit / 4).await;
            let now = self.out() + self.inward();
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
    }
}

/// What all connections of a command may use together.
#[derive(Debug)]
pub(super) struct Budget {
    all: Counts,
    max_bytes: Option<u64>,
    rate: Option<Mutex<Bucket>>,
}

/// Bytes that may go now. Refilled with time, at most one second's worth; goes below zero by what was too much.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    level: i128,
    filled: Instant,
}

impl Budget {
    pub(super) fn new(max_bytes: Option<u64>, rate: Option<u64>) -> Self {
        let bucket = |rate: u64| {
            let rate = rate.max(1);
            Mutex::new(Bucket { rate, level: i128::from(rate), filled: Instant::now() })
        };
        Self { all: Counts::default(), max_bytes, rate: rate.map(bucket) }
    }

    /// Totals so far.
    pub(super) fn totals(&self) -> &Counts {
        &self.all
    }

    /// Whether the limit of bytes is reached.
    pub(super) fn is_spent(&self) -> bool {
        self.left() == Some(0)
    }

    /// The limit of bytes.
    pub(super) fn max_bytes(&self) -> Option<u64> {
        self.max_bytes
    }

    fn left(&self) -> Option<u64> {
        let used = self.all.out().saturating_add(self.all.inward());
        self.max_bytes.map(|max| max.saturating_sub(used))
    }

    /// How many bytes fit into the limit, at most `wanted`.
    fn room(&self, wanted: usize) -> io::Result<usize> {
        let room = self.left().map_or(wanted, |left| wanted.min(usize::try_from(left).unwrap_or(usize::MAX)));
        if room == 0 && wanted > 0 {
            return Err(io::Error::other("the limit of bytes over the network is reached"));
        }
        Ok(room)
    }

    /// How long to wait until something may go again.
    fn wait(&self) -> Option<Duration> {
        let mut bucket = self.rate.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let gained = now.duration_since(bucket.filled).as_nanos().saturating_mul(u128::from(bucket.rate));
        let gained = i128::try_from(gained / 1_000_000_000).unwrap_or(i128::MAX);
        if gained > 0 {
            bucket.level = bucket.level.saturating_add(gained).min(i128::from(bucket.rate));
            bucket.filled = now;
        }
        if bucket.level > 0 {
            return None;
        }
        let missing = u64::try_from(1 - bucket.level).unwrap_or(u64::MAX);
        #[expect(clippy::cast_precision_loss, reason = "a waiting time")]
        Some(Duration::from_secs_f64((missing as f64 / bucket.rate as f64).min(60.0)))
    }

    fn take(&self, bytes: usize) {
        if let Some(bucket) = &self.rate {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.level = bucket.level.saturating_sub(bytes as i128);
        }
    }
}

/// A connection to the outside whose bytes are counted.
#[derive(Debug)]
pub(super) struct Counted<S> {
    inner: S,
    counts: Arc<Counts>,
    budget: Arc<Budget>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Counted<S> {
    pub(super) fn new(inner: S, counts: Arc<Counts>, budget: Arc<Budget>) -> Self {
        Self { inner, counts, budget, waiting: None }
    }

    /// Ready when the rate lets something through.
    fn poll_rate(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(sleep) = &mut self.waiting {
                ready!(sleep.as_mut().poll(context));
                self.waiting = None;
            }
            match self.budget.wait() {
                None => return Poll::Ready(()),
                Some(time) => self.waiting = Some(Box::pin(tokio::time::sleep(time))),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_rate(context));
        let room = self.budget.room(buffer.remaining())?;
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.inner).poll_read(context, &mut part))?;
        let count = part.filled().len();
        buffer.advance(count);
        self.counts.inward.fetch_add(count as u64, Ordering::Relaxed);
        self.budget.all.inward.fetch_add(count as u64, Ordering::Relaxed);
        self.budget.take(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rate(context));
        let room = self.budget.room(bytes.len())?;
        let count = ready!(Pin::new(&mut self.inner).poll_write(context, &bytes[..room]))?;
        self.counts.out.fetch_add(count as u64, Ordering::Relaxed);
        self.budget.all.out.fetch_add(count as u64, Ordering::Relaxed);
        self.budget.take(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
