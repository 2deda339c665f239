//! Reading certificate requests (PKCS #10, RFC 2986): what we honour, drop and refuse.
//!
//! The rules are Magnum's, except that the request's own signature is verified, that a
//! subject key identifier in it is ignored, and that every certificate says plainly whether
//! it is a CA.

use rcgen::{BasicConstraints, CustomExtension, DistinguishedName, DnType, DnValue, IsCa};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::der_parser::asn1_rs::{Oid, Tag};
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::oid_registry;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::PkiError;

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
    let mut seen: Vec<&Oid<'_>> = Vec::new();
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(wanted) = attribute.parsed_attribute() else {
            continue;
        };
        for extension in &wanted.extensions {
            if seen.contains(&&extension.oid) {
                let name = name_of(&extension.oid);
                return Err(refused(format!("Extension '{name}' is given twice.")));
            }
            seen.push(&extension.oid);
            honour(extension, rules, &mut asked)?;
        }
    }
    Ok(asked)
}

fn parse(der: &[u8]) -> Result<X509CertificationRequest<'_>, PkiError> {
    let malformed = || refused("Invalid input for field csr: it is not a certificate request.");
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| malformed())?;
    if !rest.is_empty() {
        return Err(malformed());
    }
    request.verify_signature().map_err(|_| {
        refused(
            "Invalid input for field csr: its signature does not verify with its own key \
             (RSA of 2048 bits and more, EC P-256 and P-384 are supported).",
        )
    })?;
    Ok(request)
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
        // Computed from the key.
        ParsedExtension::SubjectKeyIdentifier(_) => return Ok(()),
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
            match key_usage(wanted.flags, extension.critical, rules)? {
                Some(content) => content,
                None => return Ok(()),
            }
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
fn key_usage(flags: u16, critical: bool, rules: &Rules) -> Result<Option<Vec<u8>>, PkiError> {
    let allowed = |bit: usize| match bit {
        CERTIFICATE_SIGN | CRL_SIGN => rules.allow_ca,
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
    if kept == 0 {
        return Ok(None);
    }
    let [high, low] = kept.to_be_bytes();
    // A named bit list ends with its last set bit (X.690 §11.2.2).
    let unused = (kept.trailing_zeros() % 8) as u8;
    Ok(Some(match low {
        0 => vec![0x03, 2, unused, high],
        _ => vec![0x03, 3, unused, high, low],
    }))
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
        assert_eq!(key_usage(0b100_0001, false, &rules).unwrap(), Some(vec![3, 2, 7, 0x80]));
        assert_eq!(key_usage(0b100_0000, false, &rules).unwrap(), None);
        assert!(key_usage(0b100_0001, true, &rules).is_err());
        let all = Rules { allowed_key_usage: vec!["Decipher Only".to_owned()], ..rules };
        assert_eq!(key_usage(1 << 8, true, &all).unwrap(), Some(vec![3, 3, 7, 0, 0x80]));
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
