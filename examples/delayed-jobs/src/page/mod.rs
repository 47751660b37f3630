//! A page that shows the jobs to people: counts, what is due next, how late jobs start, and buttons.
//!
//! It is three files that are part of the program, and works without the internet. Serve it on loopback
//! or behind your own authentication: any client that can reach it may retry and cancel. A page of another origin
//! cannot press the buttons, since they ask for a header that such a page may not send.
//!
//! ```no_run
//! # async fn example(queue: delayed_jobs::Queue) -> Result<(), Box<dyn std::error::Error>> {
//! let worker = queue.worker();
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! tokio::spawn(delayed_jobs::page::serve(listener, queue.clone(), worker.metrics()));
//! # Ok(())
//! # }
//! ```

mod api;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::queue::Queue;

/// Serves the page until the future is dropped.
///
/// # Errors
///
/// If the listener fails.
pub async fn serve(listener: TcpListener, queue: Queue, metrics: Arc<Metrics>) -> io::Result<()> {
    axum::serve(listener, router(queue, metrics)).await
}

/// Returns the page as a router for a server of your own, to be served at the root.
pub fn router(queue: Queue, metrics: Arc<Metrics>) -> Router {
    let html = include_str!("page.html");
    let script = include_str!("page.js");
    let style = include_str!("page.css");
    Router::new()
        .route("/", get(async || text("text/html; charset=utf-8", html)))
        .route(
            "/page.js",
            get(async || text("text/javascript; charset=utf-8", script)),
        )
        .route(
            "/page.css",
            get(async || text("text/css; charset=utf-8", style)),
        )
        .route("/api/overview", get(api::overview))
        .route("/api/jobs/{id}/retry", post(api::retry))
        .route("/api/jobs/{id}/cancel", post(api::cancel))
        .route("/api/queues/{name}/pause", post(api::pause))
        .route("/api/queues/{name}/resume", post(api::resume))
        .with_state(api::Shown { queue, metrics })
}

fn text(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let policy = "default-src 'self'; frame-ancestors 'none'";
    (
        [(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, policy)],
        text,
    )
}
