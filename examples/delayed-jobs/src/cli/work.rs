//! Runs a worker with its page until a signal.

use std::error::Error;
use std::net::SocketAddr;

use delayed_jobs::Queue;
use delayed_jobs::page::Page;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::words::say;
use super::{args, tasks};

pub(super) async fn run(queue: &Queue, args: args::Worker) -> Result<(), Box<dyn Error>> {
    let worker = tasks::register(queue.worker())
        .concurrency(delayed_jobs::DEFAULT_QUEUE, args.concurrency as usize)
        .lease(args.lease)
        .grace(args.grace);
    if let Some(address) = args.page {
        let listener = listen(address).await?;
        let _ = say!("page on http://{}", listener.local_addr()?);
        let mut page = Page::new(queue.clone(), worker.metrics());
        for host in args.page_host {
            page = page.host(host);
        }
        if let Some(token) = args.page_token {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if token.len() < 8 || !token.chars().all(is_plain) {
                // Not by clap, whose error would show the token.
                return Err(
                    "a token has 8 characters or more, of letters, digits, `-`, `_` and `.`".into(),
                );
            }
            page = page.token(token);
        }
        // This fails, before the worker starts, if other machines could reach the page and no token is set.
        let serving = page.serve(listener)?;
        tokio::spawn(serving);
    }
    // A worker goes on though nobody reads what it prints.
    let _ = say!(
        "the worker runs; ctrl-c or SIGTERM ends it within {:?}",
        args.grace
    );
    let shutdown = CancellationToken::new();
    tokio::spawn(cancel_on_signal(shutdown.clone()));
    let summary = worker.run(shutdown).await?;
    let _ = say!(
        "{} done, {} failed, {} dead, {} cancelled, {} given back",
        summary.done,
        summary.failed,
        summary.dead,
        summary.cancelled,
        summary.released
    );
    Ok(())
}

/// At the first signal the worker shuts down gracefully, and at the second one at once. Neither loses a job.
pub(super) async fn cancel_on_signal(shutdown: CancellationToken) {
    let Ok(mut signals) = Signals::new() else {
        // Without a handler for it, a signal ends the program at once.
        return;
    };
    signals.next().await;
    tracing::info!("running jobs may finish; another signal ends the program at once");
    shutdown.cancel();
    signals.next().await;
    tracing::warn!("ended at once: the leases of running jobs will expire");
    std::process::exit(130);
}

#[cfg(unix)]
struct Signals {
    term: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) {
        // After an error no signal will come.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| {
        let hint = "choose another with --page, or port 0 for any";
        format!("no page on {address}: {error}; {hint}").into()
    })
}
