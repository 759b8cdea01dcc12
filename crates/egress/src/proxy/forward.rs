//! One HTTP request and its answer: decided on, sent on, counted. The only path of requests that can be seen.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use action::Connect;
use bytes::Bytes;
use gate::{Authorized, GateError};
use http_body_util::{BodyExt, Either, Empty};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::Proxy;
use super::head::{outgoing, strip};
use super::http::{Answer, BoxError, MAX_HEAD, MAX_HEADERS};
use super::refusal::{Carried, Failure, Refusal, Stop, Traffic};
use super::stream::BoxIo;
use super::traffic::{Counted, Counts};
use crate::client::innermost;

/// How long a kept connection may take to be free for the next request.
const KEPT: Duration = Duration::from_secs(1);

/// A request on its way.
pub(super) struct Forward {
    pub(super) connect: Connect,
    pub(super) request: Request<Incoming>,
    pub(super) tls: bool,
    /// As in [`Proxy::dial`].
    pub(super) only: Option<IpAddr>,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// What a request carries: the client's body, or nothing.
type Outgoing = Either<Incoming, Empty<Bytes>>;

/// A connection to a server that can take another request of the same client.
pub(super) struct Upstream {
    sender: SendRequest<Outgoing>,
    /// What moves its bytes. It holds nothing of the gate.
    _task: Abort,
    counts: Arc<Counts>,
    address: SocketAddr,
    connect: Connect,
    tls: bool,
    only: Option<IpAddr>,
}

/// Ends a task when it is dropped.
struct Abort(AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Upstream {
    /// Whether it leads where `forward` wants to go.
    fn fits(&self, forward: &Forward) -> bool {
        self.connect.destination == forward.connect.destination
            && self.tls == forward.tls
            && self.only == forward.only
            && !self.sender.is_closed()
    }
}

impl Proxy<'_> {
    /// Takes a request from the wish to the end of its answer.
    pub(super) async fn forward(&self, forward: Forward, upstream: &mut Option<Upstream>) {
        let connect = forward.connect.clone();
        let at = connect.destination.clone();
        let mut waiting = Some(forward);
        let mut reply = None;
        let result = match self.check_budget(&connect) {
            Err(stop) => Err(GateError::Failed(Failure::from(stop))),
            Ok(()) => {
                let exchange = async |authorized| {
                    let Some(forward) = waiting.take() else { return Err(Failure::from(Stop::Client)) };
                    self.exchange(authorized, forward, upstream, &mut reply).await
                };
                self.gate.perform(connect, exchange).await
            }
        };
        match result {
            Ok(_) => self.count_made(),
            Err(error) => {
                self.note(&at, &error);
                if let Some(reply) = waiting.map(|forward| forward.reply).or(reply) {
                    // A client that went away is not told.
                    let _ = reply.send(Err(Refusal::of(&at, &error)));
                }
            }
        }
    }

    /// Sends an authorised request and passes the answer on. Until the answer begins, `unanswered` holds the way to
    /// tell the client about a failure.
    async fn exchange(
        &self,
        authorized: Authorized<Connect>,
        forward: Forward,
        upstream: &mut Option<Upstream>,
        unanswered: &mut Option<oneshot::Sender<Answer>>,
    ) -> Result<Carried, Failure> {
        let kept = upstream.take().filter(|upstream| upstream.fits(&forward));
        let Forward { request, reply, tls, only, .. } = forward;
        let reply = unanswered.insert(reply);
        let (mut parts, body) = request.into_parts();
        let at = authorized.action().destination.clone();
        let bad = |refusal: Refusal| Stop::Broken { at: at.to_string(), why: refusal.text };
        outgoing(&mut parts, &at, tls).map_err(bad)?;

        // The server may close a kept connection at any moment, and then nobody knows whether it has read the
        // request: only one that can be sent twice goes over it (RFC 9110 9.2.2).
        let repeatable =
            matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) && body.is_end_stream();
        let mut body = Some(body);
        let mut server = None;
        if repeatable
            && let Some(mut kept) = kept
            && timeout(KEPT, kept.sender.ready()).await.is_ok_and(|ready| ready.is_ok())
        {
            server = Some(kept);
        }
        let mut span = Span::new(server.as_ref());
        let (server, sent) = loop {
            let again = server.is_some();
            let mut now = match server.take() {
                Some(kept) => kept,
                None => self.open(&authorized, tls, only).await?,
            };
            let body = match body.take() {
                Some(body) if !repeatable => Either::Left(body),
                _ => Either::Right(Empty::new()),
            };
            let sending = now.sender.send_request(Request::from_parts(parts.clone(), body));
            let sent = tokio::select! {
                sent = sending => sent,
                () = now.counts.idle(self.settings.limits.idle) => return Err(span.failed(&now, Stop::Idle)),
                () = reply.closed() => return Err(span.failed(&now, Stop::Client)),
                () = self.ended() => return Err(span.failed(&now, Stop::Ended)),
            };
            match sent {
                Err(_) if again && !self.budget.is_spent() => span.start_again(&now),
                sent => break (now, sent),
            }
        };
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                let stop = self.broken(authorized.action(), &error);
                return Err(span.failed(&server, stop));
            }
        };
        strip(response.headers_mut());
        let status = response.status().as_u16();
        if status == 101 {
            let why = "it switches to another protocol, which was not asked for".to_owned();
            return Err(span.failed(&server, Stop::Broken { at: at.to_string(), why }));
        }

        // The answer goes to the client as it comes; this waits for its end.
        let (done, end) = oneshot::channel();
        let response = response.map(|body| Watched { body, done: Some(done) }.boxed_unsync());
        let told = unanswered.take().is_some_and(|reply| reply.send(Ok(response)).is_ok());
        if !told {
            return Err(span.failed(&server, Stop::Client));
        }
        let end = tokio::select! {
            end = end => end.unwrap_or(End::Dropped),
            () = server.counts.idle(self.settings.limits.idle) => return Err(span.failed(&server, Stop::Idle)),
            () = self.ended() => return Err(span.failed(&server, Stop::Ended)),
        };
        let traffic = span.traffic(&server);
        match end {
            End::Whole => {
                *upstream = Some(server);
                Ok(Carried { traffic, status: Some(status), reset: false })
            }
            End::Broken if self.budget.is_spent() => {
                Err(Failure { stop: self.refuse(authorized.action(), self.spent()), traffic })
            }
            End::Broken | End::Dropped => Ok(Carried { traffic, status: Some(status), reset: true }),
        }
    }

    /// A new connection for requests.
    async fn open(
        &self,
        authorized: &Authorized<Connect>,
        tls: bool,
        only: Option<IpAddr>,
    ) -> Result<Upstream, Failure> {
        let clock = Instant::now();
        let (stream, address) = self.dial(authorized, only).await?;
        let connect = authorized.action().clone();
        let counts = Arc::new(Counts::default());
        let failed = |stop| Failure {
            stop,
            traffic: Traffic {
                address: Some(address),
                out: counts.out(),
                inward: counts.inward(),
                time: clock.elapsed(),
            },
        };
        let counted = Counted::new(stream, Arc::clone(&counts), Arc::clone(&self.budget));
        let stream: BoxIo = if tls {
            self.secure(&connect.destination.host, counted).await.map_err(failed)?
        } else {
            Box::new(counted)
        };
        let handshake = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .handshake::<_, Outgoing>(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake.map_err(|error| failed(self.broken(&connect, &error)))?;
        // Its errors are seen by whoever waits for the answer.
        let task = Abort(tokio::spawn(async move { drop(connection.await) }).abort_handle());
        Ok(Upstream { sender, _task: task, counts, address, connect, tls, only })
    }

    fn broken(&self, connect: &Connect, error: &hyper::Error) -> Stop {
        if self.budget.is_spent() {
            return self.refuse(connect, self.spent());
        }
        Stop::Broken { at: connect.destination.to_string(), why: innermost(error) }
    }
}

