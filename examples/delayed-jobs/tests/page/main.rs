//! The page, in a real browser: Debian's chromium, led by its driver.
#![forbid(unsafe_code)]

mod access;
mod hands;
#[path = "../support/notes.rs"]
mod notes;
#[path = "../support/mod.rs"]
mod support;

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use delayed_jobs::{Failure, Handling, Job, JobId, Queue, Retry, State, page};
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use notes::Note;

/// No display, no network of its own, nothing left behind.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// The driver, and the folder of its browser. Dropping it ends both.
struct Driver {
    process: Child,
    port: u16,
    profile: tempfile::TempDir,
}

impl Driver {
    fn start() -> Option<Driver> {
        let path = env::var_os("PATH").unwrap_or_default();
        let has = |name: &str| env::split_paths(&path).any(|folder| folder.join(name).is_file());
        if !has("chromedriver") || !(has("chromium") || has("google-chrome")) {
            support::say_loudly("no browser (chromium and chromedriver) was found");
            return None;
        }
        let mut command = Command::new("chromedriver");
        command
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().expect("chromedriver runs");
        let output = BufReader::new(process.stdout.take().expect("its output"));
        let port = output.lines().map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        Some(Driver {
            process,
            port: port.expect("chromedriver tells its port"),
            profile: tempfile::tempdir().expect("a folder"),
        })
    }

    async fn browser(&self) -> Client {
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}", self.profile.path().display()));
        let mut wanted = serde_json::Map::new();
        wanted.insert("goog:chromeOptions".to_owned(), json!({ "args": flags }));
        let address = format!("http://127.0.0.1:{}", self.port);
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted)
            .connect(&address)
            .await;
        client.expect("a browser")
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What an element shows, by one script: an element that was found could be drawn anew before it is read.
async fn text(browser: &Client, css: &str) -> Option<String> {
    let script = "return document.querySelector(arguments[0])?.innerText ?? null";
    let shown = browser.execute(script, vec![json!(css)]).await;
    serde_json::from_value(shown.expect("an answer")).expect("a text or nothing")
}

/// Waits until an element shows this text.
async fn shows(browser: &Client, css: &str, wanted: &str) {
    let is_so = || async {
        text(browser, css)
            .await
            .is_some_and(|shown| shown == wanted)
    };
    support::until(&format!("{css} shows {wanted}"), is_so).await;
}

/// Presses a button as a person would, once it is there.
async fn press(browser: &Client, label: &str) {
    let css = format!("button[aria-label='{label}']");
    let is_pressed = || async {
        let Ok(found) = browser.find(Locator::Css(&css)).await else {
            return false;
        };
        found.click().await.is_ok()
    };
    support::until(&format!("{label} is pressed"), is_pressed).await;
}

async fn state(queue: &Queue, id: JobId) -> State {
    queue
        .job(id)
        .await
        .expect("an answer")
        .expect("a job")
        .state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_see_their_jobs_and_can_retry_and_cancel() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let (_dir, path) = support::sqlite();
    let queue = Queue::open(&path).await.expect("a new file");
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let handling = Handling::default().retry(Retry::never());
    let worker = queue
        .worker()
        .register_with(handling, move |job: Job<Note>| {
            let mended = is_mended.load(Ordering::SeqCst);
            async move {
                if job.payload.0 == 77 {
                    Err(Failure::dead("not yet"))
                } else if mended {
                    Ok(())
                } else {
                    Err(Failure::new("<b>no</b> answer"))
                }
            }
        });
    let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
    // Its next slot, which is pending too, is far ahead.
    let worker = worker.every("rare", 1000 * day, &Note(9));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(page::serve(listener, queue.clone(), worker.metrics()));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(worker.run(shutdown.clone()));

    let far = queue
        .enqueue(Note(1))
        .after(hour)
        .await
        .expect("enqueued")
        .id();
    let browser = driver.browser().await;
    let looking = tokio::spawn(look(browser.clone(), queue.clone(), address, mended, far));
    let looked = looking.await;
    // Whatever was seen, or the browser would outlive us.
    browser.close().await.expect("it closes");
    if let Err(failed) = looked {
        std::panic::resume_unwind(failed.into_panic());
    }
    shutdown.cancel();
    running.await.expect("no panic").expect("a run");
}

