//! What is looked at before Pingora starts, because Pingora would panic on it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::domain::settings::Settings;
use crate::ops::admin::control;
use crate::ops::books::store::StoreError;
use crate::ops::host::handover::HandoverFailure;
use crate::ops::host::tls::{Material, Unfit};
use crate::ops::host::{clock, pid_file};

/// Why the gateway does not start; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    #[error(
        "{addr} is in use by another process. Stop it, choose another address, or take a running gateway's place with `trollbridge upgrade`."
    )]
    BusyAddress { addr: SocketAddr },
    #[error("{0}")]
    TryAgain(String),
    #[error("{0}")]
    Unusable(String),
}

impl Obstacle {
    /// A store that is locked may be free soon.
    pub fn of_store(error: StoreError) -> Self {
        match error {
            StoreError::Busy { .. } => Self::TryAgain(error.to_string()),
            _ => Self::Unusable(error.to_string()),
        }
    }

    /// An upgrade that is under way is over soon.
    pub fn of_hand_over(failure: HandoverFailure) -> Self {
        match failure {
            HandoverFailure::UnderWay { .. } => Self::TryAgain(failure.to_string()),
            _ => Self::Unusable(failure.to_string()),
        }
    }
}

/// Proves that every listener can stand: its address is free, unless it is taken over.
pub fn check(settings: &Settings, takes_over: bool) -> Result<(), Obstacle> {
    let admin = settings.admin.addr.iter();
    for addr in settings.listeners.iter().map(|listener| &listener.addr).chain(admin) {
        if !takes_over {
            free(*addr)?;
        }
    }
    Ok(())
}

/// Proves that no gateway runs by this pid file: at its end this one would take it away.
///
/// # Errors
///
/// One answers at the socket beside it.
pub fn nobody_has(pid_file: &Path) -> Result<(), Obstacle> {
    match (UnixStream::connect(control::path(pid_file)), pid_file::read(pid_file)) {
        (Ok(_), Some(pid)) => Err(Obstacle::TryAgain(format!(
            "{} is that of a gateway that runs (process {pid}). Stop it, choose another pid_file, or take its place with `trollbridge upgrade`.",
            pid_file.display()
        ))),
        _ => Ok(()),
    }
}

/// Reads the files that the settings name, and warns of those that will not be good for long.
pub fn read_files(settings: &Settings) -> Result<Material, Obstacle> {
    let material = Material::read(settings, now_unix_s()).map_err(|unfit| {
        let lines: Vec<_> = unfit.iter().map(|(place, why)| format!("{place}: {why}")).collect();
        Obstacle::Unusable(lines.join("\n"))
    })?;
    for (place, doubt) in &material.doubts {
        log::warn!("{place}: {doubt}");
    }
    Ok(material)
}

/// What the files that the settings name are not fit for, else what is doubtful about them, with the place of each in the configuration.
/// `check` asks this without starting anything.
pub fn look_at_files(settings: &Settings) -> Result<Vec<Unfit>, Vec<Unfit>> {
    Material::read(settings, now_unix_s()).map(|material| material.doubts)
}

fn now_unix_s() -> u64 {
    clock::now_unix_ms() / 1000
}

/// Whether nobody listens there.
///
/// # Errors
///
/// Somebody does, or nobody may.
pub fn free(addr: SocketAddr) -> Result<(), Obstacle> {
    match TcpListener::bind(addr) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => Err(Obstacle::BusyAddress { addr }),
        Err(error) => Err(Obstacle::Unusable(format!("{addr} can't be listened on: {error}"))),
    }
}
