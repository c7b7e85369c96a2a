//! Why a TLS handshake can't come about whatever is tried: what is wrong with the certificate, in words, and what mends it.
//!
//! Pingora hands the TLS library's verdict on as text (pingora-core `protocols/tls/rustls/client.rs`, `boringssl_openssl/client.rs`), so it is
//! read as text, here and nowhere else. A text that is not known is no fault of this kind: such an attempt is tried again as any other.

use pingora_core::{Error, ErrorType};

use crate::domain::upstream::proxy::{Proxy, ProxyKind};
use crate::domain::upstream::{Endpoint, Upstream};

/// How much of what a certificate says about itself is repeated.
const SAID_CHARS: usize = 160;

/// What is wrong. Trying the same way again can't help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// An authority's certificate stands where a server's should.
    AuthorityAsServer,
    OtherName,
    UnknownAuthority,
    Expired,
    NotYetValid,
    /// It is no certificate for this use, or none that can be read.
    Unfit,
    /// What answers there speaks something else.
    NoTls,
}

/// What rustls says, and what OpenSSL does; the first that is found counts.
const SAID: &[(&str, TlsFault)] = &[
    ("CaUsedAsEndEntity", TlsFault::AuthorityAsServer),
    ("certificate not valid for name", TlsFault::OtherName),
    ("NotValidForName", TlsFault::OtherName),
    ("ostname mismatch", TlsFault::OtherName),
    ("IP address mismatch", TlsFault::OtherName),
    ("UnknownIssuer", TlsFault::UnknownAuthority),
    // An authority of the same name is trusted, and it is not that one.
    ("invalid peer certificate: BadSignature", TlsFault::UnknownAuthority),
    ("unable to get local issuer", TlsFault::UnknownAuthority),
    ("self-signed certificate", TlsFault::UnknownAuthority),
    ("self signed certificate", TlsFault::UnknownAuthority),
    ("certificate not valid yet", TlsFault::NotYetValid),
    ("NotValidYet", TlsFault::NotYetValid),
    ("is not yet valid", TlsFault::NotYetValid),
    ("certificate expired", TlsFault::Expired),
    ("certificate has expired", TlsFault::Expired),
    ("invalid peer certificate: Expired", TlsFault::Expired),
    ("invalid peer certificate", TlsFault::Unfit),
    ("certificate verify failed", TlsFault::Unfit),
    ("received corrupt message of type InvalidContentType", TlsFault::NoTls),
    ("wrong version number", TlsFault::NoTls),
];

impl TlsFault {
    /// The fault within Pingora's error; `None`: the error is another one, or one that may pass.
    pub fn of(error: &Error) -> Option<Self> {
        if !matches!(error.root_etype(), ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert) {
            return None;
        }
        let text = error.to_string();
        SAID.iter().find(|(said, _)| text.contains(said)).map(|(_, fault)| *fault)
    }

    /// What is wrong where, and what mends it: one sentence for the log. Names settings of config.json as they are written there.
    pub fn words(self, error: &Error, upstream: &Upstream, endpoint: &Endpoint, via: Option<&Proxy>) -> String {
        let by_name = &upstream.name;
        let (place, name, setting) = match via.map(|proxy| (proxy, &proxy.kind)) {
            Some((proxy, ProxyKind::Reverse { tls: Some(tls) })) => (
                format!("proxy {} of upstream {by_name} ({}:{})", proxy.id, proxy.host, proxy.port),
                &*tls.server_name,
                "the proxy's `tls.server_name`",
            ),
            Some((proxy, _)) => (
                format!("upstream {by_name} ({endpoint}, through proxy {})", proxy.id),
                endpoint.sni(),
                "the upstream's `base_url`",
            ),
            None => {
                let by = upstream.connect_to.map(|address| format!(" by {address}")).unwrap_or_default();
                (format!("upstream {by_name} ({endpoint}{by})"), endpoint.sni(), "the upstream's `base_url`")
            }
        };
        let text = error.to_string();
        match self {
            Self::AuthorityAsServer => format!(
                "the certificate of {place} is an authority's and no server's (CA:TRUE, as `openssl req -x509` makes by default): give the \
                 server a certificate by that authority, or make its own anew with `-addext basicConstraints=critical,CA:FALSE`"
            ),
            Self::OtherName => format!(
                "the certificate of {place} is not for the name {name}{}: put a name that it has into {setting}, or get one for this name",
                names(&text)
            ),
            Self::UnknownAuthority => match &upstream.ca_file {
                Some(file) => format!(
                    "the certificate of {place} is by no authority in {}: put its authority's PEM file there (the upstream's `ca_file`), or have \
                     the server send the certificates between it and that authority",
                    file.display()
                ),
                None => format!(
                    "the certificate of {place} is by no authority that this system trusts: name its authority's PEM file as the upstream's \
                     `ca_file`, or have the server send the certificates between it and its authority"
                ),
            },
            Self::Expired => format!(
                "the time of the certificate of {place}, or of one that it rests on, is over: the server needs a new one, unless this machine's \
                 clock is wrong"
            ),
            Self::NotYetValid => {
                format!(
                    "the certificate of {place} is not valid yet: the server needs another one, unless this machine's clock is wrong"
                )
            }
            Self::Unfit => format!(
                "the certificate of {place} can't be accepted ({}): the server needs another one",
                said(text.split("invalid peer certificate: ").last().unwrap_or_default())
            ),
            Self::NoTls => format!(
                "{place} does not speak TLS at that port: correct the port, or write http:// in `base_url` (of a proxy: leave out its `tls`)"
            ),
        }
    }
}