async fn look(browser: Client, queue: Queue, address: String, mended: Arc<AtomicBool>, far: JobId) {
    let hour = Duration::from_secs(3600);
    browser.goto(&address).await.expect("the page");
    shows(&browser, "#count-pending", "2").await;
    shows(&browser, "#count-dead", "0").await;

    // Counts follow without a reload, and what a job says is text and no markup.
    let dead = queue.enqueue(Note(2)).await.expect("enqueued").id();
    shows(&browser, "#count-dead", "1").await;
    let error = format!("#dead tr[data-id='{dead}'] td:nth-child(4)");
    shows(&browser, &error, "<b>no</b> answer").await;
    let other = queue
        .enqueue(Note(3))
        .after(2 * hour)
        .await
        .expect("enqueued")
        .id();
    shows(&browser, "#count-pending", "3").await;
    let first = "#pending tbody tr:first-child td:first-child";
    shows(&browser, first, &far.to_string()).await;

    // The time that is left goes down.
    let due = format!("#pending tr[data-id='{far}'] [data-due]");
    let left = text(&browser, &due).await.expect("a countdown");
    assert!(left.starts_with("59 min "), "{left}");
    let counts_down = || async { text(&browser, &due).await.is_some_and(|now| now != left) };
    support::until("the countdown moves", counts_down).await;

    mended.store(true, Ordering::SeqCst);
    press(&browser, &format!("retry job {dead}")).await;
    shows(&browser, "#count-done", "1").await;
    shows(&browser, "#count-dead", "0").await;
    assert_eq!(state(&queue, dead).await, State::Done);

    press(&browser, &format!("cancel job {other}")).await;
    shows(&browser, "#count-cancelled", "1").await;
    shows(&browser, "#count-pending", "2").await;
    assert_eq!(state(&queue, other).await, State::Cancelled);
    assert_eq!(state(&queue, far).await, State::Pending);

    press(&browser, "pause queue default").await;
    shows(
        &browser,
        "button[aria-label='resume queue default']",
        "resume",
    )
    .await;
    assert!(queue.queues().await.expect("queues")[0].paused);
    press(&browser, "resume queue default").await;
    shows(
        &browser,
        "button[aria-label='pause queue default']",
        "pause",
    )
    .await;

    hands::what_was_changed_is_shown_after_an_older_answer(&browser).await;
    access::is_for_all(&browser, "the overview").await;
    search_and_detail(&browser, &queue, far).await;
    hands::many_jobs_are_changed(&browser, &queue).await;
    hands::limits_and_schedules_are_changed(&browser, &queue).await;
    access::all_is_done_by_keys(&browser, &queue).await;

    let bars = browser
        .find_all(Locator::Css("#histogram div"))
        .await
        .expect("bars");
    assert!(!bars.is_empty());
    // All that the page needed came from its own server.
    let script =
        "return performance.getEntriesByType('resource').map(entry => new URL(entry.name).origin)";
    let origins = browser.execute(script, Vec::new()).await.expect("a list");
    let origins: Vec<String> = serde_json::from_value(origins).expect("texts");
    let ours = address.trim_end_matches('/');
    assert!(
        origins.len() >= 3 && origins.iter().all(|origin| origin == ours),
        "{origins:?}"
    );
}

