//! Enrolment tokens: what a server presents before it is anybody.
//!
//! A token says for which cluster, group and role it was made, and until when; an HMAC
//! (RFC 2104, SHA-256) makes it ours. Nothing is stored: the key is, once.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::model::ClusterId;

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    pub cluster: ClusterId,
    pub nodegroup: String,
    /// `master` or `worker`.
    pub role: String,
    /// The only node that may use it; none for tokens that a group of workers shares.
    pub node: Option<String>,
    pub expires_at: Timestamp,
}

/// Mints and verifies tokens.
#[derive(Clone)]
pub struct EnrolmentKey {
    key: hmac::Key,
}

/// The claims as they travel: short names, because every server's user data carries them.
#[derive(Serialize, Deserialize)]
struct Claims {
    c: Uuid,
    g: String,
    r: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    e: Timestamp,
}

impl EnrolmentKey {
    pub const BYTES: usize = 32;

    pub fn new(key: &[u8; Self::BYTES]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key) }
    }

    /// A key for another purpose, from which this one cannot be found.
    pub(super) fn derive(&self, purpose: &str) -> Zeroizing<[u8; Self::BYTES]> {
        // No token begins like this: claims are JSON.
        let tag = hmac::sign(&self.key, format!("magnumd: {purpose}").as_bytes());
        let mut key = Zeroizing::new([0; Self::BYTES]);
        key.copy_from_slice(tag.as_ref());
        key
    }

    /// The same enrolment gives the same token: rendering twice changes no server.
    pub fn mint(&self, enrolment: &Enrolment) -> Secret<String> {
        let claims = Claims {
            c: enrolment.cluster.uuid(),
            g: enrolment.nodegroup.clone(),
            r: enrolment.role.clone(),
            n: enrolment.node.clone(),
            e: enrolment.expires_at,
        };
        let text = serde_json::to_vec(&claims).expect("claims are plain data");
        let tag = hmac::sign(&self.key, &text);
        Secret::new(format!("{}.{}", URL_SAFE_NO_PAD.encode(text), URL_SAFE_NO_PAD.encode(tag)))
    }

    /// Whom a token speaks for; None when it is forged, damaged or expired.
    pub fn verify(&self, token: &str, now: Timestamp) -> Option<Enrolment> {
        let (text, tag) = token.split_once('.')?;
        let (text, tag) = (URL_SAFE_NO_PAD.decode(text).ok()?, URL_SAFE_NO_PAD.decode(tag).ok()?);
        hmac::verify(&self.key, &text, &tag).ok()?;
        let claims: Claims = serde_json::from_slice(&text).ok()?;
        (now < claims.e).then(|| Enrolment {
            cluster: ClusterId::new(claims.c),
            nodegroup: claims.g,
            role: claims.r,
            node: claims.n,
            expires_at: claims.e,
        })
    }
}

impl std::fmt::Debug for EnrolmentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnrolmentKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_stable_and_cannot_be_bent() {
        let key = EnrolmentKey::new(&[7; 32]);
        let now = Timestamp::from_micros(1_000);
        let enrolment = Enrolment {
            cluster: ClusterId::new(Uuid::from_u128(9)),
            nodegroup: "default-master".to_owned(),
            role: "master".to_owned(),
            node: Some("k1-aaaa-master-0".to_owned()),
            expires_at: Timestamp::from_micros(2_000),
        };
        let token = key.mint(&enrolment);
        assert_eq!(token, key.mint(&enrolment));
        assert_eq!(key.verify(token.expose(), now), Some(enrolment.clone()));
        assert_eq!(key.verify(token.expose(), enrolment.expires_at), None, "expired");
        assert_eq!(EnrolmentKey::new(&[8; 32]).verify(token.expose(), now), None);
        let worker = key.mint(&Enrolment { role: "worker".to_owned(), ..enrolment });
        let (text, _) = worker.expose().split_once('.').unwrap();
        let (_, tag) = token.expose().split_once('.').unwrap();
        assert_eq!(key.verify(&format!("{text}.{tag}"), now), None, "claims of another");
        for odd in ["", ".", "a.b", "äö.ü", &"x".repeat(10_000)] {
            assert_eq!(key.verify(odd, now), None);
        }
    }
}
