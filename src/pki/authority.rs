//! Authority: a cluster's CA that can sign.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SubjectPublicKeyInfo,
};

use x509_parser::prelude::{FromDer, X509Certificate};

use super::csr::{self, Rules};
use super::{KeyPairPem, PkiError, name, parameters};
use crate::base::clock::Timestamp;
use crate::base::id::Entropy;
use crate::base::secret::Secret;

/// A CA with its key in memory: make it, sign, drop it.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    begins_at: Timestamp,
    ends_at: Timestamp,
}

/// A certificate whose every word is ours; of the request only the key is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    pub common_name: String,
    pub organization: Option<String>,
    pub dns: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub uris: Vec<String>,
    pub server: bool,
    pub client: bool,
}

impl Authority {
    pub fn load(certificate: &str, key: &Secret<String>) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key.expose())?;
        let (begins_at, ends_at) = validity(certificate)?;
        Ok(Self { issuer: Issuer::from_ca_cert_pem(certificate, key)?, begins_at, ends_at })
    }

    /// From when on its certificate is valid.
    pub const fn begins_at(&self) -> Timestamp {
        self.begins_at
    }

    /// When its certificate expires; nothing that it signs is valid for longer.
    pub const fn ends_at(&self) -> Timestamp {
        self.ends_at
    }

    /// Signs a tenant's request as Magnum does: subject kept, extensions filtered by `rules`.
    /// The PEM ends without a newline.
    pub fn sign(
        &self,
        request: &str,
        rules: &Rules,
        validity: Duration,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<String, PkiError> {
        let der = csr::der(request)?;
        let asked = csr::read(&der, rules)?;
        let mut params = parameters(asked.subject, validity, now, entropy);
        params.is_ca = asked.is_ca;
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = asked.extensions;
        let key = public_key(&asked.public_key)?;
        Ok(params.signed_by(&key, &self.issuer)?.pem().trim_end().to_owned())
    }

    /// Signs the key of a request, with a subject and names that we chose.
    pub fn issue(
        &self,
        request: &str,
        leaf: &Leaf,
        validity: Duration,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<String, PkiError> {
        let der = csr::der(request)?;
        let key = public_key(&csr::public_key(&der)?)?;
        self.certify(&key, leaf, validity, now, entropy)
    }

    /// Draws a key for somebody who cannot ask with one, and signs it.
    pub fn pair(
        &self,
        leaf: &Leaf,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<KeyPairPem, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let pem = self.certify(&key, leaf, self.ends_at.since(now), now, entropy)?;
        Ok(KeyPairPem { pem, key: Secret::new(key.serialize_pem()) })
    }

    fn certify(
        &self,
        key: &impl PublicKeyData,
        leaf: &Leaf,
        validity: Duration,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Result<String, PkiError> {
        let subject = name(&leaf.common_name, leaf.organization.as_deref());
        let mut params = parameters(subject, validity, now, entropy);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        if leaf.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if leaf.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        for dns in &leaf.dns {
            let dns = dns.as_str().try_into().map_err(|_| {
                PkiError::Request(format!("'{dns}' cannot be a name in a certificate."))
            })?;
            params.subject_alt_names.push(SanType::DnsName(dns));
        }
        for uri in &leaf.uris {
            let uri = uri.as_str().try_into().map_err(|_| {
                PkiError::Request(format!("'{uri}' cannot be a URI in a certificate."))
            })?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.subject_alt_names.extend(leaf.addresses.iter().copied().map(SanType::IpAddress));
        Ok(params.signed_by(key, &self.issuer)?.pem().trim_end().to_owned())
    }
}

/// From when to when.
fn validity(certificate: &str) -> Result<(Timestamp, Timestamp), PkiError> {
    let broken = || PkiError::Material("a CA's certificate cannot be read".to_owned());
    let der = csr::pem_body(certificate, "CERTIFICATE").ok_or_else(broken)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| broken())?;
    let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
    let validity = certificate.validity();
    Ok((at(validity.not_before.timestamp()), at(validity.not_after.timestamp())))
}

fn public_key(spki: &[u8]) -> Result<SubjectPublicKeyInfo, PkiError> {
    SubjectPublicKeyInfo::from_der(spki).map_err(|_| {
        let keys = super::supported::KEYS;
        PkiError::Request(format!(
            "The request's key is of a kind that is not supported; {keys} are."
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::certificate::CertificateKind;
    use crate::pki::material::{KEYS, assemble};
    use rcgen::CertificateParams;
    use x509_parser::prelude::{GeneralName, ParsedExtension};

    fn material() -> Vec<(CertificateKind, KeyPairPem)> {
        let draw = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let keys: Vec<KeyPair> = (0..KEYS).map(|_| draw()).collect();
        let day = Duration::from_secs(86_400);
        assemble("k1", &CertificateKind::ALL, &keys, day, now(), &Entropy::new()).unwrap()
    }

    fn is_main(kind: CertificateKind) -> bool {
        kind == CertificateKind::Kubernetes
    }

    fn authority() -> (Authority, String) {
        let drawn = material();
        assert!(is_main(drawn[0].0));
        let ca = &drawn[0].1;
        (Authority::load(&ca.pem, &ca.key).unwrap(), ca.pem.clone())
    }

    fn now() -> Timestamp {
        Timestamp::parse("2026-08-01T00:00:00Z").unwrap()
    }

    #[test]
    fn a_pair_is_a_key_and_a_certificate_for_it() {
        let (authority, ca) = authority();
        let leaf = Leaf {
            common_name: "bootstrap".to_owned(),
            organization: Some("system:bootstrappers".to_owned()),
            client: true,
            ..Leaf::default()
        };
        let [one, two] = [(); 2].map(|()| authority.pair(&leaf, now(), &Entropy::new()).unwrap());
        assert_ne!(one.key.expose(), two.key.expose());
        let key = KeyPair::from_pem(one.key.expose()).unwrap();
        let der = csr::pem_body(&one.pem, "CERTIFICATE").unwrap();
        let (_, made) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(made.public_key().raw, key.subject_public_key_info());
        let ca = csr::pem_body(&ca, "CERTIFICATE").unwrap();
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        made.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(made.subject().to_string(), "O=system:bootstrappers, CN=bootstrap");
        assert!(!made.is_ca() && made.validity().not_after <= ca.validity().not_after);
    }

    #[test]
    fn a_leaf_has_our_words_and_their_key() {
        let (authority, ca) = authority();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut asked = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        asked.distinguished_name = name("system:masters", Some("system:masters"));
        let request = asked.serialize_request(&key).unwrap().pem().unwrap();
        let leaf = Leaf {
            common_name: "system:node:n1".to_owned(),
            organization: Some("system:nodes".to_owned()),
            dns: vec!["n1".to_owned()],
            addresses: vec!["10.0.0.5".parse().unwrap()],
            uris: Vec::new(),
            server: true,
            client: true,
        };
        let pem = authority
            .issue(&request, &leaf, Duration::from_secs(60), now(), &Entropy::new())
            .unwrap();
        let der = csr::pem_body(&pem, "CERTIFICATE").unwrap();
        let (_, made) = X509Certificate::from_der(&der).unwrap();
        let ca = csr::pem_body(&ca, "CERTIFICATE").unwrap();
        let (_, ca) = X509Certificate::from_der(&ca).unwrap();
        made.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(made.subject().to_string(), "O=system:nodes, CN=system:node:n1");
        let names = made.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(
            names.general_names,
            [GeneralName::DNSName("n1"), GeneralName::IPAddress(&[10, 0, 0, 5])]
        );
        assert!(!pem.ends_with('\n'));
    }

    fn key_ids(pem: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let der = csr::pem_body(pem, "CERTIFICATE").unwrap();
        let (_, made) = X509Certificate::from_der(&der).unwrap();
        let mut ids = (None, None);
        for extension in made.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => ids.0 = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    ids.1 = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                _ => {}
            }
        }
        ids
    }

    /// What tenants, nodes and magnumd itself are given, from requests of every kind of key.
    fn signed(authority: &Authority) -> Vec<String> {
        let mut asked = CertificateParams::new(vec!["k.example".to_owned()]).unwrap();
        asked.distinguished_name = name("admin", Some("system:masters"));
        asked.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let mut nameless = CertificateParams::new(vec!["k.example".to_owned()]).unwrap();
        nameless.distinguished_name = rcgen::DistinguishedName::new();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let rules = Rules { allow_ca: true, ..Rules::default() };
        let day = Duration::from_secs(86_400);
        let sign = |params: &CertificateParams, key: &KeyPair| {
            let request = params.serialize_request(key).unwrap().pem().unwrap();
            authority.sign(&request, &rules, day, now(), &Entropy::new()).unwrap()
        };
        let kinds = [
            &PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA256,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ];
        let mut all: Vec<String> =
            kinds.iter().map(|kind| sign(&asked, &KeyPair::generate_for(kind).unwrap())).collect();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        all.push(sign(&nameless, &key));
        all.push(sign(&ca, &key));
        let leaf = Leaf { common_name: "x".to_owned(), client: true, ..Leaf::default() };
        let request = asked.serialize_request(&key).unwrap().pem().unwrap();
        all.push(authority.issue(&request, &leaf, day, now(), &Entropy::new()).unwrap());
        all.push(authority.pair(&leaf, now(), &Entropy::new()).unwrap().pem);
        all
    }

    #[test]
    fn every_certificate_names_its_issuers_key() {
        let (authority, ca) = authority();
        let (of_ca, _) = key_ids(&ca);
        assert!(of_ca.is_some());
        for pem in signed(&authority) {
            assert_eq!(key_ids(&pem).1, of_ca, "{pem}");
        }
    }

    /// By the strictest verifier at hand, where there is one.
    #[test]
    fn openssl_finds_nothing_to_object_to() {
        use std::process::Command;
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (authority, ca) = authority();
        let trusted = file("ca.pem", &ca);
        let mut all = signed(&authority);
        all.push(ca);
        // Drawn with the cluster, for magnumd's own looks into it.
        let own = material();
        let own_ca = file("own-ca.pem", &own.iter().find(|d| is_main(d.0)).unwrap().1.pem);
        let client = own.iter().find(|d| d.0 == CertificateKind::Client).unwrap().1.pem.clone();
        let listener_ca = crate::pki::listener::authority(now(), &Entropy::new()).unwrap();
        let listener =
            crate::pki::listener::certificate(&listener_ca, "192.0.2.1", now(), &Entropy::new());
        let listener_ca = file("listener-ca.pem", &listener_ca.pem);
        let mut each: Vec<_> = all.into_iter().map(|pem| (&trusted, pem)).collect();
        each.push((&own_ca, client));
        each.push((&listener_ca, listener.unwrap().pem));
        for (authority, pem) in each {
            let leaf = file("leaf.pem", &pem);
            let at = (now().micros() / 1_000_000 + 60).to_string();
            let verified = Command::new("openssl")
                .args(["verify", "-x509_strict", "-attime", &at, "-CAfile"])
                .args([authority, &leaf])
                .output();
            let Ok(verified) = verified else {
                eprintln!("not shown with openssl, because there is none");
                return;
            };
            let said = String::from_utf8_lossy(&verified.stderr).into_owned();
            assert!(verified.status.success(), "{said}\n{pem}");
        }
    }

    #[test]
    fn a_request_must_be_signed_by_its_own_key() {
        let (authority, _) = authority();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let asked = CertificateParams::new(vec![]).unwrap().serialize_request(&key).unwrap();
        let mut der = asked.der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        let pem = csr::tests::pem("CERTIFICATE REQUEST", &der);
        let refused = authority.sign(
            &pem,
            &Rules::default(),
            Duration::from_secs(60),
            now(),
            &Entropy::new(),
        );
        assert!(refused.unwrap_err().to_string().contains("signature"));
    }
}
