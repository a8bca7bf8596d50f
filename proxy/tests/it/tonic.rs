//! gRPC by tonic, which knows nothing of us: its client calls its server through two sidecars.
//!
//! What tonic generates from a `.proto` file is written out: one service, whose methods have every shape that a call can.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use ::tonic::body::Body;
use ::tonic::client::Grpc as Client;
use ::tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use ::tonic::codegen::{BoxFuture, BoxStream, Service};
use ::tonic::metadata::MetadataValue;
use ::tonic::server::Grpc as Server;
use ::tonic::transport::server::TcpIncoming;
use ::tonic::transport::{Channel, Endpoint};
use ::tonic::{Code, Request, Response, Status, Streaming};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::HeaderMap;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;

use crate::backend::nobody;
use crate::eventually::{eventually, soon};
use crate::outbound::Pair;
use crate::pki::{API, CALLER, OTHER, Pki};
use crate::sidecar::{Plan, requests};

/// The only message.
#[derive(Clone, PartialEq, Eq, Message)]
struct Note {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(bytes = "vec", tag = "3")]
    filling: Vec<u8>,
}

fn note(text: &str, number: u64) -> Note {
    Note { text: text.to_owned(), number, filling: Vec::new() }
}

/// Notes as protobuf.
#[derive(Clone, Copy)]
struct Notes;

