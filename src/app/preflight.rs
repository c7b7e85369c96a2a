//! What is looked at before Pingora starts, because Pingora would panic on it.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use crate::domain::settings::Settings;
use crate::ops::handover::Failure;
use crate::ops::store::StoreError;
use crate::ops::{ca, certificate};

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
    pub fn of_hand_over(failure: Failure) -> Self {
        match failure {
            Failure::UnderWay { .. } => Self::TryAgain(failure.to_string()),
            _ => Self::Unusable(failure.to_string()),
        }
    }
}

/// Proves that every listener can stand: its address is free (unless it is taken over) and its certificate fits its key.
pub fn check(settings: &Settings, takes_over: bool) -> Result<(), Obstacle> {
    let admin = settings.admin.addr.iter();
    for addr in settings.listeners.iter().map(|listener| &listener.addr).chain(admin) {
        if !takes_over {
            free(*addr)?;
        }
    }
    for tls in settings.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        certificate::check(&tls.cert, &tls.key).map_err(Obstacle::Unusable)?;
    }
    Ok(())
}

/// What the files that the settings name are not fit for, with the place of each in the configuration. `check` asks this without
/// starting anything.
pub fn unfit_files(settings: &Settings) -> Vec<(String, String)> {
    let listeners = settings.listeners.iter().enumerate();
    let mut unfit: Vec<_> = listeners
        .filter_map(|(nth, listener)| {
            let tls = listener.tls.as_ref()?;
            Some((format!("listen[{nth}].tls"), certificate::check(&tls.cert, &tls.key).err()?))
        })
        .collect();
    unfit.extend(ca::load(settings).err().map(|why| ("upstreams".to_owned(), why)));
    unfit
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
