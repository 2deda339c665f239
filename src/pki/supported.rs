//! Keys and signatures of certificate requests that cannot be verified, whoever made them.
//!
//! Whoever is told that a signature does not verify looks for a damaged file; a key of another kind
//! or a digest that nobody trusts any more is mended by another option of the tool.

use x509_parser::der_parser::asn1_rs::Oid;
use x509_parser::oid_registry as oid;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// What can be verified, to end a sentence with.
pub(super) const KEYS: &str = "RSA of 2048 to 8192 bits, EC P-256, P-384 and P-521, and Ed25519";
const DIGESTS: &str = "SHA-256, SHA-384 or SHA-512";

const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Names by object identifier (RFC 3279, RFC 5480, RFC 8410), of what is not supported.
const KEY_KINDS: [(&str, &str); 5] = [
    ("1.2.840.10040.4.1", "DSA"),
    ("1.2.840.10046.2.1", "Diffie-Hellman"),
    ("1.3.101.110", "X25519"),
    ("1.3.101.111", "X448"),
    ("1.3.101.113", "Ed448"),
];
const CURVES: [(&str, &str); 6] = [
    ("1.2.840.10045.3.1.1", "P-192"),
    ("1.3.132.0.10", "secp256k1"),
    ("1.3.132.0.33", "P-224"),
    ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
    ("1.3.36.3.3.2.8.1.1.11", "brainpoolP384r1"),
    ("1.3.36.3.3.2.8.1.1.13", "brainpoolP512r1"),
];
const SIGNATURES: [(&str, &str); 12] = [
    ("1.2.840.113549.1.1.2", "MD2"),
    ("1.2.840.113549.1.1.3", "MD4"),
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.3.14.3.2.29", "SHA-1"),
    ("1.2.840.113549.1.1.14", "SHA-224"),
    ("1.2.840.113549.1.1.15", "SHA-512/224"),
    ("1.2.840.113549.1.1.16", "SHA-512/256"),
    ("1.2.840.10045.4.1", "SHA-1"),
    ("1.2.840.10045.4.3.1", "SHA-224"),
    ("1.3.14.3.2.26", "SHA-1"),
    ("2.16.840.1.101.3.4.2.4", "SHA-224"),
];

/// Why no signature of this key by this algorithm can be verified, in a sentence with its cure; None
/// where it can be.
pub(super) fn fault(
    key: &SubjectPublicKeyInfo<'_>,
    by: &AlgorithmIdentifier<'_>,
) -> Option<String> {
    if let Some(kind) = unsupported_key(key) {
        return Some(format!(
            "it holds {kind}, which is not supported. Make the request with another key; {KEYS} are \
             supported"
        ));
    }
    unsupported_digest(by).map(|digest| {
        format!("it is signed with {digest}, which is not supported. Sign it with {DIGESTS}")
    })
}

fn named<'n>(names: &[(&str, &'n str)], oid: &Oid<'_>) -> Option<&'n str> {
    let text = oid.to_id_string();
    names.iter().find(|(known, _)| *known == text).map(|(_, name)| *name)
}

/// The key with its article, if it is none of ours.
fn unsupported_key(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let kind = &key.algorithm.algorithm;
    if *kind == oid::OID_PKCS1_RSAENCRYPTION || *kind == oid::OID_PKCS1_RSASSAPSS {
        // What does not parse does not verify either.
        let (_, rsa) = RSAPublicKey::from_der(&key.subject_public_key.data).ok()?;
        let bits = bits(rsa.modulus);
        return (!RSA_BITS.contains(&bits)).then(|| format!("an RSA key of {bits} bits"));
    }
    if *kind == oid::OID_KEY_TYPE_EC_PUBLIC_KEY {
        let Some(Ok(curve)) = key.algorithm.parameters.as_ref().map(|p| p.as_oid()) else {
            return Some("an EC key on a curve that it does not name".to_owned());
        };
        let ours = [oid::OID_EC_P256, oid::OID_NIST_EC_P384, oid::OID_NIST_EC_P521];
        return (!ours.contains(&curve)).then(|| match named(&CURVES, &curve) {
            Some(name) => format!("an EC key on the curve {name}"),
            None => format!("an EC key on the curve {}", curve.to_id_string()),
        });
    }
    if *kind == oid::OID_SIG_ED25519 {
        return None;
    }
    Some(match named(&KEY_KINDS, kind) {
        Some(name) => format!("a key of the kind {name}"),
        None => format!("a key of the kind {}", kind.to_id_string()),
    })
}

