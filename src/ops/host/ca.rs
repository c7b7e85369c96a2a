//! Certificate authorities of upstreams that have their own, read from PEM files in the form Pingora's connector takes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pingora_core::protocols::tls::CaType;

use crate::domain::settings::Settings;

/// By file.
pub type CaStore = HashMap<PathBuf, Arc<CaType>>;

/// Reads every authority that the settings name; says which file is at fault.
pub fn load(settings: &Settings) -> Result<CaStore, String> {
    let mut store = CaStore::new();
    for path in settings.upstreams.iter().filter_map(|upstream| upstream.ca_file.as_ref()) {
        if !store.contains_key(path) {
            let ca = read(path).map_err(|why| format!("ca_file {}: {why}", path.display()))?;
            store.insert(path.clone(), ca);
        }
    }
    Ok(store)
}

/// Reads one file of authorities; says what is wrong with it.
#[cfg(feature = "rustls")]
pub fn read(path: &Path) -> Result<Arc<CaType>, String> {
    use pingora_core::utils::tls::{WrappedX509, parse_x509};

    use crate::ops::host::certificate;

    let certificates = certificate::read_chain(path)?;
    certificate::check_authorities(&certificates)?;
    let wrapped: Vec<WrappedX509> = certificates.into_iter().map(|der| WrappedX509::new(der.to_vec(), parse_x509)).collect();
    Ok(Arc::from(wrapped))
}

/// Reads one file of authorities; says what is wrong with it.
#[cfg(not(feature = "rustls"))]
pub fn read(path: &Path) -> Result<Arc<CaType>, String> {
    let pem = crate::config::file::read(path).map_err(|error| error.to_string())?;
    let certificates = pingora_core::tls::x509::X509::stack_from_pem(&pem).map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("no certificate in the file".to_owned());
    }
    Ok(Arc::new(certificates.into_boxed_slice()))
}
