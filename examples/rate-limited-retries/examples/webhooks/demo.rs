//! The service beside a receiver with moods, its clients, and the end by a SIGTERM of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::RETRY_AFTER;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, server};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{http, serve};

const EACH: usize = 40;
const SHUT: Duration = Duration::from_secs(1);
/// The number of targets that do not listen. Their retries do not affect the deliveries to other targets.
const DEAD: usize = 60;

/// What a receiver has seen, in order: the id, and whether it was accepted.
#[derive(Default)]
struct Seen {
    requests: Vec<(String, Instant, bool)>,
    shut_until: Option<Instant>,
    forbidden: usize,
}

impl Seen {
    /// Each fifth is 500; the twentieth is 429, and nothing is wanted for a second.
    fn answer(&mut self, id: String) -> Response<Full<Bytes>> {
        let now = Instant::now();
        let number = self.requests.len() + 1;
        self.forbidden += usize::from(self.shut_until.is_some_and(|until| now < until));
        let mut response = Response::new(Full::default());
        if number % 5 == 0 {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        if number == 20 {
            self.shut_until = Some(now + SHUT);
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response
                .headers_mut()
                .insert(RETRY_AFTER, SHUT.as_secs().into());
        }
        self.requests
            .push((id, now, response.status().is_success()));
        response
    }
}

async fn receive(listener: TcpListener, seen: Arc<Mutex<Seen>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        let answer = service_fn(move |request: Request<Incoming>| {
            let id = request.headers().get("idempotency-key");
            let id = id.and_then(|id| id.to_str().ok()).unwrap_or("?").to_owned();
            let response = seen.lock().unwrap().answer(id);
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(
            server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
        );
    }
}

type Failed = Box<dyn Error + Send + Sync>;

async fn ask(address: &str, method: Method, path: &str) -> Result<(StatusCode, String), Failed> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address);
    let request = request.body(Full::new(Bytes::from_static(b"{}")))?;
    let response = http::send(address, request).await?;
    let text = String::from_utf8_lossy(response.body()).into_owned();
    Ok((response.status(), text))
}

pub(crate) async fn demo() -> Result<(), Failed> {
    let mut receivers = BTreeMap::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let target = listener.local_addr()?.to_string();
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(receive(listener, Arc::clone(&seen)));
        receivers.insert(target, seen);
    }
    // Nobody answers here, so an attempt lasts longer than the grace.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let silent_address = silent.local_addr()?.to_string();

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let mut dead = Vec::new();
    for _ in 0..DEAD {
        dead.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let targets = dead.iter().map(TcpListener::local_addr);
    let dead_targets: Vec<_> = targets.collect::<Result<_, _>>()?;
    drop(dead);
    let service = tokio::spawn(serve(listener));
    let (mut answers, mut ids) = (BTreeMap::<u16, usize>::new(), BTreeSet::new());
    let targets: Vec<&String> = receivers.keys().collect();
    let mut post = async |id: String, target: &str, delay: f64| {
        let path = format!("/deliveries?id={id}&target={target}/hook&delay={delay}");
        let (status, _) = ask(&address, Method::POST, &path).await?;
        *answers.entry(status.as_u16()).or_default() += 1;
        ids.insert(id);
        Ok::<_, Failed>(status)
    };
    for (n, target) in dead_targets.iter().enumerate() {
        post(format!("dead-{n}"), &target.to_string(), 0.0).await?;
    }
    for n in 0..EACH {
        for (number, target) in targets.iter().enumerate() {
            let id = format!("{number}-{n:02}");
            post(id.clone(), target, 0.0).await?;
            if n % 10 == 0 {
                // The client has heard nothing, and asks again.
                post(id, target, 0.0).await?;
            }
        }
    }
    for n in 0..3 {
        post(format!("delayed-{n}"), targets[0], 0.5).await?;
        post(format!("deleted-{n}"), targets[0], 3.0).await?;
        post(format!("far-{n}"), targets[0], 3_600.0).await?;
        post(format!("silent-{n}"), &silent_address, 0.0).await?;
        // It is due within the grace.
        post(format!("late-{n}"), targets[0], 3.0).await?;
    }
    println!("answers to POST: {answers:?}");
    let mut deleted = BTreeMap::<u16, usize>::new();
    for id in ["deleted-0", "deleted-1", "deleted-2", "0-00", "unknown"] {
        let path = format!("/deliveries/{id}");
        let (status, _) = ask(&address, Method::DELETE, &path).await?;
        *deleted.entry(status.as_u16()).or_default() += 1;
    }
    println!("answers to DELETE: {deleted:?}");
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (_, stats) = ask(&address, Method::GET, "/stats").await?;
    println!("after 0.7 s: {}", stats.trim().replace('\n', ", "));

    println!("SIGTERM");
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;
    let begun = Instant::now();
    let left = service.await??;
    println!("ended after {:.1} s", begun.elapsed().as_secs_f64());

    let (mut delivered, mut twice, mut unordered, mut forbidden) = (BTreeSet::new(), 0, 0, 0);
    for (target, seen) in &receivers {
        let seen = seen.lock().unwrap();
        let accepted = seen.requests.iter().filter(|(.., accepted)| *accepted);
        let accepted: Vec<&String> = accepted.map(|(id, ..)| id).collect();
        let in_order = accepted.iter().filter(|id| id.as_bytes()[1] == b'-');
        let in_order: Vec<_> = in_order.collect();
        unordered += in_order.windows(2).filter(|pair| pair[0] > pair[1]).count();
        forbidden += seen.forbidden;
        for id in &accepted {
            twice += usize::from(!delivered.insert((*id).clone()));
        }
        println!(
            "{target}: {} requests, {} delivered",
            seen.requests.len(),
            accepted.len()
        );
    }
    let mut kinds = BTreeMap::<&str, usize>::new();
    for left in &left {
        *kinds
            .entry(left.id.split('-').next().unwrap_or(""))
            .or_default() += 1;
    }
    println!("left: {kinds:?}");
    let accounted = delivered.len() + left.len() + 3;
    println!(
        "{} ids: {} delivered, {} left, 3 deleted; {twice} twice, {unordered} out of order, {forbidden} in a forbidden window",
        ids.len(),
        delivered.len(),
        left.len()
    );
    let is_deleted = delivered.iter().any(|id| id.starts_with("deleted"));
    if accounted != ids.len() || twice + unordered + forbidden > 0 || is_deleted {
        return Err("a delivery is not accounted for".into());
    }
    Ok(())
}
