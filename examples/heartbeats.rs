//! 1,000 peers that beat ten times a second; 10 of them fall silent.
//!
//! Look for: exactly the 10 silent peers are found, each 300 ms after its last beat, by one driver task.
//!
//! ```sh
//! cargo run --example heartbeats
//! ```
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use tokio::time::{Instant, sleep};

const PEERS: u32 = 1_000;
const BEAT: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_millis(300);

#[tokio::main]
async fn main() {
    let (begun, found) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let silent = Arc::clone(&found);
    let peers = KeyedGroup::with_handler(move |_, peer: u32, port: u16| {
        silent.fetch_add(1, Ordering::Relaxed);
        let ms = begun.elapsed().as_millis();
        async move { println!("{ms:>4} ms  peer {peer} on port {port} is silent") }
    });
    for peer in 0..PEERS {
        let port = 20_000 + peer as u16;
        peers.insert_after(peer, port, PATIENCE, OnDuplicate::Replace);
    }

    let beating = peers.handle();
    peers.as_ref().every(BEAT).run(move |tick| {
        for peer in 0..PEERS {
            // From the tenth beat on every hundredth peer keeps silent.
            if tick.number() < 10 || peer % 100 != 0 {
                beating.reset_after(&peer, PATIENCE);
            }
        }
        async {}
    });
    sleep(Duration::from_secs(2)).await;

    let found = found.load(Ordering::Relaxed);
    println!("{} peers beat on, {found} were found silent", peers.len());
    peers.shutdown(Duration::ZERO).await;
}