/// From the search to a job with its history, by the keyboard too, on a narrow screen.
async fn search_and_detail(browser: &Client, queue: &Queue, far: JobId) {
    let narrow = browser.set_window_size(500, 900).await;
    narrow.expect("a narrow window");
    let sideways = "return document.documentElement.scrollWidth > window.innerWidth";
    let is_wide = browser.execute(sideways, Vec::new()).await;
    assert_eq!(
        is_wide.expect("an answer"),
        json!(false),
        "nothing lies beside the screen"
    );

    shows(browser, "#workers tbody tr td:nth-child(3)", "default 16").await;
    let spec = "#schedules tr[data-id='rare'] td:nth-child(2)";
    shows(browser, spec, "every 86400000000000 us: note in default").await;
    let many = (0..30).map(|n| {
        let job = queue.enqueue(Note(n)).after(Duration::from_secs(7200));
        job.queue("many").unique(format!("many:{n}"))
    });
    let many = queue.enqueue_all(many).await.expect("enqueued");
    // The event is the page's own, since the driver types into elements only.
    let slash =
        "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '/', bubbles: true }));
        return document.activeElement.name";
    let focused = browser.execute(slash, Vec::new()).await;
    assert_eq!(focused.expect("an answer"), json!("id"));
    let field = browser.find(Locator::Css("#search [name=queue]")).await;
    field
        .expect("a field")
        .send_keys("many\u{e007}")
        .await
        .expect("typed");
    shows(browser, "#search-words", "25 jobs on this page").await;
    let more = browser.find(Locator::Id("more")).await.expect("a button");
    more.click().await.expect("pressed");
    shows(browser, "#search-words", "5 jobs on this page").await;
    shows(
        browser,
        "#found tbody tr:last-child td:nth-child(5)",
        "many:0",
    )
    .await;

    let first = many[0].id();
    press(browser, &format!("details of job {first}")).await;
    shows(browser, "#detail-title", &format!("Job {first}, pending")).await;
    shows(browser, "#detail-payload", "0").await;
    access::is_for_all(browser, "a job").await;
    press(browser, "retry this job").await;
    let other = browser
        .find(Locator::Css("#search [name=queue]"))
        .await
        .expect("a field");
    other.clear().await.expect("cleared");
    let id = browser
        .find(Locator::Css("#search [name=id]"))
        .await
        .expect("a field");
    id.send_keys(&format!("{far}\u{e007}"))
        .await
        .expect("typed");
    shows(browser, "#search-words", "1 jobs on this page").await;

    // One with a history.
    let error = Note(77);
    let failed = queue.enqueue(error).await.expect("enqueued").id();
    let has_failed = || async {
        let job = queue.job(failed).await.expect("an answer").expect("a job");
        job.errors.len() == 1
    };
    support::until("it has failed once", has_failed).await;
    id.clear().await.expect("cleared");
    id.send_keys(&format!("{failed}\u{e007}"))
        .await
        .expect("typed");
    press(browser, &format!("details of job {failed}")).await;
    let history = || async {
        let shown = text(browser, "#detail-history").await.unwrap_or_default();
        shown.contains("try 1 failed: not yet")
    };
    support::until("the history is shown", history).await;
    press(browser, "delete this job").await;
    let gone = || async { queue.job(failed).await.expect("an answer").is_none() };
    support::until("it is deleted", gone).await;
    let wide = browser.set_window_size(1200, 900).await;
    wide.expect("a wide window");
}

/// Sends a request by hand, and gives the answer's first line and its end.
async fn request(address: std::net::SocketAddr, head: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("a connection");
    let request =
        format!("{head}\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let status = answer.lines().next().unwrap_or_default().to_owned();
    let body = answer
        .split("\r\n\r\n")
        .nth(1)
        .unwrap_or_default()
        .to_owned();
    (status, body)
}

#[tokio::test]
async fn buttons_of_other_origins_do_nothing_and_refusals_have_words() {
    let queue = delayed_jobs::testkit::queue();
    let id = queue
        .enqueue(Note(1))
        .after(Duration::from_secs(60))
        .await
        .expect("enqueued")
        .id();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(page::serve(
        listener,
        queue.clone(),
        queue.worker().metrics(),
    ));

    let (status, words) = request(address, &format!("POST /api/jobs/{id}/cancel HTTP/1.1")).await;
    assert_eq!(status, "HTTP/1.1 403 Forbidden");
    assert_eq!(words, "the header x-delayed-jobs is missing");
    assert_eq!(state(&queue, id).await, State::Pending);

    let ours = |path: &str| format!("POST {path} HTTP/1.1\r\nx-delayed-jobs: 1");
    let (status, words) = request(address, &ours(&format!("/api/jobs/{id}/cancel"))).await;
    assert_eq!(
        (status.as_str(), words.as_str()),
        ("HTTP/1.1 200 OK", "\"cancelled\"")
    );
    let (status, words) = request(address, &ours(&format!("/api/jobs/{id}/cancel"))).await;
    assert_eq!(status, "HTTP/1.1 409 Conflict");
    assert_eq!(words, format!("job {id} is cancelled"));
    let (status, words) = request(address, &ours("/api/jobs/77/retry")).await;
    assert_eq!(
        (status.as_str(), words.as_str()),
        ("HTTP/1.1 404 Not Found", "there is no job 77")
    );
    let (status, _) = request(address, &ours(&format!("/api/jobs/{id}/retry"))).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(state(&queue, id).await, State::Pending);
}
