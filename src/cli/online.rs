//! The second half of `trollbridge check --online`: a line for each way to each upstream, and what it means for the exit code.

use std::io::{self, Write};
use std::path::Path;

use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use serde_json::{Value, json};

use crate::cli::exit::{EX_OK, EX_TEMPFAIL, EX_USAGE, Failure};
use crate::cli::server_conf;
use crate::domain::settings::Settings;
use crate::edge::online::{self, Looked, Trouble};
use crate::ops::host::ca;

/// How every way was found.
pub struct Online(Vec<Looked>);

/// Connects to everything; `conf`: Pingora's settings.
///
/// # Errors
///
/// Nothing could be tried.
pub fn look(settings: &Settings, conf: &Path) -> Result<Online, Failure> {
    let cas = ca::load(settings).map_err(Failure::usage)?;
    let conf = server_conf::load(conf, &settings.state_dir).map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::software(format!("no runtime: {error}")))?;
    // Within the runtime: the connector has background work.
    let looked = runtime.block_on(async {
        let connector = TransportConnector::new(Some(ConnectorOptions::from_server_conf(&conf)));
        online::look(settings, cas, connector).await
    });
    // A lookup that the system does not end must not hold the command.
    runtime.shutdown_background();
    Ok(Online(looked))
}

impl Online {
    /// 64 where something is to be mended, else 75 where something can't be reached, else 0.
    pub fn exit_code(&self) -> u8 {
        let has = |fits: fn(&Trouble) -> bool| self.0.iter().filter_map(|looked| looked.found.as_ref().err()).any(fits);
        if has(|trouble| matches!(trouble, Trouble::Wrong(_))) {
            EX_USAGE
        } else if has(|trouble| matches!(trouble, Trouble::Unreachable(_))) {
            EX_TEMPFAIL
        } else {
            EX_OK
        }
    }

    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for looked in &self.0 {
            let Looked { upstream, proxy, endpoint, took, found } = looked;
            let by = proxy.as_ref().map(|id| format!(" through proxy {id}")).unwrap_or_default();
            match found {
                Ok(()) => writeln!(out, "online {upstream}: {endpoint}{by}: reached in {} ms", took.as_millis())?,
                Err(Trouble::Unreachable(why)) => writeln!(out, "online {upstream}: {endpoint}{by}: NOT REACHED: {why}")?,
                Err(Trouble::Wrong(why)) => writeln!(out, "online {upstream}: {endpoint}{by}: WRONG: {why}")?,
            }
        }
        let good = self.0.iter().filter(|looked| looked.found.is_ok()).count();
        writeln!(out, "online: {good} of {} reached", self.0.len())
    }

    pub fn as_json(&self) -> Value {
        let shown = self.0.iter().map(|Looked { upstream, proxy, endpoint, took, found }| {
            let (state, detail) = match found {
                Ok(()) => ("reached", None),
                Err(Trouble::Unreachable(why)) => ("unreachable", Some(why)),
                Err(Trouble::Wrong(why)) => ("wrong", Some(why)),
            };
            let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            json!({ "upstream": &**upstream, "proxy": proxy.as_deref(), "endpoint": endpoint, "state": state, "detail": detail, "took_ms": took_ms })
        });
        shown.collect()
    }
}
