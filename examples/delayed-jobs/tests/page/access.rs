//! The page for those who see little of it, or have only keys: axe-core finds nothing serious in any view, and all is done
//! by the keyboard.

use std::path::PathBuf;

use super::*;

/// A file of axe-core, which is no part of the repository.
fn axe() -> Option<String> {
    let given = env::var_os("DELAYED_JOBS_AXE").map(PathBuf::from);
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")));
    let usual = cache.map(|cache| cache.join("delayed-jobs/axe/axe_playwright_python/axe.min.js"));
    let script = std::fs::read_to_string(given.or(usual)?).ok();
    if script.is_none() {
        support::say_loudly("axe-core was not found");
    }
    script
}

/// Looks at what is shown now, in light and dark, on a wide and a narrow screen.
pub(super) async fn is_for_all(browser: &Client, view: &str) {
    let Some(axe) = axe() else {
        return;
    };
    browser
        .execute(&axe, Vec::new())
        .await
        .expect("axe is there");
    let script = "const done = arguments[arguments.length - 1];
        const run = () => axe.run(document, { resultTypes: ['violations'] }).then((found) => done(found.violations
            .filter((one) => ['serious', 'critical'].includes(one.impact))
            .map((one) => `${one.id}: ${one.nodes.map((node) => node.html + ' ' + node.failureSummary).join('; ')}`)));
        // When the size and the colours are those that were set.
        requestAnimationFrame(() => requestAnimationFrame(run));";
    for (width, scheme) in [(1200, "light"), (500, "dark"), (500, "light")] {
        browser
            .set_window_size(width, 900)
            .await
            .expect("a window of that size");
        let paint = "document.documentElement.style.colorScheme = arguments[0]";
        let painted = browser.execute(paint, vec![json!(scheme)]).await;
        painted.expect("painted");
        let found = browser.execute_async(script, Vec::new()).await;
        let found = found.expect("a list");
        assert_eq!(found, json!([]), "{view} at {width} px, {scheme}");
        let sideways = "return document.documentElement.scrollWidth > window.innerWidth";
        let is_wide = browser.execute(sideways, Vec::new()).await;
        let is_wide = is_wide.expect("an answer");
        assert_eq!(
            is_wide,
            json!(false),
            "{view} at {width} px lies beside the screen"
        );
    }
}

/// Presses a key wherever the focus is, and tells what has it then, by the name that is read out.
async fn key(browser: &Client, key: &str) -> String {
    let mut tries = 0;
    loop {
        let focus = browser.active_element().await.expect("a focus");
        match focus.send_keys(key).await {
            Ok(()) => return focused(browser).await,
            // It was drawn anew in between, and the new one has the focus.
            Err(_) if tries < 3 => tries += 1,
            Err(error) => panic!("`{}` takes no key: {error}", focused(browser).await),
        }
    }
}

async fn focused(browser: &Client) -> String {
    let script = "const it = document.activeElement;
        const name = it.getAttribute('aria-label') ?? it.labels?.[0]?.childNodes[0].textContent ?? it.textContent;
        return `${it.tagName.toLowerCase()} ${name.trim()}`";
    let name = browser.execute(script, Vec::new()).await;
    serde_json::from_value(name.expect("an answer")).expect("a text")
}

const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

/// Goes to the head of the page, from where the keys begin.
async fn top(browser: &Client) {
    let script = "const top = document.querySelector('h1');
        top.tabIndex = -1;
        top.focus();";
    browser.execute(script, Vec::new()).await.expect("focused");
}

/// Tabs on until this has the focus, and returns what had it on the way.
async fn tab_to(browser: &Client, wanted: &str) -> Vec<String> {
    let mut way = Vec::new();
    for _ in 0..80 {
        let name = key(browser, TAB).await;
        if name == wanted {
            return way;
        }
        way.push(name);
    }
    panic!("the focus never comes to `{wanted}`: {way:#?}");
}

/// Finds jobs by what is in their payloads, and deletes them, without a mouse.
pub(super) async fn all_is_done_by_keys(browser: &Client, queue: &Queue) {
    let jobs = (0..3).map(|_| {
        let job = queue.enqueue(Note(8_675_309));
        job.after(Duration::from_secs(9000)).queue("keys")
    });
    queue.enqueue_all(jobs).await.expect("enqueued");
    shows(browser, "#queues tr[data-id=keys] td:nth-child(2)", "3").await;
    let reset = "document.getElementById('search').reset()";
    browser.execute(reset, Vec::new()).await.expect("reset");
    top(browser).await;

    // All that can be used has a name, and comes in the order of the page.
    let way = tab_to(browser, "input in the payload").await;
    let nameless = way.iter().filter(|name| name.split(' ').count() < 2);
    assert_eq!(nameless.count(), 0, "{way:#?}");
    let at = |name: &str| way.iter().position(|seen| seen == name);
    let places = [
        "button pause queue keys",
        "button pause schedule rare",
        "input id",
        "select state",
    ];
    let places: Vec<_> = places.iter().map(|name| at(name)).collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{places:?} of {way:#?}"
    );

    // Whoever pauses a queue can resume it where they are.
    let in_time = async |wanted: &str| {
        let has_focus = || async { focused(browser).await == wanted };
        support::until(&format!("`{wanted}` has the focus"), has_focus).await;
    };
    top(browser).await;
    tab_to(browser, "button pause queue keys").await;
    key(browser, ENTER).await;
    in_time("button resume queue keys").await;
    key(browser, ENTER).await;
    in_time("button pause queue keys").await;

    tab_to(browser, "input in the payload").await;
    key(browser, "8675309").await;
    key(browser, ENTER).await;
    shows(browser, "#search-words", "3 jobs on this page").await;
    tab_to(browser, "button delete all of these …").await;
    key(browser, ENTER).await;
    shows(browser, "#confirm-title", "Delete 3 jobs?").await;
    assert_eq!(
        focused(browser).await,
        "button no",
        "what does no harm comes first"
    );
    // Who leaves the question is where they were.
    let back = key(browser, ESCAPE).await;
    assert_eq!(back, "button delete all of these …");
    key(browser, ENTER).await;
    shows(browser, "#confirm-title", "Delete 3 jobs?").await;
    assert_eq!(key(browser, TAB).await, "button delete them");
    key(browser, ENTER).await;
    shows(browser, "#search-words", "3 jobs deleted").await;
    let of_keys = delayed_jobs::Filter {
        queue: Some("keys".to_owned()),
        ..delayed_jobs::Filter::default()
    };
    assert_eq!(queue.count(of_keys).await.expect("a count"), 0);
    in_time("button search").await;
}
