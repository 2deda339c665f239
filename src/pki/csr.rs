//! Reading certificate requests (PKCS #10, RFC 2986): what we honour, drop and refuse.
//!
//! The rules are Magnum's, except that the request's own signature is verified, that key
//! identifiers in it are ignored, that every certificate says plainly whether it is a CA, and that
//! what strict verifiers (RFC 5280, `openssl verify -x509_strict`) would not take is not signed.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1, ECDSA_P384_SHA256_ASN1,
    ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA512_ASN1, ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1,
    ECDSA_P521_SHA512_ASN1, EcdsaVerificationAlgorithm, UnparsedPublicKey,
};
use rcgen::{BasicConstraints, CustomExtension, DistinguishedName, DnType, DnValue, IsCa};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::der_parser::asn1_rs::{Oid, Tag};
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::oid_registry;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::{PkiError, supported};

/// What requests may ask for; names as in Magnum's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub allow_ca: bool,
    /// Such as `subjectAltName`.
    pub allowed_extensions: Vec<String>,
    /// Such as `Digital Signature`.
    pub allowed_key_usage: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            allow_ca: false,
            allowed_extensions: owned(&[
                "keyUsage",
                "extendedKeyUsage",
                "subjectAltName",
                "basicConstraints",
                "subjectKeyIdentifier",
            ]),
            allowed_key_usage: owned(&["Digital Signature", "Key Encipherment", "Non Repudiation"]),
        }
    }
}

/// A request that may be signed.
#[derive(Debug)]
pub(super) struct Asked {
    pub subject: DistinguishedName,
    /// SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    pub is_ca: IsCa,
    pub extensions: Vec<CustomExtension>,
}

/// The names of key usages by bit, RFC 5280 §4.2.1.3, as OpenSSL prints them.
const KEY_USAGES: [&str; 9] = [
    "Digital Signature",
    "Non Repudiation",
    "Key Encipherment",
    "Data Encipherment",
    "Key Agreement",
    "Certificate Sign",
    "CRL Sign",
    "Encipher Only",
    "Decipher Only",
];
const CERTIFICATE_SIGN: usize = 5;
const CRL_SIGN: usize = 6;

const KEY_USAGE: [u64; 4] = [2, 5, 29, 15];
const SUBJECT_ALT_NAME: [u64; 4] = [2, 5, 29, 17];

/// The DER inside a PEM request.
pub(super) fn der(pem: &str) -> Result<Vec<u8>, PkiError> {
    pem_body(pem, "CERTIFICATE REQUEST").ok_or_else(|| {
        PkiError::Request(
            "Invalid input for field csr: it must be one PEM certificate request \
             (-----BEGIN CERTIFICATE REQUEST-----)."
                .to_owned(),
        )
    })
}

/// The first PEM block, if its label ends with `label`: old tools write NEW CERTIFICATE REQUEST.
pub(super) fn pem_body(pem: &str, label: &str) -> Option<Vec<u8>> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    block.label.ends_with(label).then_some(block.contents)
}

/// The key of a request that its owner signed.
pub(super) fn public_key(der: &[u8]) -> Result<Vec<u8>, PkiError> {
    Ok(parse(der)?.certification_request_info.subject_pki.raw.to_vec())
}

/// Everything a certificate takes from the request under `rules`.
pub(super) fn read(der: &[u8], rules: &Rules) -> Result<Asked, PkiError> {
    let request = parse(der)?;
    let info = &request.certification_request_info;
    let mut asked = Asked {
        subject: subject(&info.subject)?,
        public_key: info.subject_pki.raw.to_vec(),
        is_ca: IsCa::ExplicitNoCa,
        extensions: Vec::new(),
    };
    let mut wanted: Vec<&X509Extension<'_>> = Vec::new();
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() else {
            continue;
        };
        for extension in &request.extensions {
            if wanted.iter().any(|other| other.oid == extension.oid) {
                let name = name_of(&extension.oid);
                return Err(refused(format!("Extension '{name}' is given twice.")));
            }
            wanted.push(extension);
        }
    }
    // What a CA may, the others may not, whichever extension comes first.
    let (constraints, others): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|extension| {
        matches!(extension.parsed_extension(), ParsedExtension::BasicConstraints(_))
    });
    for extension in constraints.into_iter().chain(others) {
        honour(extension, rules, &mut asked)?;
    }
    asked.complete()?;
    Ok(asked)
}

