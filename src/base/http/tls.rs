//! TLS settings for both directions, on one crypto provider.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("TLS settings are not usable: {0}")]
    Settings(String),
}

/// Whom a client believes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trust {
    /// PEM bundles trusted beside the system's roots.
    pub ca_files: Vec<PathBuf>,
    /// Accept any certificate; for labs whose operator asked for it.
    pub insecure: bool,
}

/// Makes this crate's provider the process's, once; later calls change nothing.
pub fn install_provider() {
    // A second call meets the provider that the first one installed: the same.
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Client settings that trust the system's roots and `trust`'s files.
pub fn client_config(trust: &Trust) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    for path in &trust.ca_files {
        for certificate in read_certificates(path)? {
            roots.add(certificate).map_err(|e| file(path, e))?;
        }
    }
    let mut config = with_roots(roots)?;
    if trust.insecure {
        config.dangerous().set_certificate_verifier(Arc::new(TrustAnyone(provider())));
    }
    Ok(config)
}

/// Client settings that trust nothing but the certificates in `pem`.
pub fn pinned_client_config(pem: &str) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|e| TlsError::Settings(e.to_string()))?;
        roots.add(certificate).map_err(|e| TlsError::Settings(e.to_string()))?;
    }
    with_roots(roots)
}

fn with_roots(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::Settings(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Server settings from PEM text: a certificate chain, leaf first, and its key.
pub fn server_config(chain_pem: &str, key_pem: &str) -> Result<ServerConfig, TlsError> {
    let settings = |e: &dyn std::fmt::Display| TlsError::Settings(e.to_string());
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| settings(&e))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| settings(&e))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| settings(&e))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| settings(&e))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Server settings from two PEM files.
pub fn server_config_from_files(chain: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| file(path, e));
    server_config(&read(chain)?, &read(key)?)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| file(path, e))?;
    if found.is_empty() {
        return Err(file(path, "holds no PEM certificate"));
    }
    Ok(found)
}

fn file(path: &Path, reason: impl std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), reason: reason.to_string() }
}

/// Checks signatures but not who signed: the `insecure` option.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
