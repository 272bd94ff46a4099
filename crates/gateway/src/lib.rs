//! The HTTP API: one listener that turns requests into calls of the client.
//!
//! * [`server`]: listens, bounds connections, stops gracefully.
//! * `connections`: what a connection may cost others.
//! * `guard`: what every request must pass, and what every response carries.
//! * `routes`: one file for each resource.
//! * `app`: what requests share: the client, and the budget of bytes.
//! * `body`: reads a request's body within its bounds.
//! * `stream`: rows as the body of a response.
//! * `conditions`, `cursor`, `etag`, `escape`, `hosts`, `query`: decode requests; pure.
//! * `feed`: the cluster as it changes, for those who listen; `changes`: what differs between two
//!   looks at it; pure.
//! * `rows`: rows as lines; `views`: the cluster's state as JSON; pure.
//! * `metrics`: what it counts; the route is in `routes/metrics.rs`.
//! * `openapi`: what the routes' descriptions share; served at `/openapi.json`.
//! * `problem`: errors as problem JSON (RFC 9457).
//! * `trace`: the name of a request in logs.
//! * `limits`: every bound, with where its number comes from.
//!
//! A gateway keeps nothing: each request is answered from calls of the client, so any number of
//! gateways may stand behind a load balancer. A conditional write is decided by one
//! compare-and-swap at a store.
//!
//! Not here: where a key is, when to try again and what an outcome means, which the client knows;
//! and authentication.

mod app;
mod body;
mod changes;
mod conditions;
mod connections;
mod cursor;
mod escape;
mod etag;
mod feed;
mod guard;
mod hosts;
mod limits;
mod metrics;
mod openapi;
mod problem;
mod query;
mod routes;
mod rows;
pub mod server;
mod stream;
mod trace;
pub mod views;

pub use server::{Gateway, GatewayConfig, StartError};
