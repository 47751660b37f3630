//! Shows how one driver task watches 1,000 peers that send ten heartbeats a second, 10 of which fall silent.
//!
//! You should see that exactly those 10 peers are found silent, 300 ms after their last heartbeat, that is some 1,200 ms
//! after the start.
//!
//! ```sh
//! cargo run --example heartbeats
//! ```
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use schedgroup::Handle;
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
    let group: &Handle = peers.as_ref();
    group.every(BEAT).run(move |tick| {
        for peer in 0..PEERS {
            // Every hundredth peer is silent from the tenth beat on.
            if tick.number() < 10 || peer % 100 != 0 {
                // It returns `false` for a peer that was found silent: a program would insert that one again.
                beating.reset_after(&peer, PATIENCE);
            }
        }
        async {}
    });
    sleep(Duration::from_secs(2)).await;

    let found = found.load(Ordering::Relaxed);
    println!("{} peers are alive, {found} were found silent", peers.len());
    peers.shutdown(Duration::ZERO).await;
}
