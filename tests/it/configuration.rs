//! The configuration (K, H6) as an operator meets it: through the running binary, its exit codes, its log and its reloads.

mod certificates;
mod local;
mod reload;
mod reloads_under_load;
mod shipped;
mod start;
