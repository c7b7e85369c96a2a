//! Walks one request from its arrival to its ledger entry, and decides what comes next. It does no I/O and asks no clock.
//!
//! ```text
//!              edge calls, with the moment              the stage is a value, and so is what comes next
//!   ┌──────────────────────────────────────────────────────────────────────────────────────────────────┐
//!   │ admit      who, what, where                Arrived ─► Reading ─► Routed ─► Admitted    or Local  │
//!   │   └ gate       what it is asked before it goes out, and what `explain` asks                      │
//!   │ books      opened with the dispatch                                           │                  │
//!   │ dispatch   out it goes                     Dispatch ◄─────────────────────────┘                  │
//!   │   ├ rotation   who carries the next attempt, or what the client is told when all rest            │
//!   │   ├ judge      a head ─► Next                    pass · again · replace · unusable               │
//!   │   ├ hold       a first event ─► Held             keep · release · again                          │
//!   │   ├ failure    a Failure ─► Then, LastWord       again · what the client is told                 │
//!   │   ├ answer/    bytes ─► bytes                    guard, rewrite, meter; a provider's error: ours │
//!   │   └ blame      what a key or a proxy is held to                                                  │
//!   │ books      closed by value, before the last byte                                                 │
//!   │ end        how it ended: the access line, the counters     Ended ─► ∎      Local ─► ∎            │
//!   └──────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Each stage exists only because the one before it succeeded (`stage`), so no step asks what is missing. A step takes its stage and the
//! moment, and gives what comes next; the edge does it. What it has to say in the log, it hands out as a `note`. Two APIs go with a
//! request: the one that the client *asked*, and the one that is *spoken* with its upstream; they are the same for today's upstreams.

pub mod admit;
pub mod answer;
pub mod blame;
pub mod books;
pub mod dispatch;
pub mod end;
pub mod failure;
pub mod gate;
pub mod hold;
pub mod judge;
pub mod note;
pub mod rotation;
pub mod stage;

#[cfg(test)]
pub mod testing;
