//! Moves bytes: the only room that knows Pingora's proxy. What comes next is decided in `relay`; here it is done.
//!
//! ```text
//!   client ──► front ──► gateway: the hooks, in the request's order ──► upstream
//!                │          ├ admit     the head in, the body read, our own answers out      request_filter
//!                │          │   └ body  reading within limits
//!                │          ├ connect   the peer of one attempt                              upstream_peer
//!                │          │   ├ peer    where a connection leads
//!                │          │   └ tunnel/ the connection through a forward proxy
//!                │          ├ inject    our key in, the client's out                         upstream_request_filter
//!                │          ├ judge     the head becomes the client's                        upstream_response_filter
//!                │          ├ deliver   each chunk through the relay                         response_body_filter
//!                │          ├ fail      another attempt, or the last word                    error_while_proxy, fail_to_proxy
//!                │          │   ├ pingora_errors  in the relay's words, read here and nowhere else
//!                │          │   └ tls_fault       what is wrong with a certificate, and what mends it
//!                │          └ context   the stage between two hooks; a hook out of turn fails shut
//!                ├ head, linger: the waits before and after a request; h2: a connection that requests share
//!                ├ outlet: writes, given up when nobody takes them; waits: what ends the others
//!                ├ replay, wire, tasks: the request's body kept for every attempt, the deadlines, the hold, the wait for the books
//!                └ respond: answers of ours, written; tell: notes of the relay, logged
//!   operators ─► admin          proxies ◄─ checks, everything ◄─ online (on demand)          all listeners: listen, stoppable          what every request borrows from: shared
//! ```
//!
//! A hook is thin: it takes the request's stage, calls one step, does what comes next.

pub mod admin;
mod admit;
mod body;
pub mod checks;
mod connect;
mod context;
mod deliver;
mod fail;
mod front;
mod gateway;
mod h2;
mod head;
mod inject;
mod judge;
mod linger;
pub mod listen;
pub mod online;
mod outlet;
mod peer;
mod pingora_errors;
mod replay;
mod respond;
mod shared;
pub mod stoppable;
mod tasks;
mod tell;
mod tls_fault;
pub mod tunnel;
mod unattended;
mod waits;
mod wire;

pub use front::Front;
pub use shared::Gateway;
