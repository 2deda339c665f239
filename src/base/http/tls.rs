//! TLS settings for both directions, on one crypto provider.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};

use crate::base::secret::Secret;

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
    with_roots(pinned(pem)?)
}

/// How many authorities `pem` holds; an error if it holds none, or one that cannot be read.
pub fn authorities(pem: &str) -> Result<usize, TlsError> {
    match pinned(pem)?.len() {
        0 => Err(settings("it holds no PEM certificate")),
        count => Ok(count),
    }
}

/// Client settings that trust nothing but the certificates in `pem`, and show whoever asks a
/// certificate: a chain, leaf first, and its key.
pub fn mutual_client_config(
    pem: &str,
    chain_pem: &str,
    key_pem: &Secret<String>,
) -> Result<ClientConfig, TlsError> {
    let roots = pinned(pem)?;
    if roots.is_empty() {
        return Err(settings("there is no PEM certificate to trust"));
    }
    let (chain, key) = identity(chain_pem, key_pem.expose())?;
    believing(roots)?.with_client_auth_cert(chain, key).map_err(settings)
}

fn with_roots(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    Ok(believing(roots)?.with_no_client_auth())
}

fn believing(
    roots: RootCertStore,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(settings)?
        .with_root_certificates(roots))
}

fn pinned(pem: &str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(settings)?).map_err(settings)?;
    }
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(chain_pem: &str, key_pem: &str) -> Result<Identity, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(settings)?;
    Ok((chain, PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(settings)?))
}

/// Server settings from PEM text: a certificate chain, leaf first, and its key.
pub fn server_config(chain_pem: &str, key_pem: &str) -> Result<ServerConfig, TlsError> {
    server_config_for(chain_pem, key_pem, WebPkiClientVerifier::no_client_auth())
}

/// Accepts clients that show a certificate of those in `pem`, and nobody else.
pub fn client_verifier(pem: &str) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(pinned(pem)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider()).build().map_err(settings)
}

/// Accepts clients that show no certificate too; of those that show one, only of those in `pem`.
pub fn optional_client_verifier(pem: &str) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(pinned(pem)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(settings)
}

/// Like [`server_config`], for clients that `clients` accepts.
pub fn server_config_for(
    chain_pem: &str,
    key_pem: &str,
    clients: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, TlsError> {
    let (chain, key) = identity(chain_pem, key_pem)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(settings)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(settings)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn settings(reason: impl std::fmt::Display) -> TlsError {
    TlsError::Settings(reason.to_string())
}

/// Server settings from two PEM files.
pub fn server_config_from_files(chain: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| file(path, e));
    server_config(&read(chain)?, &read(key)?).map_err(|e| match e {
        TlsError::Settings(reason) => {
            file(chain, format_args!("with the key {}: {reason}", key.display()))
        }
        e => e,
    })
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::Method;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::base::http::client::{HttpClient, HttpError, Outgoing};
    use crate::base::http::server::{HttpListener, Limits, Request, Response, Service, empty};

    struct Yes;

    impl Service for Yes {
        async fn handle(&self, _: Request) -> Response {
            empty(hyper::StatusCode::NO_CONTENT)
        }
    }

    async fn ask(config: ClientConfig, url: &str) -> Result<u16, HttpError> {
        let http = HttpClient::new(config, Duration::from_secs(5));
        Ok(http.send(Outgoing::new(Method::GET, url)).await?.status.as_u16())
    }

    #[tokio::test]
    async fn a_private_authority_is_believed_when_named_and_anyone_when_insecure() {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let (_held, settings) = watch::channel(Arc::new(server_config(&pem, &key).unwrap()));
        let listener =
            HttpListener::bind(([127, 0, 0, 1], 0).into(), Limits::default()).await.unwrap();
        let url = format!("https://{}/", listener.address().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(listener.with_tls(settings).serve(Arc::new(Yes), stop.clone()));

        let refused = ask(client_config(&Trust::default()).unwrap(), &url).await.unwrap_err();
        assert!(matches!(refused, HttpError::Connect { .. }), "{refused}");
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("ca.pem");
        std::fs::write(&file, &pem).unwrap();
        let named = Trust { ca_files: vec![file.clone()], insecure: false };
        assert_eq!(ask(client_config(&named).unwrap(), &url).await.unwrap(), 204);
        let anyone = Trust { ca_files: Vec::new(), insecure: true };
        assert_eq!(ask(client_config(&anyone).unwrap(), &url).await.unwrap(), 204);
        assert_eq!(ask(pinned_client_config(&pem).unwrap(), &url).await.unwrap(), 204);

        std::fs::write(&file, "no certificate").unwrap();
        let empty = client_config(&named).unwrap_err().to_string();
        assert!(empty.contains("ca.pem") && empty.contains("no PEM certificate"), "{empty}");
        stop.cancel();
    }
}
