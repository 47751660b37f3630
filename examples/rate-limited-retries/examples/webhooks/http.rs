//! HTTP: the service's own, and the requests to the targets.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client;
use hyper::header::{HOST, RETRY_AFTER};
use hyper::server;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rate_limited_retries::retry_after;
use tokio::net::{TcpListener, TcpStream};

use super::service::{Answer, Delivery, Service};

/// More is not accepted, nor read of an answer.
const PAYLOAD: usize = 1 << 20;

/// Why a delivery has failed.
#[derive(Debug)]
pub(crate) enum Refusal {
    Status(u16, Option<Duration>),
    Broken(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Status(status, _) => write!(f, "status {status}"),
            Refusal::Broken(error) => error.fmt(f),
        }
    }
}

/// Sends one delivery to its target.
pub(crate) async fn post(delivery: &Delivery) -> Result<(), Refusal> {
    let request = Request::post(&delivery.path)
        .header(HOST, &delivery.target)
        .header("idempotency-key", &delivery.id)
        .body(Full::new(Bytes::copy_from_slice(&delivery.payload)));
    let request = request.map_err(|error| Refusal::Broken(error.into()))?;
    let response = send(&delivery.target, request)
        .await
        .map_err(Refusal::Broken)?;
    if response.status().is_success() {
        return Ok(());
    }
    let after = response.headers().get(RETRY_AFTER);
    let after = after.and_then(|after| retry_after(after.to_str().ok()?, SystemTime::now()));
    Err(Refusal::Status(response.status().as_u16(), after))
}

/// One request on a connection of its own, in the caller's task.
pub(crate) async fn send(
    target: &str,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(target).await?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, PAYLOAD).collect().await?.to_bytes();
        Ok::<_, Box<dyn Error + Send + Sync>>(Response::from_parts(head, body))
    };
    let (answer, closed) = tokio::join!(answer, connection);
    if answer.is_err() {
        // This is the cause.
        closed?;
    }
    answer
}

/// Answers requests, until it is dropped.
pub(crate) async fn accept(listener: &TcpListener, service: &Arc<Service>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of files, say: others may be closed in a moment.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = Arc::clone(service);
        let answer = service_fn(move |request| {
            let service = Arc::clone(&service);
            async move { Ok::<_, Infallible>(answer(&service, request).await) }
        });
        // One that breaks is its client's to mend.
        tokio::spawn(
            server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
        );
    }
}

async fn answer(service: &Service, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let query = query(request.uri().query().unwrap_or_default());
    match (request.method(), path.as_str()) {
        (&Method::POST, "/deliveries") => {
            let Ok(body) = Limited::new(request.into_body(), PAYLOAD).collect().await else {
                return plain(StatusCode::PAYLOAD_TOO_LARGE, "");
            };
            let delay = query.get("delay").map_or(Ok(0.0), |delay| delay.parse());
            let delay = delay
                .ok()
                .and_then(|delay| Duration::try_from_secs_f64(delay).ok());
            let target = query
                .get("target")
                .and_then(|target| target.split_once('/'));
            let (Some(id), Some((target, path)), Some(delay)) = (query.get("id"), target, delay)
            else {
                return plain(
                    StatusCode::BAD_REQUEST,
                    "id, target=HOST:PORT/PATH, delay\n",
                );
            };
            let delivery = Delivery {
                id: id.clone(),
                target: target.to_owned(),
                path: format!("/{path}"),
                payload: body.to_bytes().to_vec(),
            };
            status(service.accept(delivery, delay))
        }
        (&Method::DELETE, path) => match path.strip_prefix("/deliveries/") {
            Some(id) => status(service.delete(id)),
            None => plain(StatusCode::NOT_FOUND, ""),
        },
        (&Method::GET, "/stats") => plain(StatusCode::OK, service.stats(query.get("target"))),
        _ => plain(StatusCode::NOT_FOUND, ""),
    }
}

fn query(query: &str) -> HashMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn status(answer: Answer) -> Response<Full<Bytes>> {
    let status = match answer {
        Answer::Accepted => StatusCode::ACCEPTED,
        Answer::Known => StatusCode::OK,
        Answer::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Answer::Prevented => StatusCode::NO_CONTENT,
        Answer::TooLate => StatusCode::CONFLICT,
        Answer::Unknown => StatusCode::NOT_FOUND,
    };
    plain(status, "")
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}
