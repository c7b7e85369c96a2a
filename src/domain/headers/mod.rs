//! Which headers cross the gateway, in both directions, and which one carries the client's key.
//!
//! Requests go by a deny-list: a provider's new header must reach it without a release of ours, so only what authenticates somebody,
//! what belongs to one connection and what tells of the machines in front of us stays here. Answers go by an allow-list: what a
//! provider says about its accounts and machines is nobody's business, so only named headers pass.
//!
//! Nothing here touches a request: the edge takes out and puts in what is said here.

pub mod credential;
pub mod framing;
pub mod own;
pub mod request;
pub mod response;

pub use credential::presented_key;
