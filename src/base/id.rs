//! Identifiers and the dice they are drawn with.

use std::fmt;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use uuid::Uuid;

use super::clock::Timestamp;

/// Randomness as an argument; the system's, so it suits keys and tokens.
#[derive(Clone, Debug, Default)]
pub struct Entropy {
    system: SystemRandom,
}

impl Entropy {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.system.fill(&mut out).expect("the operating system provides randomness");
        out
    }

    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// The id of a record made at `now`: a UUID of version 7 (RFC 9562). What was made one after
    /// the other lies side by side in the state file, so that a page of a list is read from few
    /// places of it, however many records there are.
    pub fn record_id(&self, now: Timestamp) -> Uuid {
        let millis = u64::try_from(now.micros() / 1000).unwrap_or_default();
        uuid::Builder::from_unix_timestamp_millis(millis, &self.bytes()).into_uuid()
    }

    /// 128 bits as 32 lower-case hex digits.
    pub fn hex_token(&self) -> String {
        self.uuid_bytes_hex()
    }

    /// `req-` and a UUID, as every service of OpenStack names its requests.
    pub fn request_id(&self) -> String {
        format!("req-{}", self.uuid())
    }

    /// A password of 32 letters and digits (190 bits), safe in any shell or URL.
    pub fn password(&self) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut out = String::with_capacity(32);
        while out.len() < 32 {
            let drawn: [u8; 32] = self.bytes();
            // Values from 248 on would favour the first letters: 248 is 4 × 62.
            let fair = drawn.iter().filter(|b| **b < 248).map(|b| ALPHABET[usize::from(*b) % 62]);
            out.extend(fair.map(char::from).take(32 - out.len()));
        }
        out
    }

    /// A number in `0.0..1.0`, for jitter.
    pub fn fraction(&self) -> f64 {
        f64::from(u32::from_be_bytes(self.bytes())) / (f64::from(u32::MAX) + 1.0)
    }

    fn uuid_bytes_hex(&self) -> String {
        Uuid::from_bytes(self.bytes()).simple().to_string()
    }
}

/// When [`Entropy::record_id`] drew this id, in milliseconds since 1970. None for any other id,
/// such as one that a client has chosen.
pub fn drawn_at(id: Uuid) -> Option<u64> {
    let is_ours = id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122;
    is_ours.then(|| (id.as_u128() >> 80) as u64)
}

/// Twelve lower-case base32 letters taken from a UUID.
///
/// Derived, never drawn: whoever knows the UUID can name the same thing again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShortId([u8; 12]);

impl ShortId {
    pub fn of(id: Uuid) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        // The last 60 bits: UUIDs have version, variant and time before them.
        let bits = id.as_u128();
        Self(std::array::from_fn(|i| ALPHABET[(bits >> (55 - 5 * i)) as usize & 31]))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base32 is ASCII")
    }
}

impl fmt::Display for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ShortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_id_is_stable_and_differs() {
        let entropy = Entropy::new();
        let (a, b) = (entropy.uuid(), entropy.uuid());
        assert_eq!(ShortId::of(a), ShortId::of(a));
        assert_ne!(ShortId::of(a), ShortId::of(b));
        assert_eq!(ShortId::of(Uuid::nil()).as_str(), "aaaaaaaaaaaa");
        assert_eq!(ShortId::of(Uuid::from_u128(31)).as_str(), "aaaaaaaaaaa7");
    }

    #[test]
    fn ids_of_records_are_in_order_of_making_and_differ_at_one_moment() {
        let entropy = Entropy::new();
        let at = |millis: i64| Timestamp::from_micros(millis * 1000);
        let (early, late) =
            (entropy.record_id(at(1_764_000_000_000)), entropy.record_id(at(1_764_000_000_001)));
        assert!(early < late);
        assert_eq!((early.get_version_num(), early.get_variant()), (7, uuid::Variant::RFC4122));
        assert_eq!(drawn_at(late), Some(1_764_000_000_001));
        assert_eq!(drawn_at(entropy.uuid()), None);
        assert_eq!(drawn_at(Uuid::max()), None);
        let (a, b) = (entropy.record_id(at(7)), entropy.record_id(at(7)));
        assert_ne!((a, ShortId::of(a)), (b, ShortId::of(b)));
    }

    #[test]
    fn passwords_have_their_length_and_alphabet() {
        let password = Entropy::new().password();
        assert_eq!(password.len(), 32);
        assert!(password.bytes().all(|b| b.is_ascii_alphanumeric()));
    }
}
