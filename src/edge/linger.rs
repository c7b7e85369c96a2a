//! Closes a connection on which the client may still be sending: our side ends, then what comes is read and dropped within a bound.
//!
//! Unread bytes at the close would be answered with a TCP reset, which can overtake the answer.

use std::time::Duration;

use pingora_core::protocols::http::ServerSession;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::edge::outlet::close;

/// How long, and how much, a refused client may go on sending what nobody wants.
pub const LINGER: Duration = Duration::from_secs(5);
const MOST_DROPPED_BYTES: usize = 64 << 20;
const SCRATCH_BYTES: usize = 16 << 10;

/// Past the bound the connection is closed, with whatever the client still sends.
pub async fn linger(mut session: ServerSession) {
    close(&mut session).await;
    let ServerSession::H1(session) = session else { return };
    let mut stream = session.into_inner();
    let rest = async {
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut dropped = 0;
        while dropped < MOST_DROPPED_BYTES {
            match stream.read(&mut scratch).await {
                Ok(count @ 1..) => dropped += count,
                Ok(0) | Err(_) => return,
            }
        }
    };
    let _ = timeout(LINGER, rest).await;
}