impl Asked {
    /// Sees to what a certificate must have in the eyes of strict verifiers (RFC 5280 §4.2.1).
    fn complete(&mut self) -> Result<(), PkiError> {
        let is_ca = matches!(self.is_ca, IsCa::Ca(_));
        let has_subject = self.subject.iter().next().is_some();
        match self.find(&SUBJECT_ALT_NAME) {
            // Without a subject the names are all there is, and must be understood.
            Some(names) if !has_subject && !is_ca => names.set_criticality(true),
            _ if has_subject => {}
            _ => {
                return Err(refused(
                    "The certificate would not say whose it is: give the request a subject, such \
                     as /CN=admin, or a subjectAltName; for a CA, a subject.",
                ));
            }
        }
        if !is_ca {
            return Ok(());
        }
        match self.find(&KEY_USAGE).map(|usage| bits(usage.content())) {
            Some(kept) if kept & (0x8000 >> CERTIFICATE_SIGN) == 0 => Err(refused(
                "The request asks for CA:TRUE with a key usage that lacks 'Certificate Sign'; ask \
                 for that usage too, or for CA:FALSE.",
            )),
            Some(_) => Ok(()),
            None => {
                let content = bit_string(0x8000 >> CERTIFICATE_SIGN);
                let mut usage = CustomExtension::from_oid_content(&KEY_USAGE, content);
                usage.set_criticality(true);
                self.extensions.push(usage);
                Ok(())
            }
        }
    }

    fn find(&mut self, oid: &[u64]) -> Option<&mut CustomExtension> {
        self.extensions.iter_mut().find(|e| e.oid_components().eq(oid.iter().copied()))
    }
}

fn parse(der: &[u8]) -> Result<X509CertificationRequest<'_>, PkiError> {
    let malformed = || refused("Invalid input for field csr: it is not a certificate request.");
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| malformed())?;
    if !rest.is_empty() {
        return Err(malformed());
    }
    let key = &request.certification_request_info.subject_pki;
    if let Some(fault) = supported::fault(key, &request.signature_algorithm) {
        return Err(refused(format!("Invalid input for field csr: {fault}.")));
    }
    match is_signed(&request) {
        true => Ok(request),
        false => Err(refused(
            "Invalid input for field csr: its signature does not verify with its own key; it was \
             changed after it was signed, or signed with another key. Make it anew.",
        )),
    }
}

/// Whether the request was signed by the key that is in it.
fn is_signed(request: &X509CertificationRequest<'_>) -> bool {
    let info = &request.certification_request_info;
    match ecdsa(request) {
        Some(algorithm) => {
            let key = UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data);
            key.verify(info.raw, &request.signature_value.data).is_ok()
        }
        None => request.verify_signature().is_ok(),
    }
}

