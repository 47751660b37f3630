//! A web page that shows and manages jobs. It has counts, the jobs that are due next, lateness, workers and
//! schedules, a search, the history of each job, and buttons. It also has routes for other programs: `/live`, `/ready`,
//! and `/metrics` for Prometheus.
//!
//! `/live` answers 200, and `/ready` does if the store answers, and otherwise 503. Both are for probes: they have no data, so
//! they need no token, and any host name will do. Prometheus has to know the token, and [`Page::host`] the name or the
//! address at which it asks.
//!
//! The page is three files that are compiled into the program, and works without internet access. It accepts only requests
//! for host names of this machine, unless others are added, so another site cannot reach it by a name that it lets point
//! to this machine (DNS rebinding). [`Page::serve`] needs a token if other machines can reach the page. [`Page::router`] does
//! not, so **set one there too**. The page shows one payload at a time, and only as far as [`Page::redact`] allows.
//!
//! ```no_run
//! # async fn example(queue: delayed_jobs::Queue) -> Result<(), Box<dyn std::error::Error>> {
//! use delayed_jobs::page::Page;
//!
//! let worker = queue.worker();
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! tokio::spawn(Page::new(queue.clone(), worker.metrics()).serve(listener)?);
//! # Ok(())
//! # }
//! ```

// api         the requests of the page's script
// act         the actions of its buttons
// guard       checks of host names and the token
// overview    the query that all open pages share
// prometheus  the metrics as text

mod act;
mod api;
mod guard;
mod overview;
mod prometheus;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::queue::Queue;
use api::Shown;
use guard::Guard;

type Redact = Arc<dyn Fn(&str, &str) -> String + Send + Sync>;

/// A page, before it is served.
#[must_use = "`serve` it, or make it a `router`"]
pub struct Page {
    queue: Queue,
    metrics: Arc<Metrics>,
    hosts: Vec<String>,
    token: Option<String>,
    redact: Option<Redact>,
}

impl Page {
    /// Creates a page for the jobs of `queue`, with the metrics of one worker.
    pub fn new(queue: Queue, metrics: Arc<Metrics>) -> Page {
        Page {
            queue,
            metrics,
            hosts: Vec::new(),
            token: None,
            redact: None,
        }
    }

    /// Adds a host name under which the page is reached, without a port: for example the name of a proxy.
    pub fn host(mut self, host: impl Into<String>) -> Page {
        self.hosts.push(host.into().to_ascii_lowercase());
        self
    }

    /// Sets a token. A browser opens `/?token=...` once; other clients send it as a bearer token.
    ///
    /// # Panics
    ///
    /// If it is shorter than 8 characters, or contains characters other than letters, digits, `-`, `_` and `.`.
    #[track_caller]
    pub fn token(mut self, token: impl Into<String>) -> Page {
        let token = token.into();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        assert!(
            token.len() >= 8 && token.chars().all(is_plain),
            "delayed-jobs: a token has 8 characters or more, of letters, digits, `-`, `_` and `.`"
        );
        self.token = Some(token);
        self
    }

    /// Sets a closure that returns what is shown of a payload or an output. It gets the kind of the job and the JSON.
    pub fn redact(mut self, redact: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Page {
        self.redact = Some(Arc::new(redact));
        self
    }

    /// Serves the page until the future is dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if other machines can reach the listener and no token was set. The future returns an error if the
    /// listener fails.
    pub fn serve(
        mut self,
        listener: TcpListener,
    ) -> io::Result<impl Future<Output = io::Result<()>> + Send + 'static> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() && self.token.is_none() {
            let words = format!("other machines can reach the page on {address}: it needs a token");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
        }
        if !address.ip().is_unspecified() {
            self.hosts.push(own_name(address));
        }
        let router = self.router();
        Ok(async move { axum::serve(listener, router).await })
    }

    /// Returns the page as a router for a server of your own, to be served at the root.
    ///
    /// **Without a [`token`](Page::token) everybody who can reach your server can read all jobs, and cancel, retry and delete
    /// them.** A router does not know where it is served, so unlike [`serve`](Page::serve) it cannot insist on a token. The
    /// check of the host name does not help: a client that is no browser sends any name. Set a token, unless your server
    /// listens on a loopback address only, or has its own check of who asks in front of the router.
    ///
    /// ```no_run
    /// # use delayed_jobs::page::Page;
    /// # async fn example(page: Page, token: String) -> std::io::Result<()> {
    /// let router = page.host("jobs.example.org").token(token).router();
    /// let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
    /// axum::serve(listener, router).await
    /// # }
    /// ```
    pub fn router(self) -> Router {
        let html = include_str!("page.html");
        let script = include_str!("page.js");
        let style = include_str!("page.css");
        let guard = Arc::new(Guard {
            hosts: self.hosts,
            token: self.token,
        });
        let shown = Shown::new(self.queue, self.metrics, self.redact);
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
            .route("/api/jobs", get(api::jobs))
            .route("/api/jobs/{id}", get(api::job))
            .route("/api/count", get(api::count))
            .route("/api/jobs/{id}/delete", post(act::delete))
            .route("/api/jobs/{id}/retry", post(act::retry))
            .route("/api/jobs/{id}/cancel", post(act::cancel))
            .route("/api/change/{word}", post(act::change))
            .route("/api/queues/{name}/pause", post(act::pause))
            .route("/api/queues/{name}/resume", post(act::resume))
            .route("/api/queues/{name}/limit", post(act::limit))
            .route("/api/schedules/{name}/{word}", post(act::schedule))
            .route("/live", get(async || "alive\n"))
            .route("/ready", get(api::ready))
            .route("/metrics", get(api::metrics))
            .with_state(shown)
            .layer(from_fn_with_state(guard, guard::check))
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// Returns an address in the form that a browser sends.
fn own_name(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

/// Serves a page without further settings; see [`Page`].
///
/// # Errors
///
/// Returns an error if other machines can reach the listener, or if it fails.
pub async fn serve(listener: TcpListener, queue: Queue, metrics: Arc<Metrics>) -> io::Result<()> {
    Page::new(queue, metrics).serve(listener)?.await
}

fn text(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(CONTENT_TYPE, kind)], text)
}
