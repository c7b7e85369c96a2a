//! Moves bytes: the only room that knows Pingora's proxy.
//!
//! ```text
//!   client ──► front ──► gateway (the hooks, in the request's order) ──► upstream
//!                │         ├ admit    who is it, what does it ask for, where does it go      (request_filter)
//!                │         ├ accounting  the books: opened before the dispatch, closed before the last byte
//!                │         ├ rotation which key and proxy carry the next attempt             (between the attempts)
//!                │         ├ connect  the peer of one attempt                                (upstream_peer)
//!                │         ├ inject   our key in, the client's out                           (upstream_request_filter)
//!                │         ├ judge    what the answer's head means                           (upstream_response_filter)
//!                │         ├ hold     the first event, while another key could still answer    (response_body_filter)
//!                │         ├ deliver  the answer's bytes: guard, rewrite, meter              (response_body_filter)
//!                │         ├ fail     what is said when it went wrong                        (fail_to_proxy)
//!                │         └ finish   the access line, the counters                          (logging)
//!                ├ replay, exchange: the request's body, kept for every attempt
//!                └ tunnel: the connection through a forward proxy
//! ```
//!
//! Hooks are thin: each takes from the context, calls one function of its own file, puts back and translates the error.

pub mod admin;
mod admit;
mod body;
pub mod checks;
mod connect;
mod context;
mod deliver;
mod fail;
mod failure;
mod front;
mod gateway;
mod inject;
mod judge;
pub mod listen;
mod parts;
mod peer;
mod replay;
mod respond;
pub mod stoppable;
mod tell;
pub mod tunnel;
mod wire;

pub use crate::ops::host::ca::CaStore;
pub use front::Front;
pub use parts::Gateway;
