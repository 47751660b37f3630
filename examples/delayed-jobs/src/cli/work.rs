//! A worker until ctrl-c, with its page.

use std::error::Error;
use std::net::SocketAddr;

use delayed_jobs::{Queue, page};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{args, tasks};

pub(super) async fn run(queue: &Queue, args: args::Worker) -> Result<(), Box<dyn Error>> {
    let worker = tasks::register(queue.worker())
        .concurrency(delayed_jobs::DEFAULT_QUEUE, args.concurrency as usize)
        .lease(args.lease)
        .grace(args.grace);
    if let Some(address) = args.page {
        let page = listen(address).await?;
        println!("page on http://{}", page.local_addr()?);
        tokio::spawn(page::serve(page, queue.clone(), worker.metrics()));
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

pub(super) async fn listen(address: SocketAddr) -> Result<TcpListener, Box<dyn Error>> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| {
        let hint = "choose another with --page, or port 0 for any";
        format!("no page on {address}: {error}; {hint}").into()
    })
}
