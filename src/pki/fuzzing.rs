//! Parsers of what clients and operators give as PEM, for fuzzing by coverage.

use std::sync::LazyLock;
use std::time::Duration;

use super::authority::{Authority, Leaf};
use super::csr::Rules;
use super::{KeyPairPem, enrolment, expiry, listener};
use crate::base::clock::Timestamp;
use crate::base::http::tls;
use crate::base::id::Entropy;
use crate::base::secret::Secret;

static AUTHORITY: LazyLock<KeyPairPem> = LazyLock::new(|| {
    listener::authority(Timestamp::from_micros(0), &Entropy::new()).expect("a key can be drawn")
});

/// A certificate request in PEM, signed as a tenant's and as a node's.
pub fn csr(data: &[u8]) {
    let Ok(request) = std::str::from_utf8(data) else { return };
    let (now, entropy) = (Timestamp::from_micros(0), Entropy::new());
    let authority = Authority::load(&AUTHORITY.pem, &AUTHORITY.key);
    let authority = authority.expect("our own authority");
    let day = Duration::from_secs(86_400);
    let _refused = authority.sign(request, &Rules::default(), day, now, &entropy);
    let _refused = authority.issue(request, &Leaf::default(), day, now, &entropy);
}

/// Certificates and keys in PEM.
pub fn pem(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _end = expiry(text);
    let _count = tls::authorities(text);
    let _refused = tls::server_config(text, text);
    let _refused = tls::mutual_client_config(text, text, &Secret::new(text.to_owned()));
    let _refused = Authority::load(text, &Secret::new(text.to_owned()));
}

/// A token of user data.
pub fn enrolment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let key = enrolment::EnrolmentKey::new(&[7; enrolment::EnrolmentKey::BYTES]);
    assert!(key.verify(text, Timestamp::from_micros(0)).is_none(), "a forged token");
}
