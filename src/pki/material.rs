//! All keys of a new cluster, drawn side by side.

use std::time::Duration;

use rcgen::{
    BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_RSA_SHA256, RsaKeySize,
};

use super::{KeyPairPem, PkiError, name, parameters};
use crate::base::clock::Timestamp;
use crate::base::id::Entropy;
use crate::base::secret::Secret;
use crate::model::certificate::CertificateKind;

/// Draws the three CAs, the administrator's client certificate and the service-account key
/// pair of a cluster called `cluster`. RSA keys of `rsa_bits`: 2048, 3072 or 4096.
pub fn draw(
    cluster: &str,
    rsa_bits: usize,
    validity: Duration,
    now: Timestamp,
    entropy: &Entropy,
) -> Result<Vec<(CertificateKind, KeyPairPem)>, PkiError> {
    let size = key_size(rsa_bits)?;
    let keys: Vec<KeyPair> = std::thread::scope(|scope| {
        let drawing: Vec<_> = CertificateKind::ALL
            .iter()
            .map(|_| scope.spawn(move || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size)))
            .collect();
        drawing
            .into_iter()
            .map(|thread| thread.join().map_err(|_| rcgen::Error::KeyGenerationUnavailable)?)
            .collect::<Result<_, rcgen::Error>>()
    })?;
    let authority = |key: &KeyPair| -> Result<(rcgen::CertificateParams, String), PkiError> {
        let mut params = parameters(name(cluster, None), validity, now, entropy);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(key)?.pem();
        Ok((params, pem))
    };
    let mut drawn = Vec::with_capacity(keys.len());
    let mut main = None;
    for (kind, key) in CertificateKind::ALL.into_iter().zip(&keys) {
        let pem = match kind {
            CertificateKind::Kubernetes | CertificateKind::Etcd | CertificateKind::FrontProxy => {
                let (params, pem) = authority(key)?;
                if kind == CertificateKind::Kubernetes {
                    main = Some((params, key));
                }
                pem
            }
            CertificateKind::Client => {
                let mut params =
                    parameters(name("admin", Some("system:masters")), validity, now, entropy);
                params.is_ca = IsCa::ExplicitNoCa;
                params.key_usages =
                    vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
                let (ca, ca_key) = main.as_ref().ok_or_else(|| {
                    PkiError::Material("the main CA must be drawn first".to_owned())
                })?;
                params.signed_by(key, &Issuer::from_params(ca, *ca_key))?.pem()
            }
            CertificateKind::ServiceAccount => key.public_key_pem(),
        };
        drawn.push((kind, KeyPairPem { pem, key: Secret::new(key.serialize_pem()) }));
    }
    Ok(drawn)
}

fn key_size(bits: usize) -> Result<RsaKeySize, PkiError> {
    match bits {
        2048 => Ok(RsaKeySize::_2048),
        3072 => Ok(RsaKeySize::_3072),
        4096 => Ok(RsaKeySize::_4096),
        other => Err(PkiError::Material(format!(
            "RSA keys of {other} bits cannot be drawn; ca.rsa_bits must be 2048, 3072 or 4096"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509Certificate};

    #[test]
    fn a_cluster_gets_five_pairs_that_fit_together() {
        let now = Timestamp::parse("2026-08-01T00:00:00Z").unwrap();
        let day = Duration::from_secs(86_400);
        let drawn = draw("k1", 2048, day * 1825, now, &Entropy::new()).unwrap();
        assert_eq!(drawn.iter().map(|d| d.0).collect::<Vec<_>>(), CertificateKind::ALL);
        let der = |i: usize| pem_der(&drawn[i].1.pem);
        let (ca, client) = (der(0), der(3));
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        let (_, client) = X509Certificate::from_der(&client).unwrap();
        ca.verify_signature(None).unwrap();
        client.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(ca.subject().to_string(), "CN=k1");
        assert_eq!(client.subject().to_string(), "O=system:masters, CN=admin");
        let constraints = ca.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        assert!(!client.basic_constraints().unwrap().unwrap().value.ca);
        assert!(client.extended_key_usage().unwrap().unwrap().value.client_auth);
        let begin = ca.validity().not_before.timestamp();
        assert_eq!(ca.validity().not_after.timestamp() - begin, 1826 * 86_400);
        assert!(drawn[4].1.pem.starts_with("-----BEGIN PUBLIC KEY-----"));
        assert!(drawn.iter().all(|d| d.1.key.expose().starts_with("-----BEGIN PRIVATE KEY-----")));
        assert!(draw("k1", 1024, day, now, &Entropy::new()).is_err());
    }

    fn pem_der(pem: &str) -> Vec<u8> {
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
    }
}
