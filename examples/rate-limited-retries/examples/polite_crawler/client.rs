//! One request with hyper, without a task besides the caller's.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, RETRY_AFTER};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rate_limited_retries::retry_after;
use tokio::net::TcpStream;

/// Why a page is not there.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The server's answer, and how long it wishes to be left alone.
    Status(StatusCode, Option<Duration>),
    Broken(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Status(status, _) => status.fmt(f),
            Refusal::Broken(error) => error.fmt(f),
        }
    }
}

/// Gets a page; with `told`, how often this client has learned from this host that it must wait.
pub(crate) async fn get(address: SocketAddr, path: &str, told: usize) -> Result<(), Refusal> {
    let (status, after) = exchange(address, path, told)
        .await
        .map_err(Refusal::Broken)?;
    if status.is_success() {
        return Ok(());
    }
    let after = after.and_then(|value| retry_after(&value, SystemTime::now()));
    Err(Refusal::Status(status, after))
}

type Answer = (StatusCode, Option<String>);

async fn exchange(
    address: SocketAddr,
    path: &str,
    told: usize,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, address.to_string())
        .header("x-told", told);
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        body.collect().await?;
        let after = head.headers.get(RETRY_AFTER);
        let after = after.and_then(|value| Some(value.to_str().ok()?.to_owned()));
        Ok::<_, hyper::Error>((head.status, after))
    };
    let (answer, closed) = tokio::join!(answer, connection);
    if answer.is_err() {
        // This is the cause.
        closed?;
    }
    Ok(answer?)
}