/// The names that a certificate has instead, where the library tells them.
fn names(text: &str) -> String {
    let told = text.split_once("is only valid for ").map(|(_, names)| said(names));
    told.map(|names| format!(", but for {names}")).unwrap_or_default()
}

/// The certificate's own words, without what Pingora adds behind, fit for a log line.
fn said(words: &str) -> String {
    let words = words.split(", SNI: ").next().unwrap_or_default();
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(text: &str) -> Box<Error> {
        let context =
            format!("TLS connect() failed:  TLSHandshakeFailure context: tls connect error cause: {text}, SNI: h.example");
        Error::explain(ErrorType::TLSHandshakeFailure, context)
    }

    #[test]
    fn a6_what_the_tls_libraries_say_is_a_fault_or_may_pass() {
        use TlsFault::*;
        let rows = [
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", Some(AuthorityAsServer)),
            (
                "invalid peer certificate: certificate not valid for name \"a\"; certificate is only valid for DnsName(\"b\")",
                Some(OtherName),
            ),
            ("invalid peer certificate: UnknownIssuer", Some(UnknownAuthority)),
            ("invalid peer certificate: certificate expired: verification time 1 (UNIX), but …", Some(Expired)),
            ("invalid peer certificate: certificate not valid yet: verification time 1 (UNIX), but …", Some(NotYetValid)),
            ("invalid peer certificate: BadSignature", Some(UnknownAuthority)),
            ("invalid peer certificate: BadEncoding", Some(Unfit)),
            ("invalid peer certificate: certificate does not allow extended key usage for …", Some(Unfit)),
            ("received corrupt message of type InvalidContentType", Some(NoTls)),
            ("certificate verify failed (certificate has expired)", Some(Expired)),
            ("certificate verify failed (Hostname mismatch)", Some(OtherName)),
            ("certificate verify failed (unable to get local issuer certificate)", Some(UnknownAuthority)),
            ("tls handshake eof", None),
            ("received fatal alert: InternalError", None),
            ("Connection reset by peer (os error 104)", None),
        ];
        for (text, fault) in rows {
            assert_eq!(TlsFault::of(&failed(text)), fault, "{text}");
            let wrapped = failed(text).more_context("while connecting");
            assert_eq!(TlsFault::of(&wrapped), fault, "{text}");
        }
        // The words alone, in an error of another kind, are nobody's verdict.
        assert_eq!(TlsFault::of(&Error::explain(ErrorType::ConnectError, "invalid peer certificate: UnknownIssuer")), None);
    }

    #[test]
    fn a6_a_certificates_own_words_are_cut_and_have_no_control_characters() {
        let long = format!("is only valid for DnsName(\"{}\")\r\nx, SNI: h", "b".repeat(4_000));
        let told = names(&long);
        assert!(told.chars().count() <= SAID_CHARS + 10 && !told.contains(char::is_control), "{told}");
        assert_eq!(names("is only valid for DnsName(\"b\")\u{1b}[31m, SNI: h"), ", but for DnsName(\"b\") [31m");
        assert_eq!(names("another text"), "");
    }
}
