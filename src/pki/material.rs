//! All certificates of a new cluster, made from keys that the generator has drawn.

use std::time::Duration;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::{KeyPairPem, PkiError, name, parameters};
use crate::base::clock::Timestamp;
use crate::base::id::Entropy;
use crate::base::secret::Secret;
use crate::model::certificate::CertificateKind;

/// How many keys a cluster needs.
pub const KEYS: usize = CertificateKind::ALL.len();

/// The certificates of a cluster called `cluster` of these `kinds`, the main CA before whatever
/// it signs, each from a key of its own.
pub fn assemble(
    cluster: &str,
    kinds: &[CertificateKind],
    keys: &[KeyPair],
    validity: Duration,
    now: Timestamp,
    entropy: &Entropy,
) -> Result<Vec<(CertificateKind, KeyPairPem)>, PkiError> {
    if keys.len() != kinds.len() {
        let (keys, kinds) = (keys.len(), kinds.len());
        return Err(PkiError::Material(format!("{keys} keys instead of {kinds}")));
    }
    let authority = |key: &KeyPair| -> Result<(rcgen::CertificateParams, String), PkiError> {
        let mut params = parameters(name(cluster, None), validity, now, entropy);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(key)?.pem();
        Ok((params, pem))
    };
    let mut drawn = Vec::with_capacity(keys.len());
    let mut main = None;
    for (&kind, key) in kinds.iter().zip(keys) {
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
                params.use_authority_key_identifier_extension = true;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::certificate::KeyAlgorithm;
    use crate::pki::key_generator::{KeyGenerator, Keys};
    use x509_parser::prelude::{FromDer, X509Certificate};

    #[tokio::test]
    async fn a_cluster_gets_five_pairs_that_fit_together() {
        let now = Timestamp::parse("2026-08-01T00:00:00Z").unwrap();
        let day = Duration::from_secs(86_400);
        let kinds = &CertificateKind::ALL;
        for algorithm in [KeyAlgorithm::Rsa, KeyAlgorithm::EcdsaP256] {
            let keys =
                KeyGenerator::start(2, Keys::plain(algorithm)).unwrap().draw(kinds).await.unwrap();
            let validity = day * 1825;
            let drawn = assemble("k1", kinds, &keys, validity, now, &Entropy::new()).unwrap();
            fit_together(&drawn);
            assert!(assemble("k1", kinds, &keys[..1], day, now, &Entropy::new()).is_err());
        }
    }

    fn fit_together(drawn: &[(CertificateKind, KeyPairPem)]) {
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
    }

    fn pem_der(pem: &str) -> Vec<u8> {
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
    }
}
