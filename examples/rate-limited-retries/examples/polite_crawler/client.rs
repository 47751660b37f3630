//! One request with hyper, without a task besides the caller's.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, RETRY_AFTER};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What a server said.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<String>,
}

/// Why a page is not there.
#[derive(Debug)]
pub(crate) enum Failure {
    Status(StatusCode),
    Broken(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(status) => status.fmt(f),
            Failure::Broken(error) => error.fmt(f),
        }
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Answer, Failure> {
    exchange(address, path).await.map_err(Failure::Broken)
}

async fn exchange(address: SocketAddr, path: &str) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header(HOST, address.to_string());
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        body.collect().await?;
        let retry_after = head.headers.get(RETRY_AFTER);
        Ok::<_, hyper::Error>(Answer {
            status: head.status,
            retry_after: retry_after.and_then(|value| Some(value.to_str().ok()?.to_owned())),
        })
    };
    let (answer, closed) = tokio::join!(answer, connection);
    closed?;
    Ok(answer?)
}
