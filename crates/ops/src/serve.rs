//! An [`EmbeddingService`] over HTTP, in JSON.
//!
//! | request | answer |
//! | --- | --- |
//! | `POST /embed` `{"items": [[0.1, 0.2], …]}` | `{"model": "v1", "embeddings": [[…], …]}`, in the order of the items |
//! | `POST /similar` `{"query": […], "candidates": [[…], …], "k": 3}` | `{"nearest": [{"index": 7, "cosine": 0.93}, …]}` |
//! | `GET /stats` | hits, misses, hit rate, size, evictions, p50 and p99 in microseconds |
//! | `GET /health` | 200 `{"status": "healthy"}`, or 503 with the reason while the encoder fails |
//!
//! A request that can't be right gets 400, one that is too large 413, and one that the encoder fails on 503; each with
//! `{"error": "what is wrong"}`.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::OpsError;
use crate::embedding::{EmbeddingService, Health, Item};

/// What a server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpConfig {
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Items (or candidates) of a request.
    pub max_items: usize,
    /// Threads that encode at a time; further requests wait.
    pub threads: usize,
    /// How long a stop waits for requests that have begun.
    pub grace: Duration,
}

impl Default for HttpConfig {
    /// 8 MiB, 4,096 items, four threads, 5 s.
    fn default() -> Self {
        Self { max_body: 8 << 20, max_items: 4_096, threads: 4, grace: Duration::from_secs(5) }
    }
}

/// From the numbers of a request to an item, or what is wrong with them.
pub type Read<T> = fn(Vec<f32>) -> Result<T, String>;

/// What the handlers share.
struct Shared<T> {
    service: Arc<EmbeddingService<T>>,
    read: Read<T>,
    config: HttpConfig,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), read: self.read, config: self.config }
    }
}

/// A server that is running, on a thread of its own.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Listens at `address`; port 0 takes a free one.
    ///
    /// An error that names the address when it is taken or isn't this machine's.
    pub fn start<T: Item + Send + Sync + 'static>(
        address: SocketAddr,
        service: Arc<EmbeddingService<T>>,
        read: Read<T>,
        config: HttpConfig,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)
            .map_err(|error| io::Error::new(error.kind(), format!("can't listen at {address}: {error}")))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(config.threads.max(1))
            .enable_all()
            .build()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let app = routes(service, read, config);
        let serve = move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let (finish, finishing) = tokio::sync::oneshot::channel::<()>();
                let until = async {
                    let _ = finishing.await;
                };
                let serving = tokio::spawn(axum::serve(listener, app).with_graceful_shutdown(until).into_future());
                let _ = stopped.await;
                drop(finish);
                // A client that never finishes its request would keep the server for ever.
                match tokio::time::timeout(config.grace, serving).await {
                    Ok(ended) => ended.unwrap_or_else(|panic| Err(io::Error::other(panic))),
                    Err(_) => Ok(()),
                }
            })
        };
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(serve)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the end of the server's thread, which goes on until the program ends unless the system refuses it its listener.
    pub fn wait(mut self) -> io::Result<()> {
        join(self.thread.take())
    }

    /// Answers the requests that have begun, waits [`HttpConfig::grace`] for those that their clients don't finish, and ends.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop.take();
        join(self.thread.take())
    }
}

fn join(thread: Option<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    let result = thread.map_or(Ok(Ok(())), JoinHandle::join);
    result.unwrap_or_else(|_| Err(io::Error::other("the server's thread panicked")))
}

fn routes<T: Item + Send + Sync + 'static>(
    service: Arc<EmbeddingService<T>>,
    read: Read<T>,
    config: HttpConfig,
) -> Router {
    Router::new()
        .route("/embed", post(embed::<T>))
        .route("/similar", post(similar::<T>))
        .route("/stats", get(stats::<T>))
        .route("/health", get(health::<T>))
        .fallback(|| async { error(StatusCode::NOT_FOUND, "there is /embed, /similar, /stats and /health") })
        .layer(DefaultBodyLimit::max(config.max_body))
        .with_state(Shared { service, read, config })
}

