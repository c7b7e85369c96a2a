//! The two files that commands read where nobody names others.

/// The gateway's configuration.
pub const CONFIG: &str = "config.json";
/// Pingora's own settings.
pub const CONF: &str = "conf/pingora.yaml";