/// The part of a kept connection that one request is.
struct Span {
    clock: Instant,
    before: (u64, u64),
    /// What went over a connection that was closed before it answered.
    wasted: (u64, u64),
}

impl Span {
    fn new(kept: Option<&Upstream>) -> Self {
        let before = kept.map_or((0, 0), |kept| (kept.counts.out(), kept.counts.inward()));
        Self { clock: Instant::now(), before, wasted: (0, 0) }
    }

    fn start_again(&mut self, lost: &Upstream) {
        let traffic = self.traffic(lost);
        (self.wasted, self.before) = ((traffic.out, traffic.inward), (0, 0));
    }

    fn traffic(&self, server: &Upstream) -> Traffic {
        Traffic {
            address: Some(server.address),
            out: server.counts.out().saturating_sub(self.before.0) + self.wasted.0,
            inward: server.counts.inward().saturating_sub(self.before.1) + self.wasted.1,
            time: self.clock.elapsed(),
        }
    }

    fn failed(&self, server: &Upstream, stop: Stop) -> Failure {
        Failure { stop, traffic: self.traffic(server) }
    }
}

/// How an answer's body ended.
enum End {
    Whole,
    Broken,
    Dropped,
}

/// A body that says when it has ended.
struct Watched {
    body: Incoming,
    done: Option<oneshot::Sender<End>>,
}

impl Watched {
    fn end(&mut self, end: End) {
        if let Some(done) = self.done.take() {
            // Nobody waits any more: the command has ended.
            let _ = done.send(end);
        }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            None => self.end(End::Whole),
            Some(Err(_)) => self.end(End::Broken),
            Some(Ok(_)) if self.body.is_end_stream() => self.end(End::Whole),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let end = if self.body.is_end_stream() { End::Whole } else { End::Dropped };
        self.end(end);
    }
}