/// How an ECDSA signature is verified; the parser itself knows neither P-521 nor SHA-512.
fn ecdsa(request: &X509CertificationRequest<'_>) -> Option<&'static EcdsaVerificationAlgorithm> {
    use oid_registry::{
        OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
    };
    let key = &request.certification_request_info.subject_pki.algorithm;
    let curve = key.parameters.as_ref()?.as_oid().ok()?;
    let curve =
        [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521].iter().position(|c| *c == curve)?;
    let signature = &request.signature_algorithm.algorithm;
    let digest = [OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512]
        .iter()
        .position(|d| d == signature)?;
    const BY_CURVE: [[&EcdsaVerificationAlgorithm; 3]; 3] = [
        [&ECDSA_P256_SHA256_ASN1, &ECDSA_P256_SHA384_ASN1, &ECDSA_P256_SHA512_ASN1],
        [&ECDSA_P384_SHA256_ASN1, &ECDSA_P384_SHA384_ASN1, &ECDSA_P384_SHA512_ASN1],
        [&ECDSA_P521_SHA256_ASN1, &ECDSA_P521_SHA384_ASN1, &ECDSA_P521_SHA512_ASN1],
    ];
    Some(BY_CURVE[curve][digest])
}

fn refused(sentence: impl Into<String>) -> PkiError {
    PkiError::Request(sentence.into())
}

/// The subject, kept word for word and in order.
fn subject(asked: &X509Name<'_>) -> Result<DistinguishedName, PkiError> {
    let mut name = DistinguishedName::new();
    for attribute in asked.iter_attributes() {
        let oid: Vec<u64> = attribute
            .attr_type()
            .iter()
            .ok_or_else(|| refused("The subject holds an attribute with a malformed type."))?
            .collect();
        let kind = DnType::from_oid(&oid);
        if name.get(&kind).is_some() {
            // The library would silently keep the last one, which may grant something else.
            return Err(refused(format!(
                "The subject has several {} entries; only one of a kind can be signed.",
                name_of(attribute.attr_type())
            )));
        }
        let text = attribute
            .as_str()
            .map_err(|_| refused("The subject holds an entry that is not text."))?;
        let invalid = |_| refused(format!("The subject's entry '{text}' is malformed."));
        let value = match attribute.attr_value().tag() {
            Tag::PrintableString => DnValue::PrintableString(text.try_into().map_err(invalid)?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().map_err(invalid)?),
            _ => DnValue::Utf8String(text.to_owned()),
        };
        name.push(kind, value);
    }
    Ok(name)
}

/// Applies the rules to one extension.
fn honour(extension: &X509Extension<'_>, rules: &Rules, asked: &mut Asked) -> Result<(), PkiError> {
    let name = name_of(&extension.oid);
    if !rules.allowed_extensions.contains(&name) {
        return match extension.critical {
            true => Err(refused(format!(
                "Extension '{name}' not allowed; leave it out or mark it not critical."
            ))),
            false => Ok(()),
        };
    }
    let content = match extension.parsed_extension() {
        // Computed from the keys.
        ParsedExtension::SubjectKeyIdentifier(_) | ParsedExtension::AuthorityKeyIdentifier(_) => {
            return Ok(());
        }
        ParsedExtension::BasicConstraints(wanted) => {
            if wanted.ca && rules.allow_ca {
                asked.is_ca = IsCa::Ca(match wanted.path_len_constraint {
                    Some(length) => BasicConstraints::Constrained(length.min(255) as u8),
                    None => BasicConstraints::Unconstrained,
                });
            } else if wanted.ca && extension.critical {
                return Err(refused("CA certificates are not allowed; ask for CA:FALSE."));
            }
            return Ok(());
        }
        ParsedExtension::KeyUsage(wanted) => {
            let is_ca = matches!(asked.is_ca, IsCa::Ca(_));
            match key_usage(wanted.flags, extension.critical, is_ca, rules)? {
                Some(content) => content,
                None => return Ok(()),
            }
        }
        ParsedExtension::SubjectAlternativeName(names) if names.general_names.is_empty() => {
            return Err(refused(format!("Extension '{name}' holds no name; leave it out.")));
        }
        ParsedExtension::ParseError { .. } => {
            return Err(refused(format!("Extension '{name}' is malformed.")));
        }
        _ => extension.value.to_vec(),
    };
    let oid: Vec<u64> = extension
        .oid
        .iter()
        .ok_or_else(|| refused(format!("Extension '{name}' has a malformed type.")))?
        .collect();
    let mut kept = CustomExtension::from_oid_content(&oid, content);
    kept.set_criticality(extension.critical);
    asked.extensions.push(kept);
    Ok(())
}

/// The allowed bits as a DER BIT STRING; None when none is left.
fn key_usage(
    flags: u16,
    critical: bool,
    is_ca: bool,
    rules: &Rules,
) -> Result<Option<Vec<u8>>, PkiError> {
    let allowed = |bit: usize| match bit {
        CERTIFICATE_SIGN | CRL_SIGN => is_ca,
        _ => rules.allowed_key_usage.iter().any(|name| name == KEY_USAGES[bit]),
    };
    let mut kept = 0_u16;
    for (bit, usage) in KEY_USAGES.iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0) {
        if allowed(bit) {
            kept |= 0x8000 >> bit;
        } else if critical {
            return Err(refused(format!("Key usage '{usage}' not allowed; leave it out.")));
        }
    }
    Ok((kept != 0).then(|| bit_string(kept)))
}

