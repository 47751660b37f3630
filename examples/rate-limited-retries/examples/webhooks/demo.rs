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

use super::service::Left;
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

/// The receivers by address.
type Receivers = BTreeMap<String, Arc<Mutex<Seen>>>;

async fn receivers() -> Result<Receivers, Failed> {
    let mut receivers = BTreeMap::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let target = listener.local_addr()?.to_string();
        let seen = Arc::new(Mutex::new(Seen::default()));
        tokio::spawn(receive(listener, Arc::clone(&seen)));
        receivers.insert(target, seen);
    }
    Ok(receivers)
}

/// Returns addresses at which no program listens. Bind all others before.
async fn dead_targets() -> Result<Vec<String>, Failed> {
    let mut dead = Vec::new();
    for _ in 0..DEAD {
        dead.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let targets = dead.iter().map(TcpListener::local_addr);
    let targets = targets.map(|target| Ok(target?.to_string()));
    targets.collect()
}

/// The clients of the service at an address, and what they have asked for.
struct Clients {
    address: String,
    ids: BTreeSet<String>,
    /// The number of answers to `POST` by status.
    answers: BTreeMap<u16, usize>,
}

impl Clients {
    async fn post(&mut self, id: String, target: &str, delay: f64) -> Result<(), Failed> {
        let path = format!("/deliveries?id={id}&target={target}/hook&delay={delay}");
        let (status, _) = ask(&self.address, Method::POST, &path).await?;
        *self.answers.entry(status.as_u16()).or_default() += 1;
        self.ids.insert(id);
        Ok(())
    }

    async fn post_all(&mut self, receivers: &Receivers, silent: &str) -> Result<(), Failed> {
        for (n, target) in dead_targets().await?.iter().enumerate() {
            self.post(format!("dead-{n}"), target, 0.0).await?;
        }
        for n in 0..EACH {
            for (number, target) in receivers.keys().enumerate() {
                let id = format!("{number}-{n:02}");
                self.post(id.clone(), target, 0.0).await?;
                if n % 10 == 0 {
                    // The client has heard nothing, and asks again.
                    self.post(id, target, 0.0).await?;
                }
            }
        }
        let (first, _) = receivers.first_key_value().ok_or("no receiver")?;
        for n in 0..3 {
            self.post(format!("delayed-{n}"), first, 0.5).await?;
            self.post(format!("deleted-{n}"), first, 3.0).await?;
            self.post(format!("far-{n}"), first, 3_600.0).await?;
            self.post(format!("silent-{n}"), silent, 0.0).await?;
            // It is due within the grace.
            self.post(format!("late-{n}"), first, 3.0).await?;
        }
        println!("answers to POST: {:?}", self.answers);
        Ok(())
    }

    async fn delete_some(&self) -> Result<(), Failed> {
        let mut answers = BTreeMap::<u16, usize>::new();
        for id in ["deleted-0", "deleted-1", "deleted-2", "0-00", "unknown"] {
            let path = format!("/deliveries/{id}");
            let (status, _) = ask(&self.address, Method::DELETE, &path).await?;
            *answers.entry(status.as_u16()).or_default() += 1;
        }
        println!("answers to DELETE: {answers:?}");
        Ok(())
    }
}

/// Fails if a delivery is not accounted for, by the logs of the receivers and the deliveries that the service has left.
fn check(receivers: &Receivers, left: &[Left], ids: usize) -> Result<(), Failed> {
    let (mut delivered, mut twice, mut unordered, mut forbidden) = (BTreeSet::new(), 0, 0, 0);
    for (target, seen) in receivers {
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
    for left in left {
        let kind = left.id.split('-').next().unwrap_or("");
        *kinds.entry(kind).or_default() += 1;
    }
    println!("left: {kinds:?}");
    println!(
        "{ids} ids: {} delivered, {} left, 3 deleted; {twice} twice, {unordered} out of order, {forbidden} in a forbidden window",
        delivered.len(),
        left.len()
    );
    let accounted = delivered.len() + left.len() + 3;
    let is_deleted = delivered.iter().any(|id| id.starts_with("deleted"));
    if accounted != ids || twice + unordered + forbidden > 0 || is_deleted {
        return Err("a delivery is not accounted for".into());
    }
    Ok(())
}

pub(crate) async fn demo() -> Result<(), Failed> {
    let receivers = receivers().await?;
    // Nobody answers here, so an attempt lasts longer than the grace.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let silent_address = silent.local_addr()?.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut clients = Clients {
        address: listener.local_addr()?.to_string(),
        ids: BTreeSet::new(),
        answers: BTreeMap::new(),
    };
    let service = tokio::spawn(serve(listener));
    clients.post_all(&receivers, &silent_address).await?;
    clients.delete_some().await?;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let (_, stats) = ask(&clients.address, Method::GET, "/stats").await?;
    println!("after 0.7 s: {}", stats.trim().replace('\n', ", "));

    println!("SIGTERM");
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)?;
    let begun = Instant::now();
    let left = service.await??;
    println!("ended after {:.1} s", begun.elapsed().as_secs_f64());
    check(&receivers, &left, clients.ids.len())
}