impl Codec for Notes {
    type Encode = Note;
    type Decode = Note;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Notes {
    type Item = Note;
    type Error = Status;

    fn encode(&mut self, item: Note, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Notes {
    type Item = Note;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Note>, Status> {
        Note::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// A function as the service that tonic wants for each method.
struct Method<F>(F);

impl<F, Asked, Answer, Answering> Service<Asked> for Method<F>
where
    F: FnMut(Asked) -> Answering,
    Answering: Future<Output = Result<Answer, Status>>,
{
    type Response = Answer;
    type Error = Status;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, asked: Asked) -> Answering {
        (self.0)(asked)
    }
}

/// The application: `test.Diary`.
#[derive(Clone, Default)]
struct Diary {
    seen: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    abandoned: Arc<AtomicUsize>,
}

/// Counts a call that ended before its answer did.
struct Abandoned(Arc<AtomicUsize>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Diary {
    fn start() -> (Self, SocketAddr) {
        let diary = Self::default();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        tokio::spawn(::tonic::transport::Server::builder().serve_with_incoming(diary.clone(), incoming));
        (diary, address)
    }

    fn last(&self) -> HeaderMap {
        self.seen.lock().unwrap().last().expect("nothing was asked").1.clone()
    }

    fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    async fn eventually_abandoned(&self, expected: usize) {
        eventually("the application hears that the caller has gone", async || {
            match self.abandoned.load(Ordering::Relaxed) {
                count if count == expected => Ok(()),
                count => Err(count),
            }
        })
        .await;
    }
}

impl Service<http::Request<Body>> for Diary {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path().to_owned();
        self.seen.lock().unwrap().push((path.clone(), request.headers().clone()));
        let abandoned = Arc::clone(&self.abandoned);
        let mut grpc = Server::new(Notes)
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(BIG * 2);
        Box::pin(async move {
            Ok(match path.as_str() {
                "/test.Diary/Say" => grpc.unary(Method(say), request).await,
                "/test.Diary/Fail" => grpc.unary(Method(fail), request).await,
                "/test.Diary/Count" => grpc.server_streaming(Method(count), request).await,
                "/test.Diary/Sum" => grpc.client_streaming(Method(sum), request).await,
                "/test.Diary/Chat" => grpc.streaming(Method(chat), request).await,
                "/test.Diary/Wait" => {
                    let wait = move |_: Request<Note>| {
                        let guard = Abandoned(Arc::clone(&abandoned));
                        async move {
                            let _guard = guard;
                            std::future::pending::<Result<Response<Note>, Status>>().await
                        }
                    };
                    grpc.unary(Method(wait), request).await
                }
                "/test.Diary/Endless" => {
                    let endless = move |_: Request<Note>| {
                        let guard = Abandoned(Arc::clone(&abandoned));
                        let never = async move {
                            let _guard = guard;
                            std::future::pending().await
                        };
                        let first = stream::iter([Ok(note("the first of many", 1))]);
                        let notes: BoxStream<Note> = Box::pin(first.chain(stream::once(never)));
                        std::future::ready(Ok(Response::new(notes)))
                    };
                    grpc.server_streaming(Method(endless), request).await
                }
                _ => Status::unimplemented(path).into_http(),
            })
        })
    }
}

/// Says the same again, with the metadata that it was asked with.
async fn say(asked: Request<Note>) -> Result<Response<Note>, Status> {
    let metadata = asked.metadata().clone();
    let mut answer = Response::new(asked.into_inner());
    if let Some(text) = metadata.get("x-asked") {
        answer.metadata_mut().insert("x-answered", text.clone());
    }
    for bytes in metadata.get_all_bin("x-asked-bin") {
        answer.metadata_mut().append_bin("x-answered-bin", bytes.clone());
    }
    Ok(answer)
}

fn failure(code: i32) -> Status {
    let mut status = Status::with_details(Code::from_i32(code), MESSAGE, Bytes::from_static(DETAILS));
    status.metadata_mut().insert("x-hint", "ask again".parse().unwrap());
    status
}

async fn fail(asked: Request<Note>) -> Result<Response<Note>, Status> {
    Err(failure(i32::try_from(asked.into_inner().number).unwrap()))
}

/// As many notes as it was asked for, and a failure behind them where the text says so.
async fn count(asked: Request<Note>) -> Result<Response<BoxStream<Note>>, Status> {
    let asked = asked.into_inner();
    let end = (asked.text == "and fail").then(|| Err(failure(9)));
    let notes = stream::iter((1..=asked.number).map(|number| Ok(note("counted", number))).chain(end));
    Ok(Response::new(Box::pin(notes)))
}

async fn sum(asked: Request<Streaming<Note>>) -> Result<Response<Note>, Status> {
    let mut notes = asked.into_inner();
    let mut sum = 0;
    while let Some(note) = notes.message().await? {
        sum += note.number;
    }
    Ok(Response::new(note("summed", sum)))
}

async fn chat(asked: Request<Streaming<Note>>) -> Result<Response<BoxStream<Note>>, Status> {
    let answers = asked.into_inner().map(|asked| asked.map(|asked| note(&asked.text, asked.number + 1)));
    Ok(Response::new(Box::pin(answers)))
}

async fn client(near: SocketAddr) -> Client<Channel> {
    let channel = Endpoint::from_shared(format!("http://{near}")).unwrap().connect().await.unwrap();
    let mut client = Client::new(channel).max_decoding_message_size(BIG * 2);
    client.ready().await.unwrap();
    client
}

async fn unary(client: &mut Client<Channel>, method: &str, asked: Request<Note>) -> Result<Response<Note>, Status> {
    client.ready().await.unwrap();
    soon(method, client.unary(asked, path(method), Notes)).await
}

fn path(method: &str) -> PathAndQuery {
    format!("/test.Diary/{method}").parse().unwrap()
}

#[tokio::test]
async fn every_shape_of_call_goes_through() {
    for (near, far) in [("grpc", "grpc"), ("http2", "http2"), ("http", "auto")] {
        let row = format!("{near} to {far}");
        let (diary, address) = Diary::start();
        let pair = Pair::new(near, far, address).await;
        let mut client = client(pair.near.outbound()).await;

        let said = unary(&mut client, "Say", Request::new(note("hello", 7))).await.unwrap();
        assert_eq!(said.into_inner(), note("hello", 7), "{row}");
        let caller = diary.last().get("x-forwarded-client-cert").unwrap().to_str().unwrap().to_owned();
        assert!(caller.contains(CALLER), "{row}: {caller}");

        client.ready().await.unwrap();
        let counted = client.server_streaming(Request::new(note("", 1_000)), path("Count"), Notes).await.unwrap();
        let numbers: Vec<u64> =
            soon("1,000 notes", counted.into_inner().map(|note| note.unwrap().number).collect()).await;
        assert_eq!(numbers, (1..=1_000).collect::<Vec<_>>(), "{row}");

        client.ready().await.unwrap();
        let asking = Request::new(stream::iter((1..=1_000).map(|number| note("", number))));
        let summed = soon("the sum", client.client_streaming(asking, path("Sum"), Notes)).await.unwrap();
        assert_eq!(summed.into_inner(), note("summed", 500_500), "{row}");

        // Each is sent when the one before has been answered, so nothing may wait for more.
        client.ready().await.unwrap();
        let (asking, mut asked) = mpsc::channel(1);
        let asked = stream::poll_fn(move |cx| asked.poll_recv(cx));
        let mut answers = client.streaming(Request::new(asked), path("Chat"), Notes).await.unwrap().into_inner();
        for number in [1, 10, 100] {
            asking.send(note("chat", number)).await.unwrap();
            let answer = soon("an answer in the chat", answers.message()).await.unwrap();
            assert_eq!(answer, Some(note("chat", number + 1)), "{row}");
        }
        drop(asking);
        assert_eq!(soon("the end of the chat", answers.message()).await.unwrap(), None, "{row}");
        let trailers = answers.trailers().await.unwrap();
        assert!(trailers.is_some(), "{row}: the stream ends with trailers");
    }
}

#[tokio::test]
async fn calls_side_by_side_on_one_channel_get_their_own_answers() {
    let (diary, address) = Diary::start();
    let pair = Pair::new("grpc", "grpc", address).await;
    let client = client(pair.near.outbound()).await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..200 {
        let mut client = client.clone();
        calls.spawn(async move {
            let said = unary(&mut client, "Say", Request::new(note("mine", number))).await.unwrap().into_inner();
            assert_eq!(said, note("mine", number));
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    assert_eq!(diary.calls(), 200);
    pair.near.eventually_counts(&requests("outbound", 200), 200).await;
    pair.far.eventually_counts(&requests("inbound", 200), 200).await;
}

#[tokio::test]
async fn metadata_passes_both_ways_binary_as_well() {
    let (diary, address) = Diary::start();
    let pair = Pair::new("grpc", "grpc", address).await;
    let mut client = client(pair.near.outbound()).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut asked = Request::new(note("hello", 1));
    asked.metadata_mut().insert("x-asked", "plain, with a comma".parse().unwrap());
    asked.metadata_mut().insert_bin("x-asked-bin", MetadataValue::from_bytes(&every_byte));
    asked.metadata_mut().append_bin("x-asked-bin", MetadataValue::from_bytes(b"second"));
    asked.metadata_mut().insert("x-forwarded-client-cert", format!("URI={OTHER}").parse().unwrap());
    asked.set_timeout(Duration::from_secs(3_000));

    let said = unary(&mut client, "Say", asked).await.unwrap();
    assert_eq!(said.metadata().get("x-answered").unwrap(), "plain, with a comma");
    let answered: Vec<Bytes> =
        said.metadata().get_all_bin("x-answered-bin").iter().map(|value| value.to_bytes().unwrap()).collect();
    assert_eq!(answered, [Bytes::from(every_byte), Bytes::from_static(b"second")]);
    let seen = diary.last();
    assert_eq!(seen.get("te").unwrap(), "trailers");
    assert_eq!(seen.get("grpc-timeout").unwrap(), "3000000m", "the deadline arrives as it was set");
    assert!(seen.get("user-agent").unwrap().to_str().unwrap().contains("tonic"), "{seen:?}");
    assert!(!format!("{seen:?}").contains(OTHER), "a claimed identity does not arrive: {seen:?}");
}

#[tokio::test]
async fn every_status_comes_with_its_message_details_and_metadata() {
    let (_diary, address) = Diary::start();
    let pair = Pair::new("grpc", "grpc", address).await;
    let mut client = client(pair.near.outbound()).await;
    let whole = |status: &Status| {
        assert_eq!((status.message(), status.details()), (MESSAGE, DETAILS));
        assert_eq!(status.metadata().get("x-hint").unwrap(), "ask again");
    };
    for code in 1..=16 {
        let status = unary(&mut client, "Fail", Request::new(note("", code))).await.unwrap_err();
        assert_eq!(status.code(), Code::from_i32(i32::try_from(code).unwrap()));
        whole(&status);
    }
    // The same behind messages, in trailers.
    client.ready().await.unwrap();
    let counted = client.server_streaming(Request::new(note("and fail", 3)), path("Count"), Notes).await.unwrap();
    let mut notes = counted.into_inner();
    for number in 1..=3 {
        assert_eq!(soon("a note", notes.message()).await.unwrap().unwrap().number, number);
    }
    let status = soon("the failure", notes.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    whole(&status);
    let status = unary(&mut client, "Unknown", Request::new(note("", 0))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, "/test.Diary/Unknown"));
}

#[tokio::test]
async fn a_deadline_that_passes_ends_the_call_at_both_ends() {
    let (diary, address) = Diary::start();
    let pair = Pair::new("grpc", "grpc", address).await;
    let mut client = client(pair.near.outbound()).await;
    let mut asked = Request::new(note("", 0));
    asked.set_timeout(Duration::from_millis(300));
    let status = unary(&mut client, "Wait", asked).await.unwrap_err();
    // What tonic makes of its own timer.
    assert_eq!((status.code(), status.message()), (Code::Cancelled, "Timeout expired"));
    diary.eventually_abandoned(1).await;
    unary(&mut client, "Say", Request::new(note("on", 1))).await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_cancelled_ends_at_the_application_and_others_go_on() {
    let (diary, address) = Diary::start();
    let pair = Pair::new("grpc", "grpc", address).await;
    let mut client = client(pair.near.outbound()).await;
    let mut other = client.clone();
    {
        let mut call = Box::pin(unary(&mut client, "Wait", Request::new(note("", 0))));
        eventually("the call arrives", async || {
            assert!(call.as_mut().now_or_never().is_none());
            if diary.calls() == 1 { Ok(()) } else { Err(diary.calls()) }
        })
        .await;
    }
    diary.eventually_abandoned(1).await;

    client.ready().await.unwrap();
    let endless = client.server_streaming(Request::new(note("", 0)), path("Endless"), Notes).await.unwrap();
    let mut notes = endless.into_inner();
    assert_eq!(soon("the first note", notes.message()).await.unwrap(), Some(note("the first of many", 1)));
    assert_eq!(diary.abandoned.load(Ordering::Relaxed), 1, "the stream is open");
    drop(notes);
    diary.eventually_abandoned(2).await;
    assert_eq!(unary(&mut other, "Say", Request::new(note("on", 1))).await.unwrap().into_inner(), note("on", 1));
    pair.far.eventually_counts(&requests("inbound", 499), 1).await;
}

#[tokio::test]
async fn refusals_of_either_sidecar_are_statuses_of_grpc() {
    let pki = Pki::new();
    let (diary, address) = Diary::start();
    let policy = crate::grpc::ECHO_ONLY.replace("services: [test.Echo]", "services: [test.Diary], methods: [Say]");
    let far = Plan::new(&pki, API).policy(&policy).inbound("grpc", address).ready().await;
    let gone = Plan::new(&pki, API).inbound("grpc", nobody().await).ready().await;
    let near = Plan::new(&pki, CALLER)
        .outbound("grpc", far.inbound(), &[API])
        .outbound("grpc", far.inbound(), &[OTHER])
        .outbound("grpc", gone.inbound(), &[API])
        .ready()
        .await;
    let listeners = near.running().addresses().outbound.clone();

    let mut allowed = client(listeners[0]).await;
    unary(&mut allowed, "Say", Request::new(note("hello", 1))).await.unwrap();
    let status = unary(&mut allowed, "Fail", Request::new(note("", 5))).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, ""),
        "a peer learns that it may not, no more"
    );
    client_of_a_stream_is_denied(&mut allowed).await;
    assert_eq!(diary.calls(), 1, "nothing of it arrived");

    let status = unary(&mut client(listeners[1]).await, "Say", Request::new(note("", 0))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains(OTHER) && status.message().contains(API), "{status:?}");
    assert_eq!(status.metadata().get("x-portcullis-reason").unwrap(), "upstream_wrong_identity");

    let status = unary(&mut client(listeners[2]).await, "Say", Request::new(note("", 0))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

/// Denied while it still sends.
async fn client_of_a_stream_is_denied(client: &mut Client<Channel>) {
    client.ready().await.unwrap();
    let asking = Request::new(stream::iter([note("", 1)]).chain(stream::pending()));
    let denied = soon("the denial", client.streaming(asking, path("Chat"), Notes)).await;
    assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_big_message_comes_whole_compressed_or_not() {
    let (diary, address) = Diary::start();
    let pair = Pair::new("grpc", "grpc", address).await;
    let plain = client(pair.near.outbound()).await;
    let gzip = CompressionEncoding::Gzip;
    let compressed = plain.clone().send_compressed(gzip).accept_compressed(gzip);
    let filling: Vec<u8> = (0..BIG).map(|at| u8::try_from(at * at / 251 % 256).unwrap()).collect();
    for (mut client, encoding) in [(plain, None), (compressed, Some("gzip"))] {
        let big = Note { filling: filling.clone(), ..note("big", 1) };
        let said = unary(&mut client, "Say", Request::new(big.clone())).await.unwrap();
        assert_eq!(diary.last().get("grpc-encoding").map(|value| value.to_str().unwrap()), encoding);
        assert_eq!(said.metadata().get("grpc-encoding").map(|value| value.to_str().unwrap()), encoding);
        assert!(said.into_inner() == big, "{encoding:?}: another message came back");
    }
}

/// Percent-encoded on the way.
const MESSAGE: &str = "50% of ü\nis not enough";
/// Carried as base64.
const DETAILS: &[u8] = b"\x00\xffdetails";
/// Larger than every window on the way.
const BIG: usize = 8 << 20;
