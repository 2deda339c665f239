//! The API's own certificate: read from its files at the start and whenever that is asked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::watch;
use tracing::warn;

use super::StartError;
use crate::base::clock::Timestamp;
use crate::base::http::server::TlsSettings;
use crate::base::http::tls::{self, TlsError};
use crate::config::Tls;
use crate::pki;

/// Long enough to have another one made.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// What the files hold, checked and not yet in use.
pub struct Presented {
    settings: ServerConfig,
    expiry: Option<Timestamp>,
}

/// What the listener presents; new connections meet the newest.
pub struct OwnCertificate {
    settings: watch::Sender<Arc<ServerConfig>>,
    expiry: Mutex<Option<Timestamp>>,
}

impl Presented {
    /// None when the API speaks plain HTTP.
    pub fn read(files: &Tls, now: Timestamp) -> Result<Option<Self>, StartError> {
        let (Some(cert), Some(key)) = (&files.cert, &files.key) else { return Ok(None) };
        let settings = tls::server_config_from_files(cert, key).map_err(StartError::ApiTls)?;
        let text = std::fs::read_to_string(cert).map_err(|e| {
            StartError::ApiTls(TlsError::File { path: cert.clone(), reason: e.to_string() })
        })?;
        let expiry = pki::expiry(&text);
        if let Some(end) = expiry.filter(|end| *end < now.plus(SOON)) {
            warn!(certificate = %cert.display(), %end, "the API's certificate ends soon, or has");
        }
        Ok(Some(Self { settings, expiry }))
    }
}

impl OwnCertificate {
    pub fn new(presented: Presented) -> Self {
        let settings = watch::Sender::new(Arc::new(presented.settings));
        Self { settings, expiry: Mutex::new(presented.expiry) }
    }

    pub fn settings(&self) -> TlsSettings {
        self.settings.subscribe()
    }

    pub fn replace(&self, presented: Presented) {
        self.settings.send_replace(Arc::new(presented.settings));
        *self.expiry.lock().unwrap_or_else(PoisonError::into_inner) = presented.expiry;
    }

    pub fn expiry(&self) -> Option<Timestamp> {
        *self.expiry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
