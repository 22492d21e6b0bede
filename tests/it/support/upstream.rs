//! A backend whose every answer the scene decides.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use super::must;

type Body = UnsyncBoxBody<Bytes, CutOff>;

/// A body that ends with an error: the connection is cut.
#[derive(Debug)]
pub(crate) struct CutOff;

impl std::fmt::Display for CutOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut off on purpose")
    }
}
impl std::error::Error for CutOff {}

/// A backend on a free port. Requests for streams and POSTs wait until the scene takes and answers them.
pub(crate) struct FakeUpstream {
    pub(crate) address: SocketAddr,
    opens: mpsc::Receiver<Open>,
    posts: mpsc::Receiver<Post>,
    accepted: Arc<AtomicUsize>,
    server: JoinSet<()>,
}

/// A request for an event stream.
pub(crate) struct Open {
    pub(crate) head: request::Parts,
    answer: oneshot::Sender<Response<Body>>,
}

/// A POST.
pub(crate) struct Post {
    pub(crate) head: request::Parts,
    pub(crate) body: Bytes,
    cut: CancellationToken,
    answer: oneshot::Sender<Response<Body>>,
}

/// Whatever came first.
pub(crate) enum Either {
    Open(Open),
    Post(Post),
}

/// An answer in the making.
pub(crate) struct Answer(Response<Body>);

/// An event stream that the scene writes.
pub(crate) struct EventSender(mpsc::Sender<Result<Frame<Bytes>, CutOff>>);

struct ChannelBody(mpsc::Receiver<Result<Frame<Bytes>, CutOff>>);

impl http_body::Body for ChannelBody {
    type Data = Bytes;
    type Error = CutOff;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        self.0.poll_recv(cx)
    }
}

impl FakeUpstream {
    /// Speaks HTTP/1.1, and HTTP/2 with prior knowledge.
    pub(crate) async fn start() -> Self {
        Self::start_with(None, None).await
    }

    /// The same over TLS, or with a limit on the streams of an HTTP/2 connection.
    pub(crate) async fn start_with(tls: Option<TlsAcceptor>, max_streams: Option<u32>) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), tls, max_streams)
    }

    /// Stands again where one that is gone has stood.
    pub(crate) async fn start_again_at(address: SocketAddr) -> Self {
        Self::serve(TcpListener::bind(address).await.unwrap(), None, None)
    }

    /// Goes, with all its connections, and gives the address where nobody is now.
    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.server.shutdown().await;
        self.address
    }

    /// The same where the scene has chosen the address.
    pub(crate) fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, max_streams: Option<u32>) -> Self {
        let address = listener.local_addr().unwrap();
        let (opens_tx, opens) = mpsc::channel(10_000);
        let (posts_tx, posts) = mpsc::channel(10_000);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                stream.set_nodelay(true).unwrap();
                let (opens, posts, tls) = (opens_tx.clone(), posts_tx.clone(), tls.clone());
                connections.spawn(async move {
                    let cut = CancellationToken::new();
                    let on_cut = cut.clone();
                    let service = TowerToHyperService::new(service_fn(move |request| {
                        take(request, opens.clone(), posts.clone(), cut.clone())
                    }));
                    let mut server = auto::Builder::new(TokioExecutor::new());
                    server.http2().max_concurrent_streams(max_streams.or(Some(200)));
                    // A client that goes away is part of many scenes.
                    let serving = async {
                        let _ = match tls {
                            None => server.serve_connection(TokioIo::new(stream), service).await,
                            Some(tls) => match tls.accept(stream).await {
                                Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                                Err(_) => Ok(()),
                            },
                        };
                    };
                    tokio::select! {
                        () = serving => {}
                        () = on_cut.cancelled() => {}
                    }
                });
            }
        });
        Self { address, opens, posts, accepted, server }
    }

    /// How many connections were made to it so far.
    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The next request for an event stream.
    pub(crate) async fn next_open(&mut self) -> Open {
        must("a request for an event stream", self.opens.recv()).await.unwrap()
    }

    /// The next POST.
    pub(crate) async fn next_post(&mut self) -> Post {
        must("a POST", self.posts.recv()).await.unwrap()
    }

    /// The next request for an event stream, however long it takes; `None` once the server is gone.
    pub(crate) async fn try_next_open(&mut self) -> Option<Open> {
        self.opens.recv().await
    }

    /// Whether nobody asks for an event stream for that long.
    pub(crate) async fn no_open_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.opens.recv()).await.is_err()
    }

    /// The next request or POST, however long it takes.
    pub(crate) async fn next_of_either(&mut self) -> Either {
        tokio::select! {
            Some(open) = self.opens.recv() => Either::Open(open),
            Some(post) = self.posts.recv() => Either::Post(post),
        }
    }

    /// Asserts that no POST is waiting. Meaningful after something that would have come behind it.
    pub(crate) fn assert_no_post(&mut self) {
        if let Ok(post) = self.posts.try_recv() {
            panic!("a POST came that should not have: {:?} {:?}", post.head.uri, post.body);
        }
    }

    /// Asserts that upstream has heard nothing of the client.
    pub(crate) fn assert_untouched(&mut self) {
        assert!(self.opens.try_recv().is_err(), "upstream was asked for an event stream");
        self.assert_no_post();
    }
}

