//! A worker until ctrl-c, with its page.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use delayed_jobs::{Metrics, Queue, page};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::{args, tasks};

pub(super) async fn run(queue: &Queue, args: args::Worker) -> Result<(), Box<dyn Error>> {
    let worker = tasks::register(queue.worker())
        .concurrency(delayed_jobs::DEFAULT_QUEUE, args.concurrency as usize)
        .lease(args.lease)
        .grace(args.grace);
    if let Some(address) = args.page {
        let (address, _) = serve(queue, worker.metrics(), address).await?;
        println!("page on http://{address}");
    }
    println!("working; ctrl-c ends it within {:?}", args.grace);
    let shutdown = CancellationToken::new();
    tokio::spawn(cancel_on_ctrl_c(shutdown.clone()));
    let summary = worker.run(shutdown).await?;
    println!(
        "{} done, {} failed, {} dead, {} cancelled, {} given back",
        summary.done, summary.failed, summary.dead, summary.cancelled, summary.released
    );
    Ok(())
}

pub(super) async fn cancel_on_ctrl_c(shutdown: CancellationToken) {
    // Without a signal handler ctrl-c ends the program at once, which loses nothing either.
    if tokio::signal::ctrl_c().await.is_ok() {
        shutdown.cancel();
    }
}

/// Serves the page beside the rest, and tells where.
pub(super) async fn serve(
    queue: &Queue,
    metrics: Arc<Metrics>,
    address: SocketAddr,
) -> Result<(SocketAddr, AbortHandle), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("no page on {address}: {error}; choose another with --page, or port 0 for any")
    })?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(page::serve(listener, queue.clone(), metrics));
    Ok((address, serving.abort_handle()))
}