/// Bits, the first one the highest, as a DER BIT STRING; at least one is set.
fn bit_string(bits: u16) -> Vec<u8> {
    let [high, low] = bits.to_be_bytes();
    // A named bit list ends with its last set bit (X.690 §11.2.2).
    let unused = (bits.trailing_zeros() % 8) as u8;
    match low {
        0 => vec![0x03, 2, unused, high],
        _ => vec![0x03, 3, unused, high, low],
    }
}

/// The bits of what [`bit_string`] has written.
fn bits(content: &[u8]) -> u16 {
    let byte = |at: usize| content.get(at).copied().unwrap_or(0);
    u16::from_be_bytes([byte(3), byte(4)])
}

/// The short name of an extension or of a subject's entry, as OpenSSL writes it.
fn name_of(oid: &Oid<'_>) -> String {
    let registry = oid_registry::OidRegistry::default().with_x509();
    match registry.get(oid) {
        Some(entry) => entry.sn().to_owned(),
        None => oid.to_id_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use base64::Engine;
    use proptest::prelude::*;
    use rcgen::{
        CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
        PKCS_ECDSA_P256_SHA256,
    };

    pub fn pem(label: &str, der: &[u8]) -> String {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<&str> =
            body.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    fn request(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(vec!["k.example".to_owned()]).unwrap();
        change(&mut params);
        params.serialize_request(&key).unwrap().der().to_vec()
    }

    fn oids(asked: &Asked) -> Vec<Vec<u64>> {
        asked.extensions.iter().map(|e| e.oid_components().collect()).collect()
    }

    #[test]
    fn usages_names_and_purposes_are_kept() {
        let der = request(|p| {
            p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let asked = read(&der, &Rules::default()).unwrap();
        let mut kept = oids(&asked);
        kept.sort();
        assert_eq!(kept, [vec![2, 5, 29, 15], vec![2, 5, 29, 17], vec![2, 5, 29, 37]]);
        assert_eq!(asked.is_ca, IsCa::ExplicitNoCa);
    }

    #[test]
    fn what_is_not_allowed_is_refused_when_critical_and_dropped_otherwise() {
        // The library writes key usage and basic constraints as critical.
        let der = request(|p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
        let refusal = read(&der, &Rules::default()).unwrap_err().to_string();
        assert!(refusal.contains("'Certificate Sign' not allowed"), "{refusal}");
        let der = request(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert!(read(&der, &Rules::default()).is_err());
        let rules = Rules { allow_ca: true, ..Rules::default() };
        assert_eq!(read(&der, &rules).unwrap().is_ca, IsCa::Ca(BasicConstraints::Unconstrained));
        for (critical, accepted) in [(false, true), (true, false)] {
            let der = request(|p| {
                let mut odd = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x05, 0x00]);
                odd.set_criticality(critical);
                p.custom_extensions.push(odd);
            });
            let outcome = read(&der, &Rules::default());
            assert_eq!(outcome.is_ok(), accepted);
            assert!(outcome.is_err() || oids(&outcome.unwrap()).len() == 1, "only the names");
        }
    }

    #[test]
    fn bits_that_are_not_allowed_are_cleared_when_not_critical() {
        let rules = Rules::default();
        // digitalSignature (bit 0) and cRLSign (bit 6), as the parser numbers them.
        let leaf = |flags, critical| key_usage(flags, critical, false, &rules);
        assert_eq!(leaf(0b100_0001, false).unwrap(), Some(vec![3, 2, 7, 0x80]));
        assert_eq!(leaf(0b100_0000, false).unwrap(), None);
        assert!(leaf(0b100_0001, true).is_err());
        let ca = key_usage(0b110_0000, true, true, &rules).unwrap().unwrap();
        assert_eq!((ca.as_slice(), bits(&ca)), (&[3, 2, 1, 6][..], 0x0600));
        let all = Rules { allowed_key_usage: vec!["Decipher Only".to_owned()], ..rules };
        assert_eq!(key_usage(1 << 8, true, false, &all).unwrap(), Some(vec![3, 3, 7, 0, 0x80]));
    }

    #[test]
    fn a_certificate_says_whose_it_is() {
        // A name's list as it stands in a request: [2] is the tag of a DNS name.
        let named = |p: &mut CertificateParams, names: &[u8]| {
            p.subject_alt_names.clear();
            let names = CustomExtension::from_oid_content(&SUBJECT_ALT_NAME, names.to_vec());
            p.custom_extensions.push(names);
        };
        let nobody = |p: &mut CertificateParams| p.distinguished_name = DistinguishedName::new();
        let der = request(|p| {
            nobody(p);
            p.subject_alt_names.clear();
        });
        let refusal = read(&der, &Rules::default()).unwrap_err().to_string();
        assert!(refusal.contains("such as /CN=admin"), "{refusal}");
        let one = [0x30, 3, 0x82, 1, b'k'];
        let der = request(|p| {
            nobody(p);
            named(p, &one);
        });
        let asked = read(&der, &Rules::default()).unwrap();
        assert!(asked.extensions[0].criticality(), "the names are all there is");
        let asked = read(&request(|p| named(p, &one)), &Rules::default()).unwrap();
        assert!(!asked.extensions[0].criticality());
        let der = request(|p| named(p, &[0x30, 0]));
        let refusal = read(&der, &Rules::default()).unwrap_err().to_string();
        assert!(refusal.contains("'subjectAltName'"), "{refusal}");
    }

    #[test]
    fn a_ca_may_sign_certificates_and_nobody_else() {
        let rules = Rules { allow_ca: true, ..Rules::default() };
        let ca = |usages: Vec<KeyUsagePurpose>| {
            request(|p| {
                p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
                p.key_usages = usages;
            })
        };
        let mut asked = read(&ca(Vec::new()), &rules).unwrap();
        let usage = asked.find(&KEY_USAGE).unwrap();
        assert_eq!((usage.content(), usage.criticality()), (&[3, 2, 2, 4][..], true));
        let both = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let mut asked = read(&ca(both.clone()), &rules).unwrap();
        assert_eq!(asked.find(&KEY_USAGE).unwrap().content(), [3, 2, 1, 6]);
        let lacks = read(&ca(vec![KeyUsagePurpose::DigitalSignature]), &rules).unwrap_err();
        assert!(lacks.to_string().contains("lacks 'Certificate Sign'"), "{lacks}");
        let leaf = read(&request(|p| p.key_usages = both), &rules).unwrap_err();
        assert!(leaf.to_string().contains("'Certificate Sign' not allowed"), "{leaf}");
    }

    #[test]
    fn signatures_of_every_curve_and_digest_are_verified() {
        use rcgen::{
            PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA256, PKCS_ECDSA_P521_SHA384,
            PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
        };
        for algorithm in [
            &PKCS_ECDSA_P256_SHA256,
            &PKCS_ECDSA_P384_SHA384,
            &PKCS_ECDSA_P521_SHA256,
            &PKCS_ECDSA_P521_SHA384,
            &PKCS_ECDSA_P521_SHA512,
            &PKCS_ED25519,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let params = CertificateParams::new(vec!["k.example".to_owned()]).unwrap();
            let mut der = params.serialize_request(&key).unwrap().der().to_vec();
            assert!(read(&der, &Rules::default()).is_ok(), "{algorithm:?}");
            let last = der.len() - 1;
            der[last] ^= 1;
            let refusal = read(&der, &Rules::default()).unwrap_err().to_string();
            assert!(refusal.contains("does not verify"), "{algorithm:?}: {refusal}");
        }
    }

    #[test]
    fn text_that_is_no_request_is_refused_with_a_sentence() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END"] {
            assert!(der(text).unwrap_err().to_string().contains("field csr"), "{text}");
        }
        let odd = pem("CERTIFICATE REQUEST", &[0x30, 0x03, 1, 2, 3]);
        assert!(read(&der(&odd).unwrap(), &Rules::default()).is_err());
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0usize..400, bit in 0u8..8, cut in 0usize..400) {
            let mut damaged = request(|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]);
            let at = at % damaged.len();
            damaged[at] ^= 1 << bit;
            damaged.truncate(cut.max(1));
            let _ = read(&damaged, &Rules::default());
            let _ = public_key(&damaged);
        }
    }
}
