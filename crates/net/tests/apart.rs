//! Connections that are told apart are served however long callers keep their threads.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use flotilla_net::apart::Apart;
use flotilla_net::connect::{Callee, Channels, Traffic, connect, connect_member};
use flotilla_net::listen::{Listener, Services};
use flotilla_net::services::{pd_client, pd_server};
use flotilla_types::proto::pd_server::Pd;
use flotilla_types::proto::{PdReply, PdRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// A call that comes over a connection that is told apart ends well within it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers at once.
struct Quick;

#[tonic::async_trait]
impl Pd for Quick {
    async fn call(&self, _: Request<PdRequest>) -> Result<Response<PdReply>, Status> {
        Ok(Response::new(PdReply::default()))
    }
}

/// Keeps its thread until it is told to go on.
struct Standing {
    begun: Sender<()>,
    over: Arc<std::sync::Mutex<Receiver<()>>>,
}

#[tonic::async_trait]
impl Pd for Standing {
    async fn call(&self, _: Request<PdRequest>) -> Result<Response<PdReply>, Status> {
        self.begun.send(()).expect("the test runs");
        self.over.lock().expect("no panic").recv().expect("the test runs");
        Ok(Response::new(PdReply::default()))
    }
}

fn one_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a thread")
}

#[test]
fn members_and_scans_are_served_while_a_call_keeps_the_threads_of_callers() {
    let (callers, own, here) = (one_thread(), one_thread(), one_thread());
    let (begun, has_begun) = channel();
    let (end, over) = channel();
    let standing = Standing { begun, over: Arc::new(over.into()) };
    let apart = |traffic| {
        let routes = Routes::new(pd_server(Quick));
        Apart { traffic, routes, on: own.handle().clone() }
    };
    let services = Services {
        callers: Routes::new(pd_server(standing)),
        apart: [Traffic::Members, Traffic::Scans].map(apart).into(),
    };
    let listener = callers.block_on(Listener::bind("127.0.0.1:0")).expect("a free port");
    let addr = listener.addr().to_string();
    callers.spawn(listener.serve(services, std::future::pending()));

    let scans = Channels::of(Traffic::Scans, 1);
    let of_member = here.block_on(connect_member(&addr, &Callee::default())).expect("a connection");
    let of_scans = here.block_on(scans.get(&addr)).expect("a connection");
    let call = |channel| async move { pd_client(channel).call(PdRequest::default()).await };
    for channel in [of_member.clone(), of_scans.clone()] {
        here.block_on(call(channel)).expect("an answer");
    }
    let of_caller = here.block_on(connect(&addr)).expect("a connection");
    let waiting = here.spawn(call(of_caller));
    has_begun.recv_timeout(PATIENCE).expect("the call has begun");
    for channel in [of_member, of_scans] {
        let answer = here.block_on(async { tokio::time::timeout(PATIENCE, call(channel)).await });
        answer.expect("in time").expect("an answer");
    }
    assert!(!waiting.is_finished());
    end.send(()).expect("the call waits");
    here.block_on(waiting).expect("no panic").expect("an answer");
}

#[tokio::test]
async fn a_greeting_that_is_none_ends_the_connection() {
    let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.addr().to_string();
    let services = Services::alike(Routes::new(pd_server(Quick)));
    tokio::spawn(listener.serve(services, std::future::pending()));
    for greeting in ["RAFT/2\r\n", "SCAN/1\n\n", "SSSSSSSS"] {
        let mut stream = TcpStream::connect(&addr).await.expect("a connection");
        stream.write_all(greeting.as_bytes()).await.expect("it is sent");
        let mut answer = vec![];
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let _ = read.expect("in time");
        assert!(answer.is_empty(), "{greeting:?}: {answer:?}");
    }
}
