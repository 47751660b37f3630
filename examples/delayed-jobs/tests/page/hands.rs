//! What people do to many jobs, to queues and to schedules.

use delayed_jobs::{Filter, Limit};

use super::*;

/// Types into a field of a form, after what was there.
async fn fill(browser: &Client, css: &str, text: &str) {
    let field = browser.find(Locator::Css(css)).await.expect("a field");
    field.clear().await.expect("cleared");
    field.send_keys(text).await.expect("typed");
}

async fn click(browser: &Client, css: &str) {
    let found = browser.find(Locator::Css(css)).await.expect("a button");
    found.click().await.expect("pressed");
}

/// A press shows what it did, though an older overview was on its way. No further overview is asked for by itself meanwhile,
/// as on a page whose answers are slow.
pub(super) async fn what_was_changed_is_shown_after_an_older_answer(browser: &Client) {
    let run = async |script: &str| browser.execute(script, Vec::new()).await.expect("it runs");
    run("window.setTimeout = () => { window.isStill = true; };").await;
    let is_still = || async { run("return window.isStill ?? false").await == json!(true) };
    support::until("the page asks for nothing by itself", is_still).await;
    run("const real = window.fetch;
        window.fetch = async (path, ...rest) => {
            const answer = await real(path, ...rest);
            if (path === '/api/overview' && !window.letGo) {
                await new Promise((go) => { window.letGo = go; });
            }
            return answer;
        };
        refresh();")
    .await;
    let is_on_its_way = || async { run("return Boolean(window.letGo)").await == json!(true) };
    support::until("an older overview is on its way", is_on_its_way).await;
    press(browser, "pause queue default").await;
    let is_paused = || async {
        let script = "return fetch('/api/overview').then((answer) => answer.json())";
        run(script).await["queues"][0]["paused"] == json!(true)
    };
    support::until("the queue is paused", is_paused).await;
    run("window.letGo()").await;
    let resume = "button[aria-label='resume queue default']";
    shows(browser, resume, "resume").await;
    press(browser, "resume queue default").await;
    shows(browser, "button[aria-label='pause queue default']", "pause").await;
    browser.refresh().await.expect("it is loaded again");
    shows(browser, "#count-pending", "2").await;
}

/// Cancels more jobs than a page shows, retries and deletes them, each after a question.
pub(super) async fn many_jobs_are_changed(browser: &Client, queue: &Queue) {
    let many = (0..40).map(|n| {
        let job = queue.enqueue(Note(n)).after(Duration::from_secs(7200));
        job.queue("bulk")
    });
    queue.enqueue_all(many).await.expect("enqueued");
    let of = |state| Filter {
        state: Some(state),
        queue: Some("bulk".to_owned()),
        limit: 1000,
        ..Filter::default()
    };
    browser
        .execute("document.getElementById('search').reset()", Vec::new())
        .await
        .expect("reset");
    fill(browser, "#search [name=queue]", "bulk\u{e007}").await;
    shows(browser, "#search-words", "25 jobs on this page").await;
    access::is_for_all(browser, "a search").await;
    for (word, title, done, state) in [
        (
            "cancel",
            "Cancel 40 jobs?",
            "40 jobs cancelled",
            Some(State::Cancelled),
        ),
        ("delete", "Delete 40 jobs?", "40 jobs deleted", None),
    ] {
        click(browser, &format!("[data-change={word}]")).await;
        shows(browser, "#confirm-title", title).await;
        if state.is_some() {
            access::is_for_all(browser, "a question").await;
            click(browser, "#confirm-no").await;
            assert_eq!(queue.count(of(State::Pending)).await.expect("a count"), 40);
            click(browser, &format!("[data-change={word}]")).await;
            shows(browser, "#confirm-title", title).await;
        }
        click(browser, "#confirm-yes").await;
        shows(browser, "#search-words", done).await;
        assert_eq!(queue.count(of(State::Pending)).await.expect("a count"), 0);
        let left = queue.count(of(State::Cancelled)).await.expect("a count");
        assert_eq!(left, if state.is_some() { 40 } else { 0 });
    }
}

pub(super) async fn limits_and_schedules_are_changed(browser: &Client, queue: &Queue) {
    let limits = async || {
        let limits = queue.limits().await.expect("limits");
        limits.into_iter().find(|(name, _)| name == "many")
    };
    press(browser, "limits of queue many: none").await;
    shows(browser, "#limits-title", "Limits of the queue many").await;
    access::is_for_all(browser, "limits").await;
    fill(browser, "#limits-form [name=at_once]", "7").await;
    fill(browser, "#limits-form [name=key_rate]", "120").await;
    fill(browser, "#limits-form [name=worker_at_once]", "3\u{e007}").await;
    let words = "7 at once; of a key one each 500ms; on each worker 3 at once";
    press(browser, &format!("limits of queue many: {words}")).await;
    let wanted = Limit::default()
        .at_once(7)
        .key_rate(1, Duration::from_millis(500));
    let wanted = wanted.worker_at_once(3);
    assert_eq!(limits().await, Some(("many".to_owned(), wanted)));
    for name in ["at_once", "key_rate", "worker_at_once"] {
        fill(browser, &format!("#limits-form [name={name}]"), "").await;
    }
    click(browser, "#limits-form [type=submit]").await;
    support::until("the limits are gone", || async { limits().await.is_none() }).await;

    press(browser, "pause schedule rare").await;
    shows(
        browser,
        "#schedules tr[data-id=rare] td:nth-child(3)",
        "paused",
    )
    .await;
    assert!(queue.schedules().await.expect("schedules")[0].paused);
    let done = queue.counts().await.expect("counts").done;
    press(browser, "run schedule rare").await;
    let ran = || async { queue.counts().await.expect("counts").done == done + 1 };
    support::until("it has run by hand", ran).await;
    press(browser, "resume schedule rare").await;
    let goes_on = || async {
        let schedules = queue.schedules().await.expect("schedules");
        !schedules[0].paused && schedules[0].slot.is_some()
    };
    support::until("it goes on", goes_on).await;
}
