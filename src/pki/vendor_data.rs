//! What Nova gives a server on our behalf: a secret that only this server can read.
//!
//! An HMAC (RFC 2104, SHA-256) over the server's id. Nothing is stored, and a server that is
//! rebuilt is given the same again.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::enrolment::EnrolmentKey;
use crate::base::secret::Secret;

/// Makes and verifies the secrets in servers' vendor data.
#[derive(Clone)]
pub struct VendorKey {
    key: hmac::Key,
}

impl VendorKey {
    /// A key of its own, so that neither kind of tag can stand for the other.
    pub fn of(enrolment: &EnrolmentKey) -> Self {
        let key = enrolment.derive("vendor data of servers");
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key[..]) }
    }

    pub fn secret(&self, server: Uuid) -> Secret<String> {
        let tag = hmac::sign(&self.key, server.as_bytes());
        Secret::new(URL_SAFE_NO_PAD.encode(tag))
    }

    /// Whether `secret` is that of a server; in a time that tells nothing.
    pub fn verifies(&self, server: &str, secret: &str) -> bool {
        let (Ok(server), Ok(tag)) = (Uuid::try_parse(server), URL_SAFE_NO_PAD.decode(secret))
        else {
            return false;
        };
        hmac::verify(&self.key, server.as_bytes(), &tag).is_ok()
    }
}

impl std::fmt::Debug for VendorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VendorKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_one_servers_own() {
        let enrolment = EnrolmentKey::new(&[7; 32]);
        let key = VendorKey::of(&enrolment);
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let secret = key.secret(one);
        assert_eq!(secret, VendorKey::of(&enrolment).secret(one), "the same again");
        assert!(key.verifies(&one.to_string(), secret.expose()));
        assert!(key.verifies(&one.to_string().to_uppercase(), secret.expose()));
        assert!(!key.verifies(&two.to_string(), secret.expose()));
        let other = VendorKey::of(&EnrolmentKey::new(&[8; 32]));
        assert!(!other.verifies(&one.to_string(), secret.expose()), "another magnumd");
        // Not with the key of the tokens itself, which tenants are shown tags of.
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]), one.as_bytes());
        assert!(!key.verifies(&one.to_string(), &URL_SAFE_NO_PAD.encode(tag)));
        for odd in ["", "a", "äö", &secret.expose()[1..], &format!("{}A", secret.expose())] {
            assert!(!key.verifies(&one.to_string(), odd), "{odd}");
        }
        assert!(!key.verifies("no server", secret.expose()));
        assert_eq!(format!("{key:?}"), "VendorKey(…)");
    }
}
