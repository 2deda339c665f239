//! Keys and certificates: what makes a cluster its own authority.
//!
//! Pure computation over PEM text, but for [`key_generator`]. Private keys come and go as [`Secret`] and are sealed by
//! whoever stores them.

pub mod authority;
pub mod ca_cache;
pub mod csr;
pub mod enrolment;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod identity;
pub mod key_generator;
pub mod listener;
pub mod material;
mod supported;
pub mod vendor_data;

use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, DnType, SerialNumber};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::base::clock::Timestamp;
use crate::base::id::Entropy;
use crate::base::secret::Secret;

/// Why a key or certificate cannot be had; the sentence is fit for whoever asked.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The request is not acceptable; the sentence says what to change.
    #[error("{0}")]
    Request(String),
    /// Our own material does not parse, or the library failed.
    #[error("the certificate authority is at fault: {0}")]
    Material(String),
}

impl From<rcgen::Error> for PkiError {
    fn from(e: rcgen::Error) -> Self {
        Self::Material(e.to_string())
    }
}

/// A certificate (or a bare public key) and its private key, both in PEM.
#[derive(Clone, Debug)]
pub struct KeyPairPem {
    pub pem: String,
    pub key: Secret<String>,
}

/// When the first certificate in `pem` ends; none if there is no certificate.
pub fn expiry(pem: &str) -> Option<Timestamp> {
    let der = csr::pem_body(pem, "CERTIFICATE")?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    Some(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
}

/// A day of grace for clocks that are behind ours.
const GRACE: Duration = Duration::from_secs(86_400);

/// Parameters with every default of the library replaced: those last from 1975 to 4096.
///
/// Whoever signs with them for another key sets `use_authority_key_identifier_extension`: strict
/// verifiers find the issuer by it (RFC 5280 §4.2.1.1).
fn parameters(
    name: DistinguishedName,
    validity: Duration,
    now: Timestamp,
    entropy: &Entropy,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    let begin = i64::try_from(GRACE.as_micros()).unwrap_or(0);
    params.not_before = Timestamp::from_micros(now.micros() - begin).to_offset();
    params.not_after = now.plus(validity).to_offset();
    let mut serial: [u8; 16] = entropy.bytes();
    // Positive and of full length, whatever was drawn.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

fn name(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}
