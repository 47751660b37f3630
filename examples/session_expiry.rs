//! Shows sessions with a cart each, which expire when they have been idle for 500 ms.
//!
//! You should see that ada, who takes something each 100 ms, expires 500 ms after the last time; that ben logs out; and
//! that carl is still there at the end, so the shutdown returns his cart.
//!
//! ```sh
//! cargo run --example session_expiry
//! ```
#![forbid(unsafe_code)]

use std::time::Duration;

use schedgroup::keyed::{KeyedGroup, OnDuplicate};
use tokio::time::{Instant, sleep};

const IDLE: Duration = Duration::from_millis(500);

type Cart = Vec<&'static str>;

#[tokio::main]
async fn main() {
    let begun = Instant::now();
    let ms = move || begun.elapsed().as_millis();
    let sessions = KeyedGroup::with_handler(move |_, user: &str, cart: Cart| async move {
        println!("{:>4} ms  {user} was idle, and leaves {cart:?}", ms());
    });
    for user in ["ada", "ben"] {
        sessions.insert_after(user, Cart::new(), IDLE, OnDuplicate::Keep);
    }

    for item in ["a book", "a lamp", "a chair"] {
        sleep(Duration::from_millis(100)).await;
        // `false` for a user whose session has expired, who has to log in again.
        if sessions.reset_after("ada", IDLE) {
            sessions.with("ada", |cart| cart.push(item));
            println!("{:>4} ms  ada takes {item}", ms());
        }
    }
    let cart = sessions.remove("ben");
    println!("{:>4} ms  ben has logged out with {cart:?}", ms());

    sleep(Duration::from_millis(700)).await;
    sessions.insert_after("carl", vec!["a pen"], IDLE, OnDuplicate::Keep);
    let (report, carts) = sessions.shutdown(Duration::ZERO).await;
    println!("{:>4} ms  {report:?}, still there: {carts:?}", ms());
}
