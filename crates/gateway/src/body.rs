//! Reads a request's body within its bounds: bytes, time, and the budget that all requests share.

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use crate::app::App;
use crate::limits::BODY_TIME_MAX;
use crate::problem::Problem;

/// A body in memory. Its share of the budget is free once this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads a whole body of at most `max` bytes. A length over the limit that is announced is refused
/// before anything is read.
pub(crate) async fn read(mut body: Body, max: usize, app: &App) -> Result<Held, Problem> {
    if body.size_hint().lower() > max as u64 {
        return Err(Problem::body_too_large(max));
    }
    let until = Instant::now() + BODY_TIME_MAX;
    // Copied, for many small frames would each keep a larger buffer.
    let mut bytes = BytesMut::new();
    let mut share: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = timeout_at(until, body.frame()).await.map_err(|_| too_slow())? {
        let Ok(data) = frame.map_err(|_| Problem::broken_body())?.into_data() else { continue };
        if bytes.len() + data.len() > max {
            return Err(Problem::body_too_large(max));
        }
        let more = app.take_bytes(data.len()).ok_or_else(full)?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Held { bytes: bytes.freeze(), _share: share })
}

fn too_slow() -> Problem {
    let detail = format!("the body did not end within {} s", BODY_TIME_MAX.as_secs());
    Problem::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "The body came too slowly", detail)
}

fn full() -> Problem {
    Problem::overloaded("the bodies of all requests together take too much memory; try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    #[tokio::test]
    async fn a_body_is_read_up_to_its_limit_and_not_beyond() {
        let app = App::alone();
        let held = read(Body::from("12345"), 5, &app).await.expect("at the limit");
        assert_eq!(held.bytes, "12345");
        let refused = read(Body::from("123456"), 5, &app).await.expect_err("over it");
        assert_eq!(refused, Problem::body_too_large(5));
        assert_eq!(read(Body::empty(), 5, &app).await.expect("empty").bytes, "");
    }

    #[tokio::test]
    async fn bodies_share_a_budget_that_is_given_back() {
        let app = App::alone();
        let rest = app.take_bytes(crate::limits::BODIES_BYTES_MAX - 4).expect("all but four");
        let held = read(Body::from("1234"), 9, &app).await.expect("four bytes are left");
        assert_eq!(read(Body::from("5"), 9, &app).await.expect_err("none is left"), full());
        drop(held);
        read(Body::from("5"), 9, &app).await.expect("some are left");
        drop(rest);
    }
}
