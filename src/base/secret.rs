//! Secrets in memory and at rest.
//!
//! [`Secret`] cannot be printed or serialised and is wiped when dropped.
//! [`Sealer`] encrypts with AES-256-GCM and binds every ciphertext to its owner,
//! so that a sealed value moved to another record does not open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Deserializer};
use zeroize::{Zeroize, Zeroizing};

use super::id::Entropy;

/// A value that is never shown; use [`Secret::expose`] where it must leave.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret<String> {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for Secret<String> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// A ciphertext: 12 bytes of nonce, the encrypted bytes, 16 bytes of tag.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sealed(Vec<u8>);

/// Why a sealed value did not open.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a sealed value does not open: wrong sealing key, or the record was tampered with")]
pub struct CannotOpen;

/// Encrypts what must rest on disk.
pub struct Sealer {
    key: LessSafeKey,
    entropy: Entropy,
}

impl Sealer {
    pub const KEY_BYTES: usize = 32;

    pub fn new(key: &[u8; Self::KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes");
        Self { key: LessSafeKey::new(key), entropy: Entropy::new() }
    }

    /// Encrypts `plain` for `owner`, which must be given again to open it.
    pub fn seal(&self, owner: &str, plain: &[u8]) -> Sealed {
        let nonce: [u8; NONCE_LEN] = self.entropy.bytes();
        let mut out = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(owner),
                &mut out[NONCE_LEN..],
            )
            .expect("AES-GCM seals any value of this size");
        out.extend_from_slice(tag.as_ref());
        Sealed(out)
    }

    pub fn open(&self, owner: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, CannotOpen> {
        let (nonce, body) = sealed.0.split_at_checked(NONCE_LEN).ok_or(CannotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| CannotOpen)?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(owner), &mut body)
            .map_err(|_| CannotOpen)?
            .len();
        body.truncate(plain);
        Ok(body)
    }

    /// Like [`Sealer::open`] for what was sealed as text.
    pub fn open_text(&self, owner: &str, sealed: &Sealed) -> Result<Secret<String>, CannotOpen> {
        let plain = self.open(owner, sealed)?;
        let text = std::str::from_utf8(&plain).map_err(|_| CannotOpen)?;
        Ok(Secret::new(text.to_owned()))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_its_owner_only() {
        let sealer = Sealer::new(&[7; 32]);
        let sealed = sealer.seal("credential/1", b"hunter2");
        assert_eq!(&*sealer.open("credential/1", &sealed).unwrap(), b"hunter2");
        assert_eq!(sealer.open("credential/2", &sealed), Err(CannotOpen));
        assert_eq!(Sealer::new(&[8; 32]).open("credential/1", &sealed), Err(CannotOpen));
        assert_eq!(sealer.open("x", &Sealed(vec![1, 2])), Err(CannotOpen));
    }

    #[test]
    fn a_secret_prints_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "Secret(…)");
    }
}
