//! Hosts with their moods, each on a port of its own, in a runtime of their own, and what they have seen.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::RETRY_AFTER;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rate_limited_retries::Rate;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Well,
    /// Has a stock of answers; then 429, and `Retry-After` in seconds.
    Seconds,
    /// The same, with `Retry-After` as a date.
    Date,
    /// Each seventh answer is 500.
    Flaky,
    /// Takes its time.
    Slow,
    /// Accepts, and never answers.
    Dead,
    /// No program listens there.
    Refused,
}

pub(crate) const KINDS: [Kind; 7] = [
    Kind::Well,
    Kind::Seconds,
    Kind::Date,
    Kind::Flaky,
    Kind::Slow,
    Kind::Dead,
    Kind::Refused,
];

impl Kind {
    /// Of ten hosts in a row.
    fn of(host: usize) -> Kind {
        match host % 10 {
            0 => Kind::Seconds,
            1 => Kind::Date,
            2 => Kind::Flaky,
            3 => Kind::Slow,
            4 if host % 20 == 4 => Kind::Dead,
            4 => Kind::Refused,
            _ => Kind::Well,
        }
    }
}

/// The number of answers until a host with a stock wants a pause.
const STOCK: u32 = 60;
const SLOW: Duration = Duration::from_millis(100);

/// A request, as the host has seen it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    wall: SystemTime,
    /// How often the client says that it has been told to wait.
    told: usize,
}

/// What one host thinks of its visitors, and what it has seen of them.
struct Moods {
    kind: Kind,
    stock: u32,
    seen: Vec<Seen>,
    /// Until when it wishes to be left alone, for each time that it said so.
    said: Vec<SystemTime>,
    /// How many of these were over when the stock was filled the last time.
    over: usize,
    answered: HashMap<String, u32>,
}

#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    moods: Arc<Mutex<Moods>>,
}

/// What a host's log says at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) requests: usize,
    /// Requests that were sent though the client had been told to wait until later.
    pub(crate) forbidden: usize,
    /// The most in a period of the rate.
    pub(crate) most: u64,
    /// How often the host asked to be left alone.
    pub(crate) said: usize,
    /// Pages that were answered with 200 exactly once.
    pub(crate) once: usize,
    pub(crate) twice: usize,
}

impl Host {
    pub(crate) fn verdict(&self, rate: Rate) -> Verdict {
        let moods = self.moods.lock().unwrap();
        let early = |seen: &&Seen| {
            let told = moods.said.iter().take(seen.told);
            told.into_iter().any(|until| seen.wall < *until)
        };
        let instants: Vec<Instant> = moods.seen.iter().map(|seen| seen.at).collect();
        Verdict {
            requests: moods.seen.len(),
            forbidden: moods.seen.iter().filter(early).count(),
            most: most_in(rate.period(), &instants),
            said: moods.said.len(),
            once: moods.answered.values().filter(|times| **times == 1).count(),
            twice: moods.answered.values().filter(|times| **times > 1).count(),
        }
    }
}

/// Returns the most of these instants, which are in order, that lie in any window of this length.
pub(crate) fn most_in(window: Duration, instants: &[Instant]) -> u64 {
    let (mut from, mut most) = (0, 0);
    for (n, at) in instants.iter().enumerate() {
        while *at - instants[from] >= window {
            from += 1;
        }
        most = most.max(n + 1 - from);
    }
    most as u64
}

pub(crate) struct Server {
    pub(crate) hosts: Vec<Host>,
    _runtime: Runtime,
}

impl Server {
    pub(crate) fn start(hosts: usize) -> std::io::Result<Server> {
        let runtime = Runtime::new()?;
        // Kept until all are bound, so that no other host gets the port of one that refuses.
        let mut refusing = Vec::new();
        let start = |number| {
            let kind = Kind::of(number);
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            let address = listener.local_addr()?;
            let moods = Arc::new(Mutex::new(Moods {
                kind,
                stock: STOCK,
                seen: Vec::new(),
                said: Vec::new(),
                over: 0,
                answered: HashMap::new(),
            }));
            if kind == Kind::Refused {
                refusing.push(listener);
            } else {
                runtime.spawn(listen(listener, Arc::clone(&moods)));
            }
            Ok(Host {
                kind,
                address,
                moods,
            })
        };
        let hosts = (0..hosts).map(start).collect::<std::io::Result<_>>()?;
        Ok(Server {
            hosts,
            _runtime: runtime,
        })
    }
}

async fn listen(listener: TcpListener, moods: Arc<Mutex<Moods>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let moods = Arc::clone(&moods);
        let answer = service_fn(move |request: Request<Incoming>| {
            let told = request.headers().get("x-told");
            let told = told.and_then(|told| told.to_str().ok()?.parse().ok());
            let mut moods = moods.lock().unwrap();
            let response = moods.answer(request.uri().path(), told.unwrap_or(0));
            let kind = moods.kind;
            drop(moods);
            async move {
                match kind {
                    Kind::Slow => tokio::time::sleep(SLOW).await,
                    Kind::Dead => std::future::pending().await,
                    _ => {}
                }
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

impl Moods {
    fn answer(&mut self, path: &str, told: usize) -> Response<Full<Bytes>> {
        let (at, wall) = (Instant::now(), SystemTime::now());
        self.seen.push(Seen { at, wall, told });
        match self.kind {
            Kind::Flaky if self.seen.len() % 7 == 0 => plain(StatusCode::INTERNAL_SERVER_ERROR),
            Kind::Seconds | Kind::Date => self.sell(path, wall),
            // It is not sent.
            Kind::Dead => plain(StatusCode::OK),
            _ => self.page(path),
        }
    }

    fn page(&mut self, path: &str) -> Response<Full<Bytes>> {
        *self.answered.entry(path.to_owned()).or_default() += 1;
        plain(StatusCode::OK)
    }

    fn sell(&mut self, path: &str, now: SystemTime) -> Response<Full<Bytes>> {
        if self.said[self.over..]
            .last()
            .is_some_and(|until| now >= *until)
        {
            (self.stock, self.over) = (STOCK, self.said.len());
        }
        if self.stock > 0 {
            self.stock -= 1;
            return self.page(path);
        }
        // A request that comes too early does not make it longer.
        let until = self.said.last().copied().filter(|until| now < *until);
        let until = until.unwrap_or_else(|| self.pause(now));
        self.said.push(until);
        let left = until.duration_since(now).unwrap_or_default();
        let says = match self.kind {
            Kind::Date => httpdate::fmt_http_date(until),
            _ => left.as_secs_f64().ceil().to_string(),
        };
        let mut response = plain(StatusCode::TOO_MANY_REQUESTS);
        let says = says.parse().expect("figures and dates are sound headers");
        response.headers_mut().insert(RETRY_AFTER, says);
        response
    }

    /// A date knows whole seconds only.
    fn pause(&self, now: SystemTime) -> SystemTime {
        match self.kind {
            Kind::Date => {
                let since = now.duration_since(SystemTime::UNIX_EPOCH);
                let seconds = since.unwrap_or_default().as_secs() + 2;
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
            }
            _ => now + Duration::from_secs(1),
        }
    }
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
