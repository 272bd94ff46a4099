//! One gRPC call over a connection of its own, with any bytes as its messages.

use std::future::poll_fn;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request};
use prost::Message;
use tokio::net::TcpStream;

/// What a server may send unread: more than any answer.
const WINDOW: u32 = 64 * 1024 * 1024;

/// A call as it is sent.
pub struct Sent {
    /// To whom.
    pub addr: String,
    /// `/package.Service/Method`.
    pub path: String,
    /// The HTTP method.
    pub method: &'static str,
    /// Beside those of every gRPC call; an empty value leaves one of those out.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The call's messages, in their frames.
    pub body: Bytes,
}

impl Sent {
    /// A call like those of every client.
    pub fn new(addr: &str, path: &str, body: Bytes) -> Sent {
        let (addr, path) = (addr.to_string(), path.to_string());
        Sent { addr, path, method: "POST", headers: vec![], body }
    }
}

/// How a call ended that the server answered.
#[derive(Debug)]
pub struct Ended {
    /// Of HTTP.
    pub http: u16,
    /// Of gRPC.
    pub status: Option<i32>,
    /// The answer's messages.
    pub messages: Vec<Bytes>,
}

/// A message in its frame.
pub fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    frame(0, bytes.len() as u32, &bytes)
}

/// A frame that says this of itself, and these bytes.
pub fn frame(flag: u8, length: u32, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + bytes.len());
    frame.put_u8(flag);
    frame.put_u32(length);
    frame.put_slice(bytes);
    frame.freeze()
}

/// Makes the call. The error is how the connection or the call broke.
pub async fn call(sent: &Sent) -> Result<Ended, h2::Error> {
    let stream = TcpStream::connect(&sent.addr).await.map_err(h2_error)?;
    let mut builder = Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let (caller, connection) = builder.handshake::<_, Bytes>(stream).await?;
    let driving = tokio::spawn(connection);
    let ended = exchange(caller, sent).await;
    driving.abort();
    ended
}

fn h2_error(_: std::io::Error) -> h2::Error {
    h2::Reason::REFUSED_STREAM.into()
}

async fn exchange(mut caller: SendRequest<Bytes>, sent: &Sent) -> Result<Ended, h2::Error> {
    let uri = format!("http://{}{}", sent.addr, sent.path);
    let mut request = Request::builder().method(sent.method).uri(uri);
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        if !sent.headers.iter().any(|(other, _)| *other == name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in sent.headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("a request");
    let (response, body) = caller.send_request(request, sent.body.is_empty())?;
    // The server may refuse before it has read all.
    let (_, response) = tokio::join!(send_all(body, sent.body.clone()), response);
    let (head, body) = response?.into_parts();
    let (bytes, trailers) = read_all(body).await?;
    let status = trailers.as_ref().and_then(status).or(status(&head.headers));
    Ok(Ended { http: head.status.as_u16(), status, messages: messages(bytes) })
}

async fn send_all(mut body: SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        body.reserve_capacity(bytes.len());
        let Some(capacity) = poll_fn(|cx| body.poll_capacity(cx)).await else { return Ok(()) };
        let part = bytes.split_to(capacity?.min(bytes.len()));
        body.send_data(part, bytes.is_empty())?;
    }
    Ok(())
}

async fn read_all(mut body: RecvStream) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
    let mut bytes = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        bytes.extend_from_slice(&part);
    }
    Ok((bytes.freeze(), body.trailers().await?))
}

fn status(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn messages(mut bytes: Bytes) -> Vec<Bytes> {
    let mut messages = vec![];
    while bytes.len() >= 5 {
        let head = bytes.split_to(5);
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        messages.push(bytes.split_to(length.min(bytes.len())));
    }
    messages
}
