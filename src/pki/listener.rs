//! The identity of the bootstrap listener: a small CA that nodes pin, and a certificate for
//! the address they were told.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};

use super::{KeyPairPem, PkiError, name, parameters};
use crate::base::clock::Timestamp;
use crate::base::id::Entropy;
use crate::base::secret::Secret;

/// Longer than any cluster lives: nodes hold the CA in their user data.
const YEARS_30: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Draws the CA; kept for good.
pub fn authority(now: Timestamp, entropy: &Entropy) -> Result<KeyPairPem, PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = parameters(name("magnumd bootstrap", None), YEARS_30, now, entropy);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key)?.pem();
    Ok(KeyPairPem { pem, key: Secret::new(key.serialize_pem()) })
}

/// A server certificate for `host`, an address or a DNS name; drawn anew at every start.
pub fn certificate(
    authority: &KeyPairPem,
    host: &str,
    now: Timestamp,
    entropy: &Entropy,
) -> Result<KeyPairPem, PkiError> {
    let issuer =
        Issuer::from_ca_cert_pem(&authority.pem, KeyPair::from_pem(authority.key.expose())?)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = parameters(name("magnumd", None), YEARS_30, now, entropy);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let host = host.trim_start_matches('[').trim_end_matches(']');
    params.subject_alt_names.push(match host.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(host.try_into().map_err(|_| {
            PkiError::Material(format!("'{host}' cannot be a name in a certificate"))
        })?),
    });
    let pem = params.signed_by(&key, &issuer)?.pem();
    Ok(KeyPairPem { pem, key: Secret::new(key.serialize_pem()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::http::tls;

    #[test]
    fn nodes_that_pin_the_authority_accept_the_certificate() {
        let (now, entropy) = (Timestamp::parse("2026-08-01T00:00:00Z").unwrap(), Entropy::new());
        let ca = authority(now, &entropy).unwrap();
        for host in ["192.0.2.1", "[2001:db8::1]", "magnumd.example"] {
            let leaf = certificate(&ca, host, now, &entropy).unwrap();
            tls::server_config(&leaf.pem, leaf.key.expose()).unwrap();
        }
        tls::pinned_client_config(&ca.pem).unwrap();
        assert!(certificate(&ca, "bad name\u{e9}", now, &entropy).is_err());
    }
}
