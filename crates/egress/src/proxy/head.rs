//! Heads of requests: where they go, and what of them is sent on.

use std::net::IpAddr;

use action::{Decision, Destination, Verdict, Via};
use hyper::Request;
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use policy::network::normal_host;

use super::http::Origin;
use super::refusal::Refusal;

/// What is wrong with where a request wants to go.
pub(super) enum Wrong {
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

/// Where a request to a proxy goes: its absolute URI, with which `Host` has to agree (RFC 9112 3.2.2).
pub(super) fn target_of_proxy(headers: &HeaderMap, uri: &hyper::Uri) -> Result<Destination, Wrong> {
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
pub(super) fn target_of_server<B>(request: &Request<B>, origin: &Origin) -> Result<Origin, Wrong> {
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
pub(super) fn destination(authority: &Authority, usual: Option<u16>) -> Option<Destination> {
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
