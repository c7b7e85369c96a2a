//! Bills, prices and money: what is owed for an answer (`bill`), what a model's tokens cost (`price`), in integers from the configuration's text to the bill.
//!
//! Nothing here is a float. A price is read as an exact decimal, a cost is rounded once, and every sum saturates.

pub mod bill;
pub mod condition;
mod decimal;
pub mod line;
mod money;
mod policy;
pub mod price;
mod rates;

pub use decimal::Decimal;
pub use line::exact_usd;
pub use money::{NanoUsd, parse_difference, signed_usd};
pub use policy::{Billing, MostTokens, OnLoss};
pub use price::{Conditions, Price};
pub use rates::Rates;
