//! HTTP towards the client: requests to the proxy, tunnels, and requests in connections that can be looked into.
//!
//! One client connection is one future: hyper on one side, and beside it the work that outlives a request's
//! handler, such as a tunnel or the rest of an answer. Each request is decided on by itself.

use std::convert::Infallible;
use std::net::IpAddr;

use action::{Connect, Decision, Destination, Verdict, Via};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::network::normal_host;
use tokio::sync::{mpsc, oneshot};

use super::Proxy;
use super::forward::{Forward, Upstream};
use super::refusal::Refusal;
use super::stream::BoxIo;
use super::tunnel::Opening;

/// Most bytes of a request's headers.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Most headers of a request or an answer.
pub(super) const MAX_HEADERS: usize = 128;

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

/// What is wrong with where a request wants to go.
enum Wrong {
    Bad(Refusal),
    /// It names two places.
    Mismatch(Destination, Decision),
}

impl From<Refusal> for Wrong {
    fn from(refusal: Refusal) -> Self {
        Self::Bad(refusal)
    }
}

fn bad<T>(text: &str) -> Result<T, Wrong> {
    Err(Wrong::Bad(Refusal::bad(text)))
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
        use super::dns::Names;
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

/// Where a request to a proxy goes: its absolute URI, with which `Host` has to agree (RFC 9112 3.2.2).
fn target_of_proxy(headers: &HeaderMap, uri: &hyper::Uri) -> Result<Destination, Wrong> {
    match uri.scheme_str() {
        Some("http") => {}
        Some(_) => return bad("only http:// is passed on; https goes through CONNECT"),
        None => return bad("this is a proxy; it takes http://HOST/PATH and CONNECT"),
    }
    let at = uri.authority().and_then(|authority| destination(authority, Some(80)));
    let at = at.ok_or_else(|| Refusal::bad("the URI names no usable host"))?;
    match host_header(headers, 80)? {
        Some(host) if host != at => Err(mismatch(&host, &at)),
        _ => Ok(at),
    }
}

/// Where a request in a connection to `origin` goes. `Host` has to agree with the connection.
fn target_of_server(request: &Request<Incoming>, origin: &Origin) -> Result<Origin, Wrong> {
    let usual = if origin.tls { 443 } else { 80 };
    let Some(host) = host_header(request.headers(), usual)? else {
        return bad("the request has no Host");
    };
    let scheme = if origin.tls { "https" } else { "http" };
    if request.uri().scheme_str().is_some_and(|own| own != scheme) {
        return bad("the URI has another scheme than the connection");
    }
    if let Some(authority) = request.uri().authority()
        && destination(authority, Some(usual)).as_ref() != Some(&host)
    {
        return bad("the URI and Host name different places");
    }
    if host == origin.at {
        return Ok(origin.clone());
    }
    // A plain connection to an address literal: the name has to lead to that very address.
    match origin.at.host.parse::<IpAddr>() {
        Ok(address) if !origin.tls && origin.via == Via::Direct && host.port == origin.at.port => {
            Ok(Origin { at: host, only: Some(address), ..origin.clone() })
        }
        _ => Err(mismatch(&host, &origin.at)),
    }
}

fn mismatch(host: &Destination, at: &Destination) -> Wrong {
    let reason = format!("the request is for {host} in a connection to {at}");
    Wrong::Mismatch(at.clone(), Decision::new(Verdict::Deny, "network.host-mismatch", reason))
}

/// The one `Host`, if there is one.
fn host_header(headers: &HeaderMap, usual: u16) -> Result<Option<Destination>, Refusal> {
    let mut all = headers.get_all(HOST).iter();
    let Some(host) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(Refusal::bad("the request has more than one Host"));
    }
    let parsed = Authority::try_from(host.as_bytes()).ok();
    let at = parsed.and_then(|authority| destination(&authority, Some(usual)));
    at.map(Some).ok_or_else(|| Refusal::bad("Host names no usable host"))
}

/// Host and port of an authority; `None` if there is anything odd about it.
fn destination(authority: &Authority, usual: Option<u16>) -> Option<Destination> {
    let text = authority.as_str();
    if text.contains('@') {
        return None;
    }
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at(end);
    let port = match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None if rest.is_empty() => usual?,
        None => return None,
    };
    (port > 0).then_some(())?;
    Some(Destination { host: normal_host(host).ok()?, port })
}

/// The request as it is sent on: in origin form, with the headers that are for the server.
pub(super) fn outgoing(parts: &mut Parts, at: &Destination, tls: bool) -> Result<(), Refusal> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    // Only OPTIONS has a target that is no path.
    let path = if path.starts_with('/') || path == "*" { path } else { "/" };
    parts.uri = path.parse().map_err(|_| Refusal::bad("the path is not usable"))?;
    parts.version = hyper::Version::HTTP_11;
    strip(&mut parts.headers);
    let usual = if tls { 443 } else { 80 };
    let host = at.to_string();
    let host = if at.port == usual { host.rsplit_once(':').map_or("", |(host, _)| host) } else { &host };
    let host = HeaderValue::from_str(host).map_err(|_| Refusal::bad("the host is not usable"))?;
    parts.headers.insert(HOST, host);
    Ok(())
}

/// Takes out what is for the next hop only (RFC 9110 7.6.1), and everything for proxies.
pub(super) fn strip(headers: &mut HeaderMap) {
    let listed: Vec<String> = headers
        .get_all("connection")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    // A length beside chunks is how requests are smuggled.
    if headers.contains_key("transfer-encoding") {
        headers.remove("content-length");
    }
    for name in [
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "http2-settings",
    ] {
        headers.remove(name);
    }
    for name in listed.iter().filter(|name| !matches!(name.as_str(), "host" | "content-length")) {
        headers.remove(name.as_str());
    }
    let proxy: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("proxy-")).cloned().collect();
    for name in proxy {
        headers.remove(name);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities() {
        let at = |text: &str| destination(&text.parse().ok()?, Some(80)).map(|at| at.to_string());
        assert_eq!(at("Example.org").as_deref(), Some("example.org:80"));
        assert_eq!(at("example.org.:8080").as_deref(), Some("example.org:8080"));
        assert_eq!(at("[::1]:1").as_deref(), Some("[::1]:1"));
        assert_eq!(at("[::ffff:127.0.0.1]").as_deref(), Some("127.0.0.1:80"));
        for odd in [
            "u@example.org",
            "example.org:",
            "example.org:0",
            "example.org:70000",
            "127.1",
            "a..b",
            "[::1",
            ":80",
        ] {
            assert_eq!(at(odd), None, "{odd}");
        }
    }

    #[test]
    fn headers_for_the_next_hop_stay_here() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        strip(&mut headers);
        assert_eq!(headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["accept"]);
    }
}
