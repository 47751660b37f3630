//! Shows a service that delivers webhooks: in order per target, at the target's rate, with retries, after a delay, and once
//! per id.
//!
//! | request | answer |
//! |---|---|
//! | `POST /deliveries?id=ID&target=HOST:PORT/PATH&delay=SECONDS`, the body is the payload | 202; 200 if the id is known; 503 if the queue is full or the service ends |
//! | `DELETE /deliveries/ID` | 204 if the delivery was cancelled; 409 if it has started or ended; 404 if the id is unknown |
//! | `GET /stats` | counts of all targets, or with `?target=HOST:PORT` of one |
//!
//! After SIGTERM or Ctrl-C, queued deliveries continue at their rate for five seconds. Then the service prints those that
//! are left.
//!
//! ```sh
//! cargo run --release -p rate-limited-retries --example webhooks -- 127.0.0.1:8080
//! curl -X POST -d '{"paid":7}' 'http://127.0.0.1:8080/deliveries?id=7&target=127.0.0.1:9000/hook&delay=2'
//! cargo run -p rate-limited-retries --example webhooks -- demo
//! ```
//!
//! In the demo you should see that each delivery is made once and in order although its receiver fails at times, that none
//! is made within a pause that the receiver asks for, that none is made after its `DELETE`, and that all that are left are
//! accounted for.
#![forbid(unsafe_code)]

mod demo;
mod http;
mod service;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use service::{Left, Service};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let word = std::env::args().nth(1);
    if word.as_deref() == Some("demo") {
        return demo::demo().await;
    }
    let address = word.unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("listening on {}", listener.local_addr()?);
    let left = serve(listener).await?;
    for Left {
        id,
        target,
        attempts,
    } in &left
    {
        println!("left: {id} for {target}, after {attempts} attempts");
    }
    println!("{} were left", left.len());
    Ok(())
}

/// Serves until SIGTERM or Ctrl-C. Returns what was not delivered.
async fn serve(listener: TcpListener) -> std::io::Result<Vec<Left>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let service = Arc::new(Service::start());
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    tokio::select! {
        () = stop => {}
        () = http::accept(&listener, &service) => {}
    }
    // Requests are still answered, with 503 where they bring more.
    tokio::select! {
        left = service.drain() => Ok(left),
        () = http::accept(&listener, &service) => Ok(Vec::new()),
    }
}
