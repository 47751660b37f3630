//! Five hosts with their moods, each on a port of its own, in a runtime of their own.

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
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Has so many answers in stock; then 429, and `Retry-After` in seconds.
    Seconds,
    /// The same, with `Retry-After` as a date.
    Date,
    /// Is down for a while: 503, and no word of when to come again.
    Outage,
    Well,
    /// Always 500.
    Failing,
}

pub(crate) const KINDS: [Kind; 5] = [
    Kind::Seconds,
    Kind::Date,
    Kind::Outage,
    Kind::Well,
    Kind::Failing,
];

pub(crate) struct Host {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    moods: Arc<Mutex<Moods>>,
}

impl Host {
    /// How many of so many pages were answered with 200 exactly once.
    pub(crate) fn answered_once(&self, pages: u32) -> usize {
        let moods = self.moods.lock().unwrap();
        let counts = (0..pages).map(|page| moods.answered.get(&format!("/{page}")));
        counts.filter(|count| *count == Some(&1)).count()
    }
}

pub(crate) struct Server {
    pub(crate) hosts: Vec<Host>,
    _runtime: Runtime,
}

impl Server {
    /// Starts the hosts; an outage takes so long.
    pub(crate) fn start(outage: Duration) -> std::io::Result<Server> {
        let runtime = Runtime::new()?;
        let start = |kind| {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            let address = listener.local_addr()?;
            let moods = Arc::new(Mutex::new(Moods::new(kind, outage)));
            runtime.spawn(listen(listener, Arc::clone(&moods)));
            Ok(Host {
                kind,
                address,
                moods,
            })
        };
        Ok(Server {
            hosts: KINDS
                .into_iter()
                .map(start)
                .collect::<std::io::Result<_>>()?,
            _runtime: runtime,
        })
    }
}

async fn listen(listener: TcpListener, moods: Arc<Mutex<Moods>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let moods = Arc::clone(&moods);
        let answer = service_fn(move |request: Request<Incoming>| {
            let response = moods.lock().unwrap().answer(request.uri().path());
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

/// What one host thinks of its visitors.
struct Moods {
    kind: Kind,
    outage: Duration,
    stock: u32,
    forbidden_until: Option<SystemTime>,
    first: Option<Instant>,
    answered: HashMap<String, u32>,
}

/// So many answers until a host with a bucket wants a pause.
const STOCK: u32 = 50;

impl Moods {
    fn new(kind: Kind, outage: Duration) -> Moods {
        Moods {
            kind,
            outage,
            stock: STOCK,
            forbidden_until: None,
            first: None,
            answered: HashMap::new(),
        }
    }

    fn answer(&mut self, path: &str) -> Response<Full<Bytes>> {
        let open = self.first.get_or_insert_with(Instant::now).elapsed();
        match self.kind {
            Kind::Failing => plain(StatusCode::INTERNAL_SERVER_ERROR),
            Kind::Outage if (self.outage / 4..self.outage * 5 / 4).contains(&open) => {
                plain(StatusCode::SERVICE_UNAVAILABLE)
            }
            Kind::Seconds | Kind::Date => self.sell(path),
            _ => self.page(path),
        }
    }

    fn page(&mut self, path: &str) -> Response<Full<Bytes>> {
        *self.answered.entry(path.to_owned()).or_default() += 1;
        plain(StatusCode::OK)
    }

    fn sell(&mut self, path: &str) -> Response<Full<Bytes>> {
        let now = SystemTime::now();
        if self.forbidden_until.is_some_and(|until| now >= until) {
            (self.stock, self.forbidden_until) = (STOCK, None);
        }
        if self.stock > 0 {
            self.stock -= 1;
            return self.page(path);
        }
        // A date knows whole seconds only. Whoever comes too early does not make it longer.
        let seconds = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let (until, says) = match self.kind {
            Kind::Date => {
                let until = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds + 2);
                let until = *self.forbidden_until.get_or_insert(until);
                (until, httpdate::fmt_http_date(until))
            }
            _ => {
                let until = *self
                    .forbidden_until
                    .get_or_insert(now + Duration::from_secs(1));
                let left = until.duration_since(now).unwrap_or_default();
                (until, left.as_secs_f64().ceil().to_string())
            }
        };
        self.forbidden_until = Some(until);
        let mut response = plain(StatusCode::TOO_MANY_REQUESTS);
        let says = says.parse().expect("figures and dates are sound headers");
        response.headers_mut().insert(RETRY_AFTER, says);
        response
    }
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
