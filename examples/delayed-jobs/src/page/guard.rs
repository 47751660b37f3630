//! Checks of requests: the host name must be known, a change must come from the page's own script, and the token must
//! be right if there is one.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, LOCATION, ORIGIN,
    REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// The name of the cookie in which a browser keeps the token.
const NAME: &str = "delayed-jobs-token";

pub(super) struct Guard {
    pub(super) hosts: Vec<String>,
    pub(super) token: Option<String>,
}

pub(super) async fn check(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match guard.refusal(&request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    let policy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Guard {
    fn refusal(&self, request: &Request) -> Option<Response> {
        // Health probes send no token, ask at whatever address they know, and get no data.
        let changes = request.method() != Method::GET && request.method() != Method::HEAD;
        if !changes && matches!(request.uri().path(), "/live" | "/ready") {
            return None;
        }
        let headers = request.headers();
        let host = header(headers, HOST).unwrap_or_default();
        if !self.is_ours(host) {
            let words = "this page answers to its own names only; `Page::host` adds one";
            return Some((StatusCode::MISDIRECTED_REQUEST, words).into_response());
        }
        let is_elsewhere = header(headers, ORIGIN).is_some_and(|origin| {
            origin
                .split_once("://")
                .is_none_or(|(_, from)| from != host)
        });
        if changes && is_elsewhere {
            let words = "this was asked for by a page of another origin";
            return Some((StatusCode::FORBIDDEN, words).into_response());
        }
        let token = self.token.as_deref()?;
        if is_shown(headers, token) {
            return None;
        }
        let asked = request.uri().query().unwrap_or_default();
        let asked = asked
            .split('&')
            .find_map(|part| part.strip_prefix("token="));
        if request.uri().path() == "/" && asked.is_some_and(|asked| is_same(asked, token)) {
            // The redirect removes the token from the address, which browsers keep in their history.
            let cookie = format!("{NAME}={token}; HttpOnly; SameSite=Strict; Path=/");
            let headers = [(SET_COOKIE, cookie), (LOCATION, "/".to_owned())];
            return Some((StatusCode::SEE_OTHER, headers).into_response());
        }
        let words = "a token is needed: open /?token=..., or send it as a bearer token";
        Some((StatusCode::UNAUTHORIZED, words).into_response())
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        ["localhost", "127.0.0.1", "[::1]"].contains(&name.as_str()) || self.hosts.contains(&name)
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_shown(headers: &HeaderMap, token: &str) -> bool {
    let bearer = header(headers, AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let cookies = header(headers, COOKIE).unwrap_or_default().split(';');
    let cookie = cookies
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == NAME).then_some(value));
    bearer.or(cookie).is_some_and(|shown| is_same(shown, token))
}

/// Compares in constant time, so that the duration does not reveal how much of the token is right.
fn is_same(shown: &str, token: &str) -> bool {
    let pairs = shown.bytes().zip(token.bytes());
    shown.len() == token.len() && pairs.fold(0, |wrong, (a, b)| wrong | (a ^ b)) == 0
}
