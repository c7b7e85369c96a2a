//! A certificate authority of the test's own, and server certificates by it.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use trollbridge::provider_mock::Tls;

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// What a client must trust.
    pub ca_pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "trollbridge test authority");
        let key = KeyPair::generate().unwrap();
        let ca_pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), ca_pem }
    }

    /// A server certificate for these names and IP addresses; offers HTTP/2 when `http2` is set.
    pub fn server(&self, names: &[&str], http2: bool) -> Tls {
        self.sign(&Self::named(names), http2)
    }

    /// A certificate that may stand as an authority, for these names: what `openssl req -x509` makes by default.
    pub fn of_itself(names: &[&str], is_authority: bool) -> Tls {
        let mut params = Self::named(names);
        params.is_ca = if is_authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        let key = KeyPair::generate().unwrap();
        Tls { cert_pem: params.self_signed(&key).unwrap().pem(), key_pem: key.serialize_pem(), http2: true }
    }

    /// A server certificate whose time has not begun.
    pub fn not_yet(&self, names: &[&str]) -> Tls {
        let mut params = Self::named(names);
        (params.not_before, params.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1));
        self.sign(&params, true)
    }

    /// A server certificate whose time is over.
    pub fn expired(&self, names: &[&str]) -> Tls {
        let mut params = Self::named(names);
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        self.sign(&params, true)
    }

    fn named(names: &[&str]) -> CertificateParams {
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn sign(&self, params: &CertificateParams, http2: bool) -> Tls {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Tls { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), http2 }
    }
}

/// A client's TLS settings: trusts one authority, offers these protocols.
pub fn client_config(ca_pem: &str, alpn: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}
