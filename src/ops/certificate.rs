//! Looks at certificate files before Pingora does: its listener panics on a file that it can't use.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Proves that a listener can use the two files: both parse, and the key is the certificate's.
pub fn check(cert: &Path, key: &Path) -> Result<(), String> {
    let chain = read_chain(cert).map_err(|why| format!("tls.cert {}: {why}", cert.display()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|why| format!("tls.key {}: {why}", key.display()))?;
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map(|_| ())
        .map_err(|why| format!("tls.cert {} does not work with tls.key {}: {why}", cert.display(), key.display()))
}

/// Reads all certificates of a PEM file; at least one.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|why| why.to_string())?.collect();
    let chain = chain.map_err(|why| why.to_string())?;
    if chain.is_empty() {
        return Err("no certificate in the file".to_owned());
    }
    Ok(chain)
}

/// Proves that every certificate can stand as an authority.
pub fn check_authorities(certificates: &[CertificateDer<'_>]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone().into_owned()).map_err(|why| why.to_string())?;
    }
    Ok(())
}