fn answer(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

fn error(status: StatusCode, what: &str) -> Response {
    answer(status, &json!({ "error": what }))
}

/// What is answered instead of a result.
type Refusal = (StatusCode, String);

fn bad(what: impl std::fmt::Display) -> Refusal {
    (StatusCode::BAD_REQUEST, what.to_string())
}

/// 400 for what the caller did, 503 for what the encoder did.
fn refused(what: &OpsError) -> Refusal {
    let by_caller = matches!(what, OpsError::Argument { .. });
    (if by_caller { StatusCode::BAD_REQUEST } else { StatusCode::SERVICE_UNAVAILABLE }, what.to_string())
}

impl<T: Item + Send + Sync + 'static> Shared<T> {
    /// Reads the body and works on it where blocking is allowed.
    async fn on_body<B: DeserializeOwned + Send + 'static>(
        self,
        body: Bytes,
        work: impl FnOnce(&Self, B) -> Result<Value, Refusal> + Send + 'static,
    ) -> Response {
        let all = move || {
            let body = serde_json::from_slice(&body).map_err(bad)?;
            work(&self, body)
        };
        match tokio::task::spawn_blocking(all).await {
            Ok(Ok(value)) => answer(StatusCode::OK, &value),
            Ok(Err((status, what))) => error(status, &what),
            Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the request's thread panicked"),
        }
    }

    fn item(&self, values: Vec<f32>) -> Result<T, Refusal> {
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(bad(format!("an item holds {value}, beyond the range of f32")));
        }
        (self.read)(values).map_err(bad)
    }

    fn items(&self, values: Vec<Vec<f32>>) -> Result<Vec<T>, Refusal> {
        let (got, most) = (values.len(), self.config.max_items);
        if got == 0 || got > most {
            return Err(bad(format!("{got} items given, must be 1 to {most}")));
        }
        values.into_iter().map(|values| self.item(values)).collect()
    }
}

#[derive(Deserialize)]
struct EmbedRequest {
    items: Vec<Vec<f32>>,
}

async fn embed<T: Item + Send + Sync + 'static>(State(shared): State<Shared<T>>, body: Bytes) -> Response {
    let work = |shared: &Shared<T>, request: EmbedRequest| {
        let items = shared.items(request.items)?;
        let embeddings = shared.service.get_batch(&items).map_err(|what| refused(&what))?;
        let embeddings: Vec<&[f32]> = embeddings.iter().map(|embedding| &**embedding).collect();
        Ok(json!({ "model": shared.service.version(), "embeddings": embeddings }))
    };
    shared.on_body(body, work).await
}

#[derive(Deserialize)]
struct SimilarRequest {
    query: Vec<f32>,
    candidates: Vec<Vec<f32>>,
    k: usize,
}

async fn similar<T: Item + Send + Sync + 'static>(State(shared): State<Shared<T>>, body: Bytes) -> Response {
    let work = |shared: &Shared<T>, request: SimilarRequest| {
        let (query, candidates) = (shared.item(request.query)?, shared.items(request.candidates)?);
        let nearest = shared.service.find_similar(&query, &candidates, request.k).map_err(|what| refused(&what))?;
        let nearest: Vec<Value> =
            nearest.iter().map(|(index, cosine)| json!({ "index": index, "cosine": cosine })).collect();
        Ok(json!({ "nearest": nearest }))
    };
    shared.on_body(body, work).await
}

async fn stats<T: Item + Send + Sync + 'static>(State(shared): State<Shared<T>>) -> Response {
    let s = shared.service.stats();
    let value = json!({
        "size": s.size, "hits": s.hits, "misses": s.misses, "hit_rate": s.hit_rate(), "encoded": s.encoded,
        "stale": s.stale, "evictions": s.evictions, "p50_us": s.p50, "p99_us": s.p99,
    });
    answer(StatusCode::OK, &value)
}

