//! Reads certificate files before Pingora does: its listener panics on a file that it can't use, and would serve an expired one.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::config::file;
use crate::domain::client::date_time;

const DAY_S: i64 = 24 * 3_600;
/// Who renews by itself has done so by then.
const SOON_DAYS: i64 = 14;

/// Reads a listener's certificate and key, and proves that they can be used: both parse, the key is the certificate's, the time is not
/// over. The second value is a warning.
///
/// # Errors
///
/// One sentence that names the file.
pub fn read(cert: &Path, key: &Path, now_unix_s: u64) -> Result<(Arc<CertifiedKey>, Option<String>), String> {
    let of_cert = |why: String| format!("tls.cert {}: {why}", cert.display());
    let chain = read_chain(cert).map_err(of_cert)?;
    let unfit = |why: String| format!("tls.key {}: {why}", key.display());
    let text = file::read(key).map_err(|why| unfit(why.to_string()))?;
    let private = PrivateKeyDer::from_pem_slice(&text).map_err(|why| unfit(why.to_string()))?;
    // The first one is the listener's own. What follows may be out of date and still lead clients to an authority that they trust.
    let own = chain.first().ok_or_else(|| of_cert("no certificate in the file".to_owned()))?;
    let doubt = in_time(validity(own).map_err(of_cert)?, now_unix_s).map_err(of_cert)?.map(of_cert);
    let certified = CertifiedKey::from_der(chain, private, &ring::default_provider())
        .map_err(|why| format!("tls.cert {} does not work with tls.key {}: {why}", cert.display(), key.display()))?;
    Ok((Arc::new(certified), doubt))
}

/// Reads all certificates of a PEM file; at least one.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = file::read(path).map_err(|why| why.to_string())?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
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
        // Pingora parses them once more, with this parser, and panics where it can't (pingora-core `utils/tls/rustls.rs`).
        validity(certificate)?;
        roots.add(certificate.clone().into_owned()).map_err(|why| why.to_string())?;
    }
    Ok(())
}

/// The first and the last second, since the epoch.
fn validity(certificate: &CertificateDer<'_>) -> Result<(i64, i64), String> {
    let parsed =
        x509_parser::parse_x509_certificate(certificate).map_err(|why| format!("the certificate can't be read: {why}"))?;
    let validity = parsed.1.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// Refuses what is over; warns of what soon is, or has not begun: a clock may still be wrong just after the machine's start.
fn in_time((begin, end): (i64, i64), now_unix_s: u64) -> Result<Option<String>, String> {
    let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
    let day = |unix_s: i64| date_time(u64::try_from(unix_s).unwrap_or_default());
    if end < now {
        return Err(format!("the certificate expired at {}; put a new one there", day(end)));
    }
    let left_days = end.saturating_sub(now) / DAY_S;
    Ok(if begin > now {
        Some(format!("the certificate is not valid before {}", day(begin)))
    } else if left_days < SOON_DAYS {
        Some(format!("the certificate expires at {}, in {left_days} days; put a new one there and reload", day(end)))
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;

    /// Valid from 2020-01-01 to 2030-01-01.
    const BEGIN: u64 = 1_577_836_800;
    const END: u64 = 1_893_456_000;

    fn files() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2030, 1, 1));
        let key = KeyPair::generate().unwrap();
        std::fs::write(dir.path().join("cert"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(dir.path().join("key"), key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join("stranger"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
        std::fs::write(dir.path().join("empty"), "").unwrap();
        dir
    }

    fn doubt(now_unix_s: u64) -> Result<Option<String>, String> {
        let dir = files();
        read(&dir.path().join("cert"), &dir.path().join("key"), now_unix_s).map(|(_, doubt)| doubt)
    }

    #[test]
    fn a_certificate_that_is_over_is_refused_and_one_that_soon_is_is_warned_about() {
        const DAY: u64 = 86_400;
        assert_eq!(doubt(BEGIN), Ok(None));
        assert_eq!(doubt(END - 14 * DAY), Ok(None));
        let soon = doubt(END - 13 * DAY - 1).unwrap().unwrap();
        assert!(soon.contains("2030-01-01T00:00:00Z, in 13 days"), "{soon}");
        assert!(doubt(END).unwrap().unwrap().contains("in 0 days"));
        let over = doubt(END + 1).unwrap_err();
        assert!(over.contains("cert: the certificate expired at 2030-01-01T00:00:00Z"), "{over}");
        assert!(doubt(BEGIN - 1).unwrap().unwrap().contains("not valid before 2020-01-01"));
    }

    #[test]
    fn every_refusal_names_the_file() {
        let dir = files();
        let at = |name: &str| dir.path().join(name);
        for (cert, key, guilty) in [
            ("cert", "stranger", "stranger"),
            ("cert", "empty", "empty"),
            ("cert", "nowhere", "nowhere"),
            ("empty", "key", "empty"),
            ("nowhere", "key", "nowhere"),
            ("key", "key", "no certificate"),
        ] {
            let why = read(&at(cert), &at(key), BEGIN).unwrap_err();
            assert!(why.contains(guilty), "{cert} {key}: {why}");
        }
    }
}
