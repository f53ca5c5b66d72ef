//! TLS of the API: a certificate and its key from files, taken anew when they change, without a connection being closed.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;

use crate::auth::Reloading;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {why}; [ssl] {option} has to name a PEM file that this user may read")]
    Unreadable {
        /// Which option.
        option: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is no certificate, or no key, in a file.
    #[error("there is no {what} in {path}; [ssl] {option} has to name a PEM file with one")]
    Absent {
        /// Which option.
        option: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is not there.
        what: &'static str,
    },
    /// They do not go together, or cannot be used.
    #[error(
        "the certificate {cert} and the key {key} cannot be used: {why}; name a certificate, with its chain below it, and \
         the key that it was made with, in [ssl] cert_file and key_file"
    )]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        why: String,
    },
}

/// A certificate with its key, ready to be shown.
#[derive(Clone)]
pub struct Tls {
    current: Arc<Reloading<CertifiedKey>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl ResolvesServerCert for Tls {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.get())
    }
}

impl Tls {
    /// How long before its end a certificate is worth a word.
    pub const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// Reads both files (`[ssl] cert_file`, `key_file`), and again when one of them changes; a change that cannot be
    /// used is a warning, and the certificate before stays.
    ///
    /// # Errors
    /// A file cannot be read, holds no certificate or key, or they do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<Tls, TlsError> {
        let files = vec![cert.to_owned(), key.to_owned()];
        let (cert, key) = (cert.to_owned(), key.to_owned());
        let current = Reloading::start("the certificate of the API", files, move || certified(&cert, &key))?;
        Ok(Tls { current })
    }

    /// When the certificate ends; none if it does not say so in a form that is understood.
    #[must_use]
    pub fn not_after(&self) -> Option<OffsetDateTime> {
        not_after(&self.current.get())
    }

    /// What a server is bound with: TLS 1.2 and 1.3.
    pub(crate) fn server_config(&self) -> ServerConfig {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for TLS 1.2 and 1.3");
        builder.with_no_client_auth().with_cert_resolver(Arc::new(self.clone()))
    }
}

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}

fn certified(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let read = |option, path: &Path| {
        std::fs::read(path).map_err(|error| TlsError::Unreadable {
            option,
            path: path.to_owned(),
            why: error.to_string(),
        })
    };
    let unusable = |why: String| TlsError::Unusable { cert: cert.to_owned(), key: key.to_owned(), why };
    let chain = CertificateDer::pem_slice_iter(&read("cert_file", cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Absent { option: "cert_file", path: cert.to_owned(), what: "certificate" });
    }
    let private = PrivateKeyDer::from_pem_slice(&read("key_file", key)?).map_err(|error| {
        if matches!(error, rustls::pki_types::pem::Error::NoItemsFound) {
            return TlsError::Absent { option: "key_file", path: key.to_owned(), what: "private key" };
        }
        // its own words may repeat a line of the file
        unusable("the key is damaged PEM".to_owned())
    })?;
    let both =
        CertifiedKey::from_der(chain, private, &provider()).map_err(|error| unusable(error.to_string()))?;
    both.keys_match().map_err(|error| unusable(error.to_string()))?;
    if let Some(doubt) = ends(cert, &both, OffsetDateTime::now_utc()) {
        tracing::warn!("{doubt}");
    }
    Ok(both)
}

fn not_after(pair: &CertifiedKey) -> Option<OffsetDateTime> {
    let (_, parsed) = x509_parser::parse_x509_certificate(pair.end_entity_cert().ok()?).ok()?;
    Some(parsed.validity().not_after.to_datetime())
}

/// What there is to say about the end of a certificate: nothing, if it is far.
fn ends(cert: &Path, pair: &CertifiedKey, now: OffsetDateTime) -> Option<String> {
    let end = not_after(pair)?;
    let cert = cert.display();
    if end < now {
        return Some(format!(
            "the certificate {cert} expired on {}: clients refuse it; put a new one in its place",
            end.date()
        ));
    }
    (end - now <= Tls::EXPIRES_SOON).then(|| {
        format!("the certificate {cert} expires on {}; put a new one in its place before that", end.date())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn the_end_of_a_certificate_is_told_when_it_is_near_or_past() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
        let end = time::macros::datetime!(2031-05-06 07:08:09 UTC);
        let mut wanted = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        wanted.not_after = end;
        let signing = rcgen::KeyPair::generate().expect("a key");
        let made = wanted.self_signed(&signing).expect("a certificate");
        std::fs::write(&cert, made.pem()).expect("it is written");
        std::fs::write(&key, signing.serialize_pem()).expect("it is written");
        let tls = Tls::load(&cert, &key).expect("a pair");
        assert_eq!(tls.not_after(), Some(end));
        let said = |days: i64| ends(&cert, &tls.current.get(), end - time::Duration::days(days));
        assert_eq!(said(31), None);
        assert!(said(29).expect("it is near").contains("expires on 2031-05-06"));
        assert!(said(-1).expect("it is past").contains("expired on 2031-05-06"));
    }

    #[test]
    fn what_cannot_be_used_names_the_option_and_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("it is written");
            path
        };
        let ((cert, key), (_, other)) = (pair(), pair());
        let (cert, key) = (put("cert", &cert), put("key", &key));
        let (other, empty) = (put("other", &other), put("empty", "nothing here\n"));
        Tls::load(&cert, &key).expect("a pair");
        let gone = folder.path().join("gone");
        for (cert, key, said) in [
            (&gone, &key, "[ssl] cert_file"),
            (&cert, &gone, "[ssl] key_file"),
            (&empty, &key, "no certificate in"),
            (&cert, &empty, "no private key in"),
            (&cert, &other, "cannot be used"),
        ] {
            let error = Tls::load(cert, key).expect_err(said).to_string();
            assert!(error.contains(said) && error.contains("[ssl]"), "{error}");
        }
    }
}