/// The digest of a signature, or the whole algorithm, if it is none of ours.
fn unsupported_digest(by: &AlgorithmIdentifier<'_>) -> Option<String> {
    let ours = [
        oid::OID_PKCS1_SHA256WITHRSA,
        oid::OID_PKCS1_SHA384WITHRSA,
        oid::OID_PKCS1_SHA512WITHRSA,
        oid::OID_SIG_ECDSA_WITH_SHA256,
        oid::OID_SIG_ECDSA_WITH_SHA384,
        oid::OID_SIG_ECDSA_WITH_SHA512,
        oid::OID_SIG_ED25519,
    ];
    let algorithm = &by.algorithm;
    if ours.contains(algorithm) {
        return None;
    }
    if *algorithm == oid::OID_PKCS1_RSASSAPSS {
        // Its digest is a parameter, SHA-1 where there is none (RFC 4055 §3.1).
        let params = by.parameters.as_ref().and_then(|p| RsaSsaPssParams::try_from(p).ok());
        let Some(params) = params else { return Some("RSASSA-PSS and SHA-1".to_owned()) };
        let digest = params.hash_algorithm_oid();
        let ours = [
            (oid::OID_NIST_HASH_SHA256, 32),
            (oid::OID_NIST_HASH_SHA384, 48),
            (oid::OID_NIST_HASH_SHA512, 64),
        ];
        let known = ours.iter().find(|(known, _)| known == digest);
        return match (known, params.salt_length()) {
            (Some((_, length)), salt) if salt == *length => None,
            (Some((_, length)), salt) => {
                Some(format!("RSASSA-PSS and a salt of {salt} bytes in place of {length}"))
            }
            (None, _) => Some(match named(&SIGNATURES, digest) {
                Some(name) => format!("RSASSA-PSS and {name}"),
                None => format!("RSASSA-PSS and the digest {}", digest.to_id_string()),
            }),
        };
    }
    Some(match named(&SIGNATURES, algorithm) {
        Some(name) => name.to_owned(),
        None => format!("the algorithm {}", algorithm.to_id_string()),
    })
}

/// How long a number is.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    match number.get(zeros) {
        Some(first) => 8 * (number.len() - zeros) - first.leading_zeros() as usize,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::csr::{Rules, der, read};

    /// Requests that `openssl req` has made, with keys that are gone.
    macro_rules! request {
        ($name:literal) => {
            include_str!(concat!("../../tests/golden/csr/", $name, ".pem"))
        };
    }

    fn refusal(pem: &str) -> Option<String> {
        read(&der(pem).unwrap(), &Rules::default()).err().map(|e| e.to_string())
    }

    /// Regression: all of them were told that their signature does not verify, and RSA of 1024 bits
    /// was signed where the request had been signed with SHA-1.
    #[test]
    fn what_is_not_supported_is_named() {
        for (pem, why) in [
            (request!("dsa"), "it holds a key of the kind DSA, which"),
            (request!("ed448"), "it holds a key of the kind Ed448, which"),
            (request!("ec-secp256k1"), "it holds an EC key on the curve secp256k1, which"),
            (request!("rsa-1024"), "it holds an RSA key of 1024 bits, which"),
            (request!("rsa-md5"), "it is signed with MD5, which"),
            (request!("rsa-sha1"), "it is signed with SHA-1, which"),
            (request!("rsa-sha224"), "it is signed with SHA-224, which"),
            (request!("ec-sha1"), "it is signed with SHA-1, which"),
            (
                request!("pss-salt"),
                "it is signed with RSASSA-PSS and a salt of 222 bytes in place of 32, which",
            ),
            (request!("pss-sha1"), "it is signed with RSASSA-PSS and SHA-1, which"),
        ] {
            let said = refusal(pem).unwrap_or_default();
            assert!(said.starts_with(&format!("Invalid input for field csr: {why}")), "{said}");
            assert!(!said.contains("does not verify"), "{said}");
            assert!(said.contains("P-521") || said.contains("SHA-256, SHA-384"), "{said}");
        }
        for pem in [request!("rsa-sha256"), request!("pss-sha256")] {
            assert_eq!(refusal(pem), None);
        }
    }
}
