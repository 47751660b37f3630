//! What a handler may do with its context.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::common::{HOUR, Log, ms};
use schedgroup::WaitError;
use schedgroup::keyed::OnDuplicate::{Keep, Replace};
use schedgroup::keyed::{Inserted, KeyedContext, KeyedGroup};
use tokio::time::{Instant, advance};

#[tokio::test(start_paused = true)]
async fn an_entry_inserts_itself_again_while_the_group_drains() {
    for exclusive in [false, true] {
        let log = Log::new();
        let runs = log.clone();
        let handler = move |context: KeyedContext<char, u32>, key: char, left: u32| {
            let runs = runs.clone();
            async move {
                runs.push((left, context.is_draining()));
                if left > 0 {
                    let again = context.insert_after(key, left - 1, ms(10), Keep);
                    assert_eq!(again, Inserted::New);
                }
            }
        };
        let builder = KeyedGroup::builder();
        let keyed = match exclusive {
            true => builder.exclusive().build_with(handler),
            false => builder.build_with(handler),
        };
        keyed.insert_after('k', 2, ms(10), Replace);
        keyed.wait().await.unwrap();
        let runs = [(2, 10), (1, 20), (0, 30)].map(|(left, at)| ((left, true), ms(at)));
        assert_eq!(log.take(), runs, "exclusive: {exclusive}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_covers_what_handlers_insert_and_gives_back_the_rest() {
    let keyed = KeyedGroup::with_handler(
        |context: KeyedContext<char, u32>, key: char, value: u32| async move {
            context.insert_after(key, value + 1, ms(10), Replace);
        },
    );
    keyed.insert_after('k', 0, ms(10), Replace);
    let (report, left) = keyed.drain(ms(35)).await;
    assert_eq!((report.finished, report.dropped), (3, 1));
    assert_eq!(left, [('k', 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_ends_its_run_alone_and_names_the_insert() {
    let log = Log::new();
    let handled = log.clone();
    let keyed = KeyedGroup::with_handler(move |_, key: char, value: u32| {
        assert_ne!(value, 1, "made");
        let handled = handled.clone();
        async move {
            assert_ne!(value, 2, "polled");
            handled.push((key, value));
        }
    });
    let line = line!() + 1;
    keyed.insert_after('a', 1, ms(1), Replace);
    keyed.insert_after('b', 2, ms(2), Replace);
    keyed.insert_after('c', 3, ms(3), Replace);
    let Err(WaitError::Panicked(panic)) = keyed.wait().await else {
        panic!("the panic is lost")
    };
    assert!(panic.message().contains("made"), "{panic}");
    assert_eq!(panic.scheduled_at().line(), line);
    assert!(panic.scheduled_at().file().ends_with("handlers.rs"));
    assert_eq!(log.labels(), [('c', 3)]);
    assert_eq!((keyed.stats().panicked, keyed.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_context_has_the_methods_and_the_facts_of_its_run() {
    let (log, start) = (Log::new(), Instant::now());
    let seen = log.clone();
    let keyed = KeyedGroup::with_handler(
        move |context: KeyedContext<char, u32>, key: char, value: u32| {
            let seen = seen.clone();
            async move {
                if key != 'a' {
                    return seen.push((key, value));
                }
                assert_eq!(
                    (context.deadline(), context.lateness()),
                    (start + ms(5), ms(0))
                );
                assert_eq!((context.run(), context.is_draining()), (1, true));
                context.insert_at('b', 1, start + ms(10), Replace);
                assert!(context.debounce_with('b', ms(10), ms(20), || 0, |value| *value += 1));
                assert!(context.reset_after(&'b', ms(1)) && context.contains_key(&'b'));
                assert_eq!(context.handle().deadline(&'b'), Some(start + ms(6)));
                context.insert_after('c', 9, HOUR, Replace);
                assert!(context.expire(&'c') && !context.abort(&'c'));
                assert_eq!((context.keys(), context.len()), (vec!['b'], 1));
                assert_eq!(context.remove(&'b'), Some(2));
                context.insert_after('d', 4, ms(1), Replace);
            }
        },
    );
    keyed.insert_after('a', 0, ms(5), Replace);
    keyed.wait().await.unwrap();
    assert_eq!(log.take(), [(('c', 9), ms(5)), (('d', 4), ms(6))]);
}

/// Where many short runs start one right after another, the worker reads the clock for one in eight.
#[tokio::test(start_paused = true)]
async fn a_context_tells_how_late_its_run_is_though_the_run_before_it_took_long() {
    let log = Log::new();
    let seen = log.clone();
    let took = |key: u32| Duration::from_micros(if key == 10 { 5_000 } else { 1 });
    let keyed = KeyedGroup::with_handler(move |context: KeyedContext<u32, ()>, key: u32, ()| {
        seen.push(context.lateness());
        async move {
            // The first poll moves the clock, and a second one is not needed.
            let mut taken = pin!(advance(took(key)));
            poll_fn(|cx| Poll::Ready(taken.as_mut().poll(cx).is_pending())).await;
        }
    });
    for key in 0..20 {
        keyed.insert_after(key, (), ms(0), Keep);
    }
    keyed.wait().await.unwrap();
    let lateness = |before| (0..before).map(took).sum::<Duration>();
    assert_eq!(log.labels(), (0..20).map(lateness).collect::<Vec<_>>());
}
