//! HTTP towards the client: requests to the proxy, tunnels, and requests in connections that can be looked into.
//!
//! One client connection is one future: hyper on one side, and beside it the work that outlives a request's
//! handler, such as a tunnel or the rest of an answer. Each request is decided on by itself.

use std::convert::Infallible;
use std::net::IpAddr;

use action::{Connect, Destination, Via};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{mpsc, oneshot};

use super::Proxy;
use super::dns::Names;
use super::forward::{Forward, Upstream};
use super::head::{Wrong, destination, target_of_proxy, target_of_server};
use super::refusal::Refusal;
use super::stream::BoxIo;
use super::tunnel::Opening;

/// Most bytes of a request's headers.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Most headers of a request or an answer.
pub(super) const MAX_HEADERS: usize = 128;

/// Longest method in bytes.
const MAX_METHOD: usize = 32;
/// Longest path in bytes; as long as rules look at.
const MAX_PATH: usize = 8192;

/// Any error of a body.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Any body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, BoxError>;
/// What comes back for a request.
pub(super) type Answer = Result<Response<Body>, Refusal>;

/// Where the requests of a connection go, when the connection says it and not each request.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) at: Destination,
    pub(super) via: Via,
    /// Whether TLS was taken off and has to be put on again.
    pub(super) tls: bool,
    /// As in [`Proxy::dial`].
    pub(super) only: Option<IpAddr>,
}

/// What goes on beside the HTTP connection.
enum Job {
    Tunnel(Destination, Opening),
    Forward(Box<Forward>),
}

impl Proxy<'_> {
    /// Serves HTTP to a client. Without an `origin` it is spoken to as a proxy.
    pub(super) async fn http(&self, stream: BoxIo, origin: Option<Origin>) {
        let (jobs, mut queue) = mpsc::channel::<Job>(1);
        let origin = origin.as_ref();
        let service = service_fn(move |request| {
            let jobs = jobs.clone();
            async move { Ok::<_, Infallible>(self.answer(request, origin, &jobs).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.limits.header)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let work = async {
            let mut upstream: Option<Upstream> = None;
            while let Some(job) = queue.recv().await {
                match job {
                    Job::Tunnel(at, opening) => {
                        // Boxed: a tunnel may hold another HTTP connection.
                        let patience = self.settings.limits.first_bytes;
                        Box::pin(self.tunnel(at, Via::Tunnel, None, patience, opening)).await;
                    }
                    Job::Forward(forward) => self.forward(*forward, &mut upstream).await,
                }
            }
        };
        // An error of the connection is the client's affair; the work ends with it.
        let (_, ()) = tokio::join!(connection, work);
    }

    /// The answer to one request.
    async fn answer(
        &self,
        request: Request<Incoming>,
        origin: Option<&Origin>,
        jobs: &mpsc::Sender<Job>,
    ) -> Response<Body> {
        let answer = match origin {
            None if request.method() == Method::CONNECT => self.connect(request, jobs).await,
            None => {
                let target = target_of_proxy(request.headers(), request.uri()).and_then(|at| {
                    Ok(Origin { at: self.meant(at)?, via: Via::Http, tls: false, only: None })
                });
                self.pass_on(request, target, Via::Http, jobs).await
            }
            Some(origin) => {
                let target = target_of_server(&request, origin);
                self.pass_on(request, target, origin.via, jobs).await
            }
        };
        answer.unwrap_or_else(|refusal| response(&refusal))
    }

    async fn connect(&self, mut request: Request<Incoming>, jobs: &mpsc::Sender<Job>) -> Answer {
        let malformed = || Refusal::bad("CONNECT takes HOST:PORT and nothing else");
        let whole = request.uri().scheme().is_none() && request.uri().path_and_query().is_none();
        let authority = request.uri().authority().filter(|_| whole).ok_or_else(malformed)?;
        let at = self.meant(destination(authority, None).ok_or_else(malformed)?)?;
        let (reply, answer) = oneshot::channel();
        let opening = Opening::Http(reply, hyper::upgrade::on(&mut request));
        let gone = || Refusal { status: 503, rule: None, text: "varvel: the command ended".to_owned() };
        jobs.send(Job::Tunnel(at, opening)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?.map(|()| Response::new(empty()))
    }

    async fn pass_on(
        &self,
        request: Request<Incoming>,
        target: Result<Origin, Wrong>,
        via: Via,
        jobs: &mpsc::Sender<Job>,
    ) -> Answer {
        let target = match target {
            Ok(target) => target,
            Err(Wrong::Bad(refusal)) => return Err(refusal),
            Err(Wrong::Mismatch(at, decision)) => {
                let refusal = Refusal::denied(&at, &decision);
                let connect = Connect { destination: at.clone(), via, method: None, path: None };
                self.note_stop(&at, &self.refuse(&connect, decision));
                return Err(refusal);
            }
        };
        if request.method() == Method::CONNECT {
            return Err(Refusal::bad("CONNECT goes to the proxy, not through it"));
        }
        // Both go into the ledger.
        if request.method().as_str().len() > MAX_METHOD || request.uri().path().len() > MAX_PATH {
            let text = format!("varvel: a path has at most {MAX_PATH} bytes, a method {MAX_METHOD}");
            return Err(Refusal { status: 414, rule: None, text });
        }
        let websocket =
            |value: &HeaderValue| value.to_str().is_ok_and(|text| text.eq_ignore_ascii_case("websocket"));
        if request.headers().get_all(UPGRADE).iter().any(websocket) {
            let text = "varvel: WebSockets do not go through a connection that is looked into; use wss:// without `inspect`";
            return Err(Refusal { status: 501, rule: None, text: text.to_owned() });
        }
        let connect = Connect {
            destination: target.at,
            via: target.via,
            method: Some(request.method().as_str().to_owned()),
            path: Some(request.uri().path().to_owned()),
        };
        let (reply, answer) = oneshot::channel();
        let forward = Forward { connect, request, tls: target.tls, only: target.only, reply };
        let gone = || Refusal { status: 503, rule: None, text: "varvel: the command ended".to_owned() };
        jobs.send(Job::Forward(Box::new(forward))).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// The name behind a made-up address: some clients resolve names before they ask the proxy.
    pub(super) fn meant(&self, at: Destination) -> Result<Destination, Refusal> {
        match at.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) if Names::is_made_up(IpAddr::V4(address)) => {
                let names = self.names.borrow();
                let host = names.name_of(address).map(str::to_owned);
                host.map(|host| Destination { host, ..at })
                    .ok_or_else(|| Refusal::bad("the address stands for a name that nobody asked for"))
            }
            _ => Ok(at),
        }
    }
}

fn empty() -> Body {
    Full::default().map_err(|never| match never {}).boxed_unsync()
}

/// A refusal as an answer.
fn response(refusal: &Refusal) -> Response<Body> {
    let text = Bytes::from(format!("{}\n", refusal.text));
    let mut response = Response::new(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Some(Ok(rule)) = refusal.rule.as_ref().map(|rule| HeaderValue::from_str(rule)) {
        headers.insert("x-varvel-rule", rule);
    }
    response
}
