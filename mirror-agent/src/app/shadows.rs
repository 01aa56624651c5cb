//! TLS towards the shadows, made once.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::trust::Trust;
use crate::config::{Copies, Scheme};

/// TLS towards one shadow.
pub(super) type Tls = (Arc<ClientConfig>, ServerName<'static>);

/// TLS for every shadow that wants it, in order.
pub(super) fn tls(copies: &Copies) -> anyhow::Result<Vec<Option<Tls>>> {
    if copies.shadows.iter().all(|shadow| shadow.scheme == Scheme::Http) {
        return Ok(vec![None; copies.shadows.len()]);
    }
    let client = Arc::new(client_config(copies.shadow_ca.as_deref())?);
    copies
        .shadows
        .iter()
        .map(|shadow| {
            let Some(name) = shadow.server_name.as_ref().filter(|_| shadow.scheme == Scheme::Https) else {
                return Ok(None);
            };
            let name = ServerName::try_from(name.clone())
                .with_context(|| format!("--shadow {}: {name} is no server name for TLS", shadow.url))?;
            Ok(Some((client.clone(), name)))
        })
        .collect()
}

fn client_config(ca: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca {
        let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .with_context(|| format!("--shadow-ca {}: not a file of PEM certificates", path.display()))?;
        if certificates.is_empty() {
            bail!("--shadow-ca {}: no certificate in it; name a PEM file with at least one", path.display());
        }
        for certificate in certificates {
            roots.add(certificate).with_context(|| {
                format!("--shadow-ca {}: a certificate cannot be used as a root", path.display())
            })?;
        }
    }
    if roots.is_empty() {
        bail!(
            "no trusted certificates on this system for https shadows; install ca-certificates or give --shadow-ca FILE"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("TLS settings")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trust::new(roots, provider)?))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