async fn take(
    request: Request<Incoming>,
    opens: mpsc::Sender<Open>,
    posts: mpsc::Sender<Post>,
    cut: CancellationToken,
) -> Result<Response<Body>, Infallible> {
    let (answer, answered) = oneshot::channel();
    let (head, body) = request.into_parts();
    if head.method == Method::GET {
        let _ = opens.send(Open { head, answer }).await;
    } else {
        let Ok(body) = body.collect().await else { return Ok(Answer::status(400).0) };
        let _ = posts.send(Post { head, body: body.to_bytes(), cut, answer }).await;
    }
    // A scene that drops a request without an answer means: no answer.
    match answered.await {
        Ok(response) => Ok(response),
        Err(_) => std::future::pending().await,
    }
}

impl Open {
    /// Accepts with an event stream.
    pub(crate) fn accept(self) -> EventSender {
        self.accept_with(&[])
    }

    /// Accepts, with further fields.
    pub(crate) fn accept_with(self, fields: &[(&'static str, &str)]) -> EventSender {
        let (answer, events) = Answer::stream();
        let answer = fields.iter().fold(answer, |answer, (name, value)| answer.with(name, value));
        self.answer(answer);
        events
    }

    /// Answers as the scene wants.
    pub(crate) fn answer(self, answer: Answer) {
        let _ = self.answer.send(answer.0);
    }

    /// Keeps the request without an answer.
    pub(crate) fn hold(self) -> oneshot::Sender<impl Sized> {
        self.answer
    }
}

impl Post {
    /// Accepts with 204.
    pub(crate) fn accept(self) {
        self.answer(Answer::status(204));
    }

    /// Answers as the scene wants.
    pub(crate) fn answer(self, answer: Answer) {
        let _ = self.answer.send(answer.0);
    }

    /// Cuts the connection instead of an answer.
    pub(crate) fn cut(self) {
        self.cut.cancel();
    }

    /// A field as text.
    pub(crate) fn field(&self, name: &str) -> &str {
        field(&self.head.headers, name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Keeps the request without an answer until the value is dropped.
    pub(crate) fn hold(self) -> oneshot::Sender<impl Sized> {
        self.answer
    }
}

/// A field as text, empty when it is not there.
pub(crate) fn field<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        let mut response = Response::new(Full::default().map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Self(response)
    }

    /// 200 with an event stream.
    pub(crate) fn stream() -> (Self, EventSender) {
        let (sender, receiver) = mpsc::channel(1024);
        let answer =
            Self(Response::new(ChannelBody(receiver).boxed_unsync())).with("content-type", "text/event-stream");
        (answer, EventSender(sender))
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.0.headers_mut().insert(name, value.parse().unwrap());
        self
    }

    pub(crate) fn body(self, body: impl Into<Bytes>) -> Self {
        let (head, _) = self.0.into_parts();
        Self(Response::from_parts(head, Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()))
    }
}

impl EventSender {
    /// Sends bytes as they are, as one chunk.
    pub(crate) async fn send(&self, bytes: impl Into<Bytes>) {
        must("room in the event stream", self.0.send(Ok(Frame::data(bytes.into())))).await.unwrap();
    }

    /// Sends bytes, or says that the gateway has given the stream up.
    pub(crate) async fn try_send(&self, bytes: impl Into<Bytes>) -> Result<(), ()> {
        must("room in the event stream", self.0.send(Ok(Frame::data(bytes.into())))).await.map_err(drop)
    }

    /// Cuts the connection.
    pub(crate) async fn cut(self) {
        let _ = self.0.send(Err(CutOff)).await;
    }

    /// Ends the body in the regular way.
    pub(crate) fn end(self) {
        drop(self.0);
    }

    /// Sends bytes if the gateway takes them soon.
    pub(crate) async fn offer(&self, bytes: impl Into<Bytes>) -> bool {
        let sent = self.0.send(Ok(Frame::data(bytes.into())));
        matches!(tokio::time::timeout(Duration::from_millis(500), sent).await, Ok(Ok(())))
    }

    /// Resolves when the gateway has given the stream up.
    pub(crate) async fn cancelled(&self) {
        must("the end of the event stream", self.0.closed()).await;
    }
}
