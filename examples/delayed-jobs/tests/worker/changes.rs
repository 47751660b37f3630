//! What is changed while a worker runs.

use delayed_jobs::Recurring;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_schedule_is_paused_resumed_and_run_by_hand() {
    let (queue, log) = (testkit::queue(), Log::new());
    let worker = noting(&queue, &log);
    let worker = worker.every("often", 100 * SECOND, &Note(7));
    let by_hand = async {
        // Between two of its times, whenever that is.
        while log.lines().is_empty() {
            sleep(SECOND).await;
        }
        sleep(50 * SECOND).await;
        queue.pause_schedule("often").await.expect("paused");
        sleep(1000 * SECOND).await;
        assert_eq!(log.lines().len(), 1, "none while it is paused");
        queue.run_schedule("often").await.expect("run");
        sleep(SECOND).await;
        assert_eq!(log.lines().len(), 2, "but one by hand");
        queue.resume_schedule("often").await.expect("resumed");
        sleep(100 * SECOND).await;
        assert_eq!(log.lines().len(), 3, "none is made up for");
        let unknown = queue.run_schedule("never").await.expect_err("unknown");
        assert_eq!(unknown.to_string(), "there is no schedule `never`");
    };
    beside(worker, by_hand).await;
}

#[tokio::test(start_paused = true)]
async fn the_concurrency_of_a_worker_is_changed_while_it_runs() {
    let queue = testkit::queue();
    let running = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&running);
    let worker = queue.worker().concurrency("default", 2);
    let worker = worker.register(move |_: Job<Note>| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            sleep(10 * SECOND).await;
            count.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    for note in 0..200 {
        put(&queue, note, Duration::ZERO).await;
    }
    let changes = async {
        let mut seen = Vec::new();
        for limit in [None, Some(8), Some(3), Some(50), None] {
            let set = Limit::default();
            let set = limit.map_or(set, |limit| set.worker_at_once(limit));
            queue.limit("default", set).await.expect("set");
            sleep(SECOND / 10).await;
            let shown = queue.workers().await.expect("workers")[0].queues.clone();
            assert_eq!(shown, format!("default {}", limit.unwrap_or(2)));
            // What runs already is not stopped, and no more than may run do at any time after it.
            sleep(11 * SECOND).await;
            let mut most = 0;
            for _ in 0..100 {
                sleep(SECOND / 10).await;
                most = most.max(running.load(Ordering::SeqCst));
            }
            seen.push(most);
        }
        assert_eq!(seen, [2, 8, 3, 50, 2]);
    };
    beside(worker.grace(Duration::ZERO), changes).await;
}

/// Short runs wait in the worker, where the next ones are not to join them in a group of their own.
#[tokio::test(start_paused = true)]
async fn short_runs_keep_to_a_concurrency_that_is_changed_while_they_wait() {
    let queue = testkit::queue();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let top = Arc::clone(&most);
    let worker = queue.worker().concurrency("default", 2);
    let worker = worker.register(move |_: Job<Note>| {
        let (running, top) = (Arc::clone(&running), Arc::clone(&top));
        async move {
            top.fetch_max(1 + running.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            sleep(Duration::from_millis(1)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    let jobs = (0..1000).map(|note| queue.enqueue(Note(note)));
    queue.enqueue_all(jobs).await.expect("enqueued");
    beside(worker.concurrency("other", 1), async {
        sleep(SECOND / 10).await;
        let four = Limit::default().worker_at_once(4);
        queue.limit("default", four).await.expect("set");
        sleep(SECOND).await;
        assert_eq!(most.load(Ordering::SeqCst), 4);
        // A queue without a change of its own goes on, too.
        let job = queue.enqueue(Note(1)).queue("other");
        let other = job.await.expect("enqueued").id();
        sleep(SECOND / 10).await;
        assert_eq!(super::job(&queue, other).await.state, State::Done);
    })
    .await;
}

/// A start asks for the next run. By itself a worker looks for it once a second at most.
#[tokio::test(start_paused = true)]
async fn runs_that_may_overlap_start_at_each_time() {
    for (period, expected) in [(SECOND, 19..=20), (SECOND / 5, 99..=100)] {
        let queue = testkit::queue();
        let starts = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&starts);
        let worker = queue.worker().register(move |_: Job<Note>| {
            count.fetch_add(1, Ordering::SeqCst);
            async {
                sleep(5 * SECOND).await;
                Ok(())
            }
        });
        let recurring = Recurring::default().overlap(true);
        let worker = worker.every_with(recurring, "tick", period, &Note(0));
        let worker = worker.concurrency("default", 30);
        testkit::run_for(worker, 20 * SECOND).await.expect("it ran");
        let starts = starts.load(Ordering::SeqCst);
        assert!(expected.contains(&starts), "{starts} in 20 s, {period:?}");
    }
}

/// No run of the cancelled job asks for the next one, so the worker looks for it at the time of the schedule.
#[tokio::test(start_paused = true)]
async fn a_schedule_goes_on_after_its_pending_job_was_cancelled() {
    let (queue, log) = (testkit::queue(), Log::new());
    let worker = noting(&queue, &log).every("often", 600 * SECOND, &Note(7));
    let cancel = async {
        sleep(2000 * SECOND).await;
        let pending = Filter {
            state: Some(State::Pending),
            ..Filter::default()
        };
        let cancelled = queue.change(Change::Cancel, pending).await;
        assert_eq!(cancelled.expect("an answer"), 1);
    };
    let run = testkit::run_for(worker, 7200 * SECOND);
    let (summary, ()) = tokio::join!(run, cancel);
    // One time of twelve is left out.
    assert_eq!(summary.expect("a run").done, 11, "{:?}", log.lines());
}
