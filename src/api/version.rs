//! Microversions: which one a request means, and what it may ask of it.

use std::fmt;

use hyper::header::{HeaderMap, HeaderName, HeaderValue, VARY};

/// A version of the form 1.x or another that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

pub const MIN: Version = Version::of(1);
pub const MAX: Version = Version::of(14);

pub(super) const ASKED: HeaderName = HeaderName::from_static("openstack-api-version");
const MINIMUM: HeaderName = HeaderName::from_static("openstack-api-minimum-version");
const MAXIMUM: HeaderName = HeaderName::from_static("openstack-api-maximum-version");
const SERVICE: &str = "container-infrastructure-management";

impl Version {
    /// 1.`minor`
    pub const fn of(minor: u32) -> Self {
        Self { major: 1, minor }
    }

    /// `actions/resize` exists.
    pub const RESIZE: Self = Self::of(7);
    /// `actions/upgrade` works.
    pub const UPGRADE: Self = Self::of(8);
    /// Node groups are shown.
    pub const NODEGROUPS: Self = Self::of(9);
    /// No workers at all are allowed; an unknown template is 404.
    pub const ZERO_NODES: Self = Self::of(10);
    /// Credentials can be rotated.
    pub const CREDENTIALS: Self = Self::of(12);
    /// Clusters show `cluster_id` in place of `stack_id`.
    pub const CLUSTER_ID: Self = Self::of(13);
    /// Node groups have labels and taints.
    pub const NODE_LABELS: Self = Self::of(14);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version that serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub version: Version,
    /// Whether the client named one at all; without a header 1.1 is meant, but clients
    /// that send none are not held to what 1.1 could not do yet.
    pub explicit: bool,
}

impl Asked {
    /// Whether the client said that it speaks an older version than this one.
    pub fn is_explicitly_before(self, version: Version) -> bool {
        self.explicit && self.version < version
    }
}

/// Why no version can serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    #[error(
        "Version {0} was requested but the minor version is not supported by this service. \
         The supported version range is: [{SERVICE} {MIN}, {SERVICE} {MAX}]."
    )]
    OutOfRange(Version),
    #[error("{0}")]
    Malformed(&'static str),
}

const BAD_VALUE: VersionError =
    VersionError::Malformed("Invalid value for OpenStack-API-Version header");
const BAD_SERVICE: VersionError =
    VersionError::Malformed("Invalid service type for OpenStack-API-Version header");

/// Reads `OpenStack-API-Version: <service> <X.Y or latest>`.
pub fn negotiate(headers: &HeaderMap) -> Result<Asked, VersionError> {
    let Some(header) = headers.get(ASKED) else {
        return Ok(Asked { version: MIN, explicit: false });
    };
    parse(header.to_str().map_err(|_| BAD_VALUE)?)
}

fn parse(header: &str) -> Result<Asked, VersionError> {
    let mut words = header.split_ascii_whitespace();
    let (service, number) = match (words.next(), words.next(), words.next()) {
        (Some(service), Some(number), None) => (service, number),
        _ => return Err(BAD_SERVICE),
    };
    // Upstream looks at the service only when it sees a number.
    if number.eq_ignore_ascii_case("latest") {
        return Ok(Asked { version: MAX, explicit: true });
    }
    let services = ["container-infra", "container-infrastructure", SERVICE];
    if !services.contains(&service) {
        return Err(BAD_SERVICE);
    }
    let (major, minor) = number.split_once('.').ok_or(BAD_VALUE)?;
    let version = Version { major: digits(major)?, minor: digits(minor)? };
    match (MIN..=MAX).contains(&version) {
        true => Ok(Asked { version, explicit: true }),
        false => Err(VersionError::OutOfRange(version)),
    }
}

fn digits(text: &str) -> Result<u32, VersionError> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match plain && (text == "0" || !text.starts_with('0')) {
        true => text.parse().map_err(|_| BAD_VALUE),
        false => Err(BAD_VALUE),
    }
}

/// Tells the client what was served and what could have been.
pub fn announce(headers: &mut HeaderMap, served: Option<Version>) {
    const LOWEST: HeaderValue = HeaderValue::from_static("container-infrastructure-management 1.1");
    const HIGHEST: HeaderValue =
        HeaderValue::from_static("container-infrastructure-management 1.14");
    headers.insert(MINIMUM, LOWEST);
    headers.insert(MAXIMUM, HIGHEST);
    headers.insert(VARY, HeaderValue::from_static("OpenStack-API-Version"));
    if let Some(version) = served
        && let Ok(value) = HeaderValue::try_from(format!("{SERVICE} {version}"))
    {
        headers.insert(ASKED, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_negotiated_as_upstream_does() {
        let good = |minor| Ok(Asked { version: Version::of(minor), explicit: true });
        let out = |major, minor| Err(VersionError::OutOfRange(Version { major, minor }));
        let table = [
            ("container-infra 1.1", good(1)),
            ("container-infrastructure 1.9", good(9)),
            ("container-infrastructure-management 1.14", good(14)),
            ("container-infra latest", good(14)),
            ("container-infra LATEST", good(14)),
            ("compute latest", good(14)),
            ("container-infra 1.0", out(1, 0)),
            ("container-infra 1.15", out(1, 15)),
            ("container-infra 2.0", out(2, 0)),
            ("container-infra 9.99", out(9, 99)),
            ("container-infra x.y", Err(BAD_VALUE)),
            ("container-infra 1", Err(BAD_VALUE)),
            ("container-infra 01.1", Err(BAD_VALUE)),
            ("container-infra 1.99999999999", Err(BAD_VALUE)),
            ("compute 1.1", Err(BAD_SERVICE)),
            ("container-infra ", Err(BAD_SERVICE)),
            ("1.3", Err(BAD_SERVICE)),
            ("compute 2.1, container-infra 1.5", Err(BAD_SERVICE)),
            ("", Err(BAD_SERVICE)),
        ];
        for (header, expected) in table {
            assert_eq!(parse(header), expected, "{header}");
        }
        let none = negotiate(&HeaderMap::new()).unwrap();
        assert_eq!(none, Asked { version: MIN, explicit: false });
    }

    #[test]
    fn the_headers_agree_with_the_constants() {
        let mut headers = HeaderMap::new();
        announce(&mut headers, Some(MAX));
        assert_eq!(headers[MAXIMUM], headers[ASKED]);
        announce(&mut headers, Some(MIN));
        assert_eq!(headers[MINIMUM], headers[ASKED]);
    }

    proptest! {
        #[test]
        fn no_header_panics(bytes in proptest::collection::vec(0x20_u8..=0xff, 0..40)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.insert(ASKED, value);
                if let Ok(asked) = negotiate(&headers) {
                    prop_assert!(asked.version >= MIN && asked.version <= MAX);
                }
            }
        }

        #[test]
        fn no_service_and_number_panics(text in "(container-infra|compute)? ?[0-9a-z.]{0,14}") {
            let _ = parse(&text);
        }
    }
}
