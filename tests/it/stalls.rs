//! One client that stalls, at any point of any protocol, with a key or without: it is ended by a total deadline, holds no request, and
//! another client notices nothing (A5). The deadlines are a second; what is asserted is the end, never the time.

mod before;
mod frames;
mod operators;
mod untaken;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::answers::{CHAT, ask_main};
use crate::support::setup::MAIN_KEY;
use crate::support::{Authority, Gateway, Mock, Setup};

/// Between two dripped bytes: far below every deadline.
const DRIP: Duration = Duration::from_millis(40);
/// No deadline of these tests is near it, and none that Pingora has by itself is below.
const LONG: Duration = Duration::from_secs(30);
const TLS_NAME: &str = "gateway.test";

struct Place {
    gateway: Gateway,
    main: Mock,
    ca_pem: String,
}

impl Place {
    /// A gateway with a TLS listener whose every deadline is a second.
    async fn impatient() -> Self {
        Self::with(json!({})).await
    }

    async fn with(more: Value) -> Self {
        let mut limits = json!({ "header_read_s": 1, "body_read_s": 1, "keepalive_s": 1, "write_stall_s": 1 });
        limits.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (main, authority) = (Mock::http().await.unwrap(), Authority::new());
        main.expect_key(MAIN_KEY);
        let setup = Setup::new().set("/log/format", json!("json")).set("/limits", limits).main(&main);
        let gateway = setup.tls_listener(&authority.server(&[TLS_NAME], true)).start().await;
        Self { gateway, main, ca_pem: authority.ca_pem }
    }

    /// Runs an attack while another client works; fails when that one is refused anything.
    fn unnoticed<'p, T: 'p>(&'p self, attack: impl Future<Output = T> + 'p) -> Pin<Box<dyn Future<Output = T> + 'p>> {
        let attack = Box::pin(attack);
        Box::pin(self.work_during(attack))
    }

    async fn work_during<T>(&self, attack: Pin<Box<dyn Future<Output = T> + '_>>) -> T {
        let over = Arc::new(AtomicBool::new(false));
        let victim = async {
            let mut served = 0;
            while !over.load(Ordering::Relaxed) || served == 0 {
                self.gateway.send(ask_main(CHAT, served % 2 == 1)).await.expect(200);
                served += 1;
            }
        };
        let attack = async {
            let outcome = attack.await;
            over.store(true, Ordering::Relaxed);
            outcome
        };
        let (outcome, ()) = tokio::join!(attack, victim);
        outcome
    }
}

/// Awaits an end that only a deadline of the gateway's brings.
async fn ended<T>(what: &str, end: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, end).await.unwrap_or_else(|_| panic!("never ended: {what}"))
}

/// Sends `first`, then `drop` again and again; returns what was said until the peer ended the connection.
async fn drip<S>(what: &str, stream: S, first: impl AsRef<[u8]>, drop: &[u8]) -> Vec<u8>
where
    S: AsyncRead + AsyncWrite,
{
    let (mut read, mut write) = tokio::io::split(stream);
    let dripping = async {
        let mut to_send = first.as_ref();
        while write.write_all(to_send).await.is_ok() && write.flush().await.is_ok() {
            tokio::time::sleep(DRIP).await;
            to_send = drop;
        }
        // The end is for the reader to see.
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    let reading = async {
        // A reset is an end as well, once everything before it was read.
        let _ = read.read_to_end(&mut said).await;
    };
    ended(what, async {
        tokio::select! {
            () = dripping => {}
            () = reading => {}
        }
    })
    .await;
    said
}
