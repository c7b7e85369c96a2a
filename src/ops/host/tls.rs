//! What the settings name and files hold: the listeners' certificates with their keys, and the upstreams' authorities.
//!
//! A listener asks its [`Served`] at each handshake, so that a reload changes the certificate of the next connection and of no open one.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::domain::settings::Settings;
use crate::ops::host::ca::{self, CaStore};
use crate::ops::host::certificate;

/// A place in the configuration, and what is wrong or doubtful with the files it names.
pub type Unfit = (String, String);

/// All files of some settings, read and proven.
#[derive(Debug)]
pub struct Material {
    pub cas: CaStore,
    /// Of the listeners with TLS, in the settings' order.
    pub certificates: Vec<(SocketAddr, Arc<CertifiedKey>)>,
    /// What works and will not for long.
    pub doubts: Vec<Unfit>,
}

impl Material {
    /// # Errors
    ///
    /// Every file that is not fit for its place: unreadable, a key that is another certificate's, an expired certificate.
    pub fn read(settings: &Settings, now_unix_s: u64) -> Result<Self, Vec<Unfit>> {
        let (mut certificates, mut doubts, mut unfit) = (Vec::new(), Vec::new(), Vec::new());
        for (nth, listener) in settings.listeners.iter().enumerate() {
            let Some(files) = &listener.tls else { continue };
            let place = format!("listen[{nth}].tls");
            match certificate::read(&files.cert, &files.key, now_unix_s) {
                Ok((certified, doubt)) => {
                    certificates.push((listener.addr, certified));
                    doubts.extend(doubt.map(|doubt| (place, doubt)));
                }
                Err(why) => unfit.push((place, why)),
            }
        }
        match ca::load(settings) {
            Ok(cas) if unfit.is_empty() => Ok(Self { cas, certificates, doubts }),
            Ok(_) => Err(unfit),
            Err(why) => {
                unfit.push(("upstreams".to_owned(), why));
                Err(unfit)
            }
        }
    }
}

/// The certificates that the listeners of this process prove themselves with.
#[derive(Debug)]
pub struct Certificates(Vec<(SocketAddr, Arc<Served>)>);

/// One listener's certificate as of now.
#[derive(Debug)]
pub struct Served(ArcSwap<CertifiedKey>);

impl Certificates {
    /// Takes those that [`Material::read`] found, in its order.
    pub fn new(read: Vec<(SocketAddr, Arc<CertifiedKey>)>) -> Self {
        Self(read.into_iter().map(|(addr, certified)| (addr, Arc::new(Served(ArcSwap::new(certified))))).collect())
    }

    /// In the order of the settings' listeners with TLS.
    pub fn in_order(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.0.iter().map(|(_, served)| served)
    }

    /// Puts fresh ones into force; a listener that the new file does not name keeps what it has.
    pub fn swap(&self, mut fresh: Vec<(SocketAddr, Arc<CertifiedKey>)>) {
        for (addr, served) in &self.0 {
            // Port 0 may be there more than once: the first one is the first one.
            if let Some(at) = fresh.iter().position(|(other, _)| other == addr) {
                served.0.store(fresh.remove(at).1);
            }
        }
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}
