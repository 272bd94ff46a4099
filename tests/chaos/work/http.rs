//! Registers by way of the HTTP API: each request on a connection of its own to one of the stores.
//!
//! A request that was sent and not answered is of unknown outcome; one whose connection did not
//! open had no effect.

use std::io;
use std::time::Duration;

use flotilla_history::{Kind, Outcome};
use flotilla_tests::http::{Response, parse};
use flotilla_types::dice::Dice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::clients::Shared;
use super::registers::write_outcome;
use super::{End, Tally};

/// The name of the workload in counts.
const HTTP: &str = "http";

/// A connection to this machine that did not open by then will not.
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// A response that did not come by then will not be waited for.
const RESPONSE_MAX: Duration = Duration::from_secs(5);

/// How a request ended.
enum Sent {
    /// Nothing has left this process.
    Never,
    /// It may have been carried out.
    Unanswered,
    /// This is the response.
    Answered(Response),
}

/// One call on a register: a read, a write, or a read and a write on the condition that nothing has
/// changed.
pub async fn register(shared: &Shared, client: u32, dice: &mut Dice) {
    let key = shared.registers.pick(dice);
    let path = format!("/v1/kv/{}", shared.registers.name(key));
    let Some(addr) = dice.pick(&shared.http_addrs).cloned() else { return };
    let kind = match dice.below(10) {
        0..4 => return drop(read(shared, client, (key, &addr, &path)).await),
        4..7 => Kind::Write(Some(shared.registers.new_value())),
        7 => Kind::Write(None),
        _ => {
            let Some((value, tag)) = read(shared, client, (key, &addr, &path)).await else {
                return;
            };
            let new = shared.registers.new_value();
            let header = match &tag {
                Some(tag) => ("If-Match", tag.as_str()),
                None => ("If-None-Match", "*"),
            };
            let kind = Kind::Swap { expected: value, new: Some(new) };
            return write(shared, (client, key, kind), (&addr, &path), &[header]).await;
        }
    };
    write(shared, (client, key, kind), (&addr, &path), &[]).await;
}

/// The value that was read, and its tag.
async fn read(
    shared: &Shared,
    client: u32,
    (key, addr, path): (u16, &str, &str),
) -> Option<(Option<u64>, Option<String>)> {
    let begun = shared.registers.begin(client, key, Kind::Read, &shared.stamps);
    let sent = send(addr, &format!("GET {path}"), &[], b"").await;
    let value = match &sent {
        Sent::Answered(response) if response.status == 200 => {
            let text = String::from_utf8_lossy(&response.body).into_owned();
            Some((text.parse().ok(), response.header("etag").map(str::to_string)))
        }
        Sent::Answered(response) if is_absence(response) => Some((None, None)),
        Sent::Never | Sent::Unanswered | Sent::Answered(_) => None,
    };
    let outcome = value.as_ref().map_or(Outcome::Failed, |(value, _)| Outcome::Read(*value));
    shared.registers.end(begun, outcome, &shared.stamps);
    count(&shared.tally, if value.is_some() { End::Ok } else { End::Failed });
    value
}

async fn write(
    shared: &Shared,
    (client, key, kind): (u32, u16, Kind),
    (addr, path): (&str, &str),
    headers: &[(&str, &str)],
) {
    let value = match kind {
        Kind::Write(value) | Kind::Swap { new: value, .. } => value,
        Kind::Read => None,
    };
    let method = if value.is_some() { "PUT" } else { "DELETE" };
    let body = value.map(|value| value.to_string()).unwrap_or_default();
    let begun = shared.registers.begin(client, key, kind, &shared.stamps);
    let sent = send(addr, &format!("{method} {path}"), headers, body.as_bytes()).await;
    let end = match &sent {
        Sent::Never => End::Failed,
        Sent::Unanswered => End::Undetermined,
        Sent::Answered(response) if (200..300).contains(&response.status) => End::Ok,
        Sent::Answered(response) if response.status < 500 => End::Failed,
        Sent::Answered(response) => match is_undetermined(response) {
            Some(false) => End::Failed,
            Some(true) | None => End::Undetermined,
        },
    };
    let outcome = match (kind, end) {
        (Kind::Swap { expected, .. }, End::Ok) => {
            Outcome::Swapped { swapped: true, previous: expected }
        }
        _ => write_outcome(end),
    };
    shared.registers.end(begun, outcome, &shared.stamps);
    // That others were faster is an answer, too.
    let is_refused = matches!(&sent, Sent::Answered(response) if response.status == 412);
    count(&shared.tally, if is_refused { End::Ok } else { end });
}

fn count(tally: &Tally, end: End) {
    tally.count(HTTP, end);
}

/// A row that is not there, and not a path that is not there.
fn is_absence(response: &Response) -> bool {
    let body = String::from_utf8_lossy(&response.body).into_owned();
    response.status == 404 && body.contains("urn:flotilla:problem:absent")
}

/// Whether the response says that the write may have taken effect; None if it does not say.
fn is_undetermined(response: &Response) -> Option<bool> {
    let body: serde_json::Value = serde_json::from_slice(&response.body).ok()?;
    body["undetermined"].as_bool()
}

async fn send(addr: &str, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Sent {
    let Ok(Ok(stream)) = timeout(CONNECT_MAX, TcpStream::connect(addr)).await else {
        return Sent::Never;
    };
    let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\nHost: {addr}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("Content-Length: {}\r\n\r\n", body.len());
    let request = [text.as_bytes(), body].concat();
    match timeout(RESPONSE_MAX, answer(stream, &request)).await {
        Ok(Ok(Some(response))) => Sent::Answered(response),
        Ok(_) | Err(_) => Sent::Unanswered,
    }
}

async fn answer(mut stream: TcpStream, request: &[u8]) -> io::Result<Option<Response>> {
    stream.write_all(request).await?;
    let mut received = vec![];
    stream.read_to_end(&mut received).await?;
    Ok(parse(&received, false))
}