async fn health<T: Item + Send + Sync + 'static>(State(shared): State<Shared<T>>) -> Response {
    let model = shared.service.version();
    match shared.service.health() {
        Health::Healthy => answer(StatusCode::OK, &json!({ "status": "healthy", "model": model })),
        Health::Degraded(reason) => {
            let value = json!({ "status": "degraded", "model": model, "reason": reason });
            answer(StatusCode::SERVICE_UNAVAILABLE, &value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::embedding::ServiceConfig;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    /// Doubles two values; fails on a first value of 9.
    fn server() -> Server {
        let encode = |items: &[&Vec<f32>]| {
            if items.iter().any(|item| item[0] == 9.0) {
                return Err("no connection".to_owned());
            }
            Ok(items.iter().map(|item| item.iter().map(|x| 2.0 * x).collect()).collect())
        };
        let service =
            EmbeddingService::new(ServiceConfig::default(), Arc::new(SystemClock::new()), "v1", encode).unwrap();
        let read = |values: Vec<f32>| {
            if values.len() == 2 { Ok(values) } else { Err(format!("{} values, must be 2", values.len())) }
        };
        let config = HttpConfig { max_body: 2_000, max_items: 3, threads: 2, grace: Duration::from_millis(200) };
        Server::start(([127, 0, 0, 1], 0).into(), Arc::new(service), read, config).unwrap()
    }

    /// Sends bytes, and gives the status and the body of the answer.
    fn send(server: &Server, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request).unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        (status, text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    fn ask(server: &Server, method: &str, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        send(server, format!("{head}{body}").as_bytes())
    }

    #[test]
    fn items_are_embedded_compared_and_counted() {
        let server = server();
        let (status, body) = ask(&server, "POST", "/embed", r#"{"items": [[1, 2], [3, 4], [1, 2]]}"#);
        assert_eq!((status, body.as_str()), (200, r#"{"model":"v1","embeddings":[[2.0,4.0],[6.0,8.0],[2.0,4.0]]}"#));
        let request = r#"{"query": [1, 0], "candidates": [[0, 1], [5, 0], [1, 1]], "k": 1}"#;
        let (status, body) = ask(&server, "POST", "/similar", request);
        assert_eq!((status, body.as_str()), (200, r#"{"nearest":[{"index":1,"cosine":1.0}]}"#));
        let (status, body) = ask(&server, "GET", "/stats", "");
        let stats: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (status, &stats["hits"], &stats["misses"], &stats["encoded"]),
            (200, &json!(1), &json!(6), &json!(6))
        );
        assert_eq!(ask(&server, "GET", "/health", ""), (200, r#"{"status":"healthy","model":"v1"}"#.to_owned()));
        server.stop().unwrap();
    }

    #[test]
    fn what_cannot_be_right_gets_a_status_and_a_reason() {
        let server = server();
        let refused = |path: &str, body: &str, status: u16, part: &str| {
            let (got, said) = ask(&server, "POST", path, body);
            assert!(got == status && said.contains(part), "{path} {body}: {got} {said}");
        };
        refused("/embed", "", 400, "EOF");
        refused("/embed", "{\"items\": [[1, 2}", 400, "expected");
        refused("/embed", r#"{"item": [[1, 2]]}"#, 400, "items");
        refused("/embed", r#"{"items": []}"#, 400, "0 items given, must be 1 to 3");
        refused("/embed", r#"{"items": [[1,1],[1,2],[1,3],[1,4]]}"#, 400, "4 items");
        refused("/embed", r#"{"items": [[1, 2], [1]]}"#, 400, "1 values, must be 2");
        refused("/embed", r#"{"items": [[1e300, 2]]}"#, 400, "");
        refused("/embed", r#"{"items": [["a", 2]]}"#, 400, "invalid type");
        refused("/similar", r#"{"query": [1, 2], "candidates": [[1, 2]], "k": -1}"#, 400, "invalid");
        refused("/embed", &format!("{{\"items\": [[1, {}]]}}", "1".repeat(3_000)), 413, "");
        refused("/embed", r#"{"items": [[9, 2]]}"#, 503, "no connection");
        assert_eq!(ask(&server, "GET", "/health", "").0, 503);
        refused("/embeds", "{}", 404, "/embed");
        assert_eq!(ask(&server, "GET", "/embed", "").0, 405);
        for request in [&b"\x16\x03\x01\x02\x00"[..], b"GET", b"POST /embed HTTP/1.1\r\nContent-Length: x\r\n\r\n"] {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(request).unwrap();
        }
        assert_eq!(ask(&server, "POST", "/embed", r#"{"items": [[1, 2]]}"#).0, 200, "it goes on");
        let mut unfinished = TcpStream::connect(server.address()).unwrap();
        unfinished.write_all(b"POST /embed HTTP/1.1\r\nContent-Length: 99\r\n\r\n{").unwrap();
        let read: Read<Vec<f32>> = Ok;
        let encode = |items: &[&Vec<f32>]| Ok(items.iter().map(|item| (*item).clone()).collect());
        let service = EmbeddingService::new(ServiceConfig::default(), Arc::new(SystemClock::new()), "v1", encode);
        let service = Arc::new(service.unwrap());
        let taken = Server::start(server.address(), service.clone(), read, HttpConfig::default()).unwrap_err();
        assert!(taken.to_string().contains(&server.address().to_string()), "{taken}");
        // Of the block for documentation (RFC 5737).
        let elsewhere = ([192, 0, 2, 1], 80).into();
        assert!(Server::start(elsewhere, service, read, HttpConfig::default()).is_err());
        server.stop().unwrap();
    }
}
