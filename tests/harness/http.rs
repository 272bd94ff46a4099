//! The least that a test needs of an HTTP client: one request on a connection of its own, as bytes.
//!
//! Written here because the tests send what a well-behaved client cannot: malformed heads, bodies
//! that do not end, names of other sites.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How long a server may be silent. Longer than any call takes.
const SILENCE_MAX: Duration = Duration::from_secs(40);

/// A response, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The headers, their names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The entity tag, which must be there.
    pub fn etag(&self) -> String {
        self.header("etag").unwrap_or_else(|| panic!("no tag: {self:?}")).to_string()
    }

    /// Fails unless the status is this one.
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{self:?}: {}", String::from_utf8_lossy(&self.body));
        self
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends one request to the server at `addr` and reads the response.
pub fn request(
    addr: &str,
    line: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Response> {
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text += &format!("Host: {addr}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || line.starts_with("PUT") || line.starts_with("POST") {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    let head_only = line.starts_with("HEAD");
    raw(addr, &[text.as_bytes(), b"\r\n", body].concat(), head_only)
}

/// Sends bytes as they are and reads the response until the server closes the connection.
/// `head_only`: a response to HEAD, which announces a body and has none.
pub fn raw(addr: &str, bytes: &[u8], head_only: bool) -> std::io::Result<Response> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    // A server that refuses early may close while more is sent; its response counts.
    let sent = stream.write_all(bytes);
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received);
    match parse(&received, head_only) {
        Some(response) => Ok(response),
        None => {
            sent?;
            ended?;
            Err(std::io::Error::other(format!("no response in {} bytes", received.len())))
        }
    }
}

/// The response that these bytes are, once it is whole.
pub fn parse(received: &[u8], head_only: bool) -> Option<Response> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(received.get(..end)?).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_string()))
        .collect();
    let rest = received.get(end + 4..)?;
    let response = Response { status, headers, body: rest.to_vec() };
    if head_only {
        return Some(response);
    }
    let body = match response.header("transfer-encoding") {
        Some(_) => chunks(rest)?,
        None => {
            let announced = response.header("content-length").and_then(|text| text.parse().ok());
            rest.get(..announced.unwrap_or(rest.len()))?.to_vec()
        }
    };
    Some(Response { body, ..response })
}

/// The content of chunks; None if they end early.
fn chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let digits = String::from_utf8_lossy(rest.get(..end)?).into_owned();
        let length = usize::from_str_radix(digits.trim(), 16).ok()?;
        rest = rest.get(end + 2..)?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}
