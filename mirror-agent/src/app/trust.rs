//! Whether a shadow's certificate is trusted: as rustls judges, and if not, why and what to do, said to the user.
//!
//! The outcome of a copy is `failed{tls}` whatever the reason is; this is where the reason is known.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The judgement of rustls, told once while it stays the same.
#[derive(Debug)]
pub(super) struct Trust {
    judge: Arc<WebPkiServerVerifier>,
    told: Mutex<Option<String>>,
}

impl Trust {
    pub(super) fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> anyhow::Result<Self> {
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Self { judge, told: Mutex::new(None) })
    }

    fn tell(&self, line: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref() != Some(&line) {
            tracing::warn!("{line}");
            *told = Some(line);
        }
    }
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged =
            self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if let Err(error) = &judged {
            self.tell(format!("shadow {}: {}", server_name.to_str(), Hint(error)));
        }
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

/// What is wrong with a certificate and how to mend it, a line.
struct Hint<'e>(&'e Error);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error::InvalidCertificate(why) = self.0 else { return write!(f, "{}", self.0) };
        let mend = match why {
            CertificateError::UnknownIssuer => {
                "its issuer is not trusted here: give the issuer's certificate by --shadow-ca FILE"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name: give the right one by --shadow-server-name NAME"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired: renew it"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: look at the clocks of both hosts"
            }
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "it shows the certificate of an authority as its own, which no client has to take (`openssl req -x509` \
                 makes such a one unless told): make it again with -addext basicConstraints=critical,CA:FALSE, or let the \
                 authority sign one for the server"
            }
            _ => "its certificate cannot be used",
        };
        write!(f, "{mend} ({why})")
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, Error};

    use super::Hint;

    #[test]
    fn each_fault_of_a_certificate_comes_with_its_mend_on_one_line() {
        for (why, mend) in [
            (CertificateError::UnknownIssuer, "--shadow-ca"),
            (CertificateError::NotValidForName, "--shadow-server-name"),
            (CertificateError::Expired, "renew"),
            (CertificateError::NotValidYet, "clocks"),
            (CertificateError::BadEncoding, "cannot be used"),
        ] {
            let line = Hint(&Error::InvalidCertificate(why)).to_string();
            assert!(line.contains(mend) && !line.contains('\n'), "{line}");
        }
    }
}
