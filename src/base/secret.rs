//! Secrets in memory and at rest.
//!
//! [`Secret`] cannot be printed or serialised and is wiped when dropped.
//! [`Sealer`] encrypts with AES-256-GCM and binds every ciphertext to its owner,
//! so that a sealed value moved to another record does not open.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
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

/// A ciphertext: 12 bytes of nonce, the encrypted bytes, 16 bytes of tag. In JSON it is base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Takes bytes for sealed ones, as an export carries them.
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(&STANDARD.encode(&self.0)),
            false => serializer.serialize_newtype_struct("Sealed", &self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Vec::deserialize(deserializer).map(Self);
        }
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Why a sealed value did not open.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a sealed value does not open: wrong sealing key, or the record was tampered with")]
pub struct CannotOpen;

/// Encrypts what must rest on disk.
pub struct Sealer {
    key: LessSafeKey,
    /// See [`Sealer::key_id`].
    key_id: String,
    entropy: Entropy,
}

impl Sealer {
    pub const KEY_BYTES: usize = 32;

    pub fn new(key: &[u8; Self::KEY_BYTES]) -> Self {
        let mut named = digest::Context::new(&digest::SHA256);
        named.update(b"magnumd sealing key id");
        named.update(key);
        let key_id = named.finish().as_ref()[..4].iter().map(|b| format!("{b:02x}")).collect();
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes");
        Self { key: LessSafeKey::new(key), key_id, entropy: Entropy::new() }
    }

    /// Eight digits that tell one key from another and say nothing else of it.
    pub fn key_id(&self) -> &str {
        &self.key_id
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
    fn a_sealed_value_is_base64_in_json_and_as_ever_in_the_state() {
        let sealed = Sealed::from_bytes(vec![1, 2, 255]);
        assert_eq!(serde_json::to_string(&sealed).unwrap(), "\"AQL/\"");
        assert_eq!(serde_json::from_str::<Sealed>("\"AQL/\"").unwrap(), sealed);
        let config = bincode::config::standard();
        let encoded = bincode::serde::encode_to_vec(&sealed, config).unwrap();
        assert_eq!(encoded, [3, 1, 2, 255]);
        let (back, _) = bincode::serde::decode_from_slice::<Sealed, _>(&encoded, config).unwrap();
        assert_eq!(back, sealed);
    }

    #[test]
    fn a_key_has_a_name_of_its_own() {
        let (one, two) = (Sealer::new(&[7; 32]), Sealer::new(&[8; 32]));
        assert_eq!(one.key_id(), Sealer::new(&[7; 32]).key_id());
        assert_ne!(one.key_id(), two.key_id());
    }

    #[test]
    fn a_secret_prints_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".to_owned())), "Secret(…)");
    }
}
