//! Labels read as typed settings.
//!
//! A value of the wrong type is refused with a sentence that names label, value and cure. A
//! label nobody reads is tolerated, as Magnum does; an empty value counts as none.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::DriverError;
use crate::model::labels::Labels;

/// Reads one set of labels.
#[derive(Clone, Copy, Debug)]
pub struct LabelReader<'l>(pub &'l Labels);

impl<'l> LabelReader<'l> {
    pub fn text(&self, name: &str) -> Option<&'l str> {
        self.0.get(name).map(str::trim).filter(|text| !text.is_empty())
    }

    pub fn whole(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, DriverError> {
        self.parsed(
            name,
            |text| text.parse().ok().filter(|n| range.contains(n)),
            || format!("a whole number from {} to {}", range.start(), range.end()),
        )
    }

    /// In the spellings that OpenStack takes for true and false.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, DriverError> {
        let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
            _ => None,
        };
        self.parsed(name, parse, || "true or false".to_owned())
    }

    pub fn choice(
        &self,
        name: &str,
        allowed: &[&'static str],
    ) -> Result<Option<&'static str>, DriverError> {
        self.parsed(
            name,
            |text| allowed.iter().copied().find(|a| *a == text),
            || format!("one of {}", allowed.join(", ")),
        )
    }

    pub fn cidr(&self, name: &str) -> Result<Option<Cidr>, DriverError> {
        self.parsed(
            name,
            |text| text.parse().ok(),
            || "an IPv4 network such as 10.0.0.0/24, without bits set after the prefix".to_owned(),
        )
    }

    /// A comma list; none when the label is not set.
    pub fn cidrs(&self, name: &str) -> Result<Vec<Cidr>, DriverError> {
        let parse = |text: &str| {
            text.split(',')
                .map(str::trim)
                .filter(|t| !t.is_empty())
                .map(|t| t.parse().ok())
                .collect()
        };
        let what = || "a comma list of IPv4 networks such as 192.0.2.0/24,10.0.0.0/8".to_owned();
        Ok(self.parsed(name, parse, what)?.unwrap_or_default())
    }

    /// The tag of a container image.
    pub fn tag(&self, name: &str) -> Result<Option<&'l str>, DriverError> {
        let fits = |text: &&str| {
            text.len() <= 128
                && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        self.parsed(
            name,
            |text| Some(text).filter(fits),
            || "the tag of a container image: letters, digits, '.', '_', '-'".to_owned(),
        )
    }

    /// What stands before image names; ends with a slash.
    pub fn image_prefix(&self, name: &str) -> Result<Option<&'l str>, DriverError> {
        let fits = |text: &&str| {
            text.len() <= 255
                && text.ends_with('/')
                && text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:/".contains(&b))
        };
        self.parsed(
            name,
            |text| Some(text).filter(fits),
            || {
                "a registry and path that ends with '/', such as registry.example.org/magnum/"
                    .to_owned()
            },
        )
    }

    /// Such as `90s`, `4m` or `1h`, in seconds.
    pub fn seconds(
        &self,
        name: &str,
        range: RangeInclusive<u32>,
    ) -> Result<Option<u32>, DriverError> {
        let parse = |text: &str| {
            let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
                Some(at) => text.split_at(at),
                None => (text, "s"),
            };
            let factor = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            };
            digits.parse::<u32>().ok()?.checked_mul(factor).filter(|n| range.contains(n))
        };
        self.parsed(name, parse, || {
            format!("a time such as 90s or 4m, from {} s to {} s", range.start(), range.end())
        })
    }

    /// Free text for another service: of limited length and without control characters.
    pub fn plain(&self, name: &str) -> Result<Option<&'l str>, DriverError> {
        let fits = |text: &&str| text.len() <= 255 && !text.contains(|c: char| c.is_control());
        self.parsed(
            name,
            |text| Some(text).filter(fits),
            || "at most 255 characters, none of them a control character".to_owned(),
        )
    }

    pub fn kube_version(&self, name: &str) -> Result<Option<KubeVersion>, DriverError> {
        self.parsed(
            name,
            |text| text.parse().ok(),
            || "a Kubernetes version such as v1.31.4".to_owned(),
        )
    }

    fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&'l str) -> Option<T>,
        what: impl FnOnce() -> String,
    ) -> Result<Option<T>, DriverError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| invalid(name, text, &what()))
    }
}

/// The sentence for a label that cannot be honoured.
pub fn invalid(label: &str, value: &str, cure: &str) -> DriverError {
    DriverError::Unsuitable(format!(
        "Invalid input for label {label}. Value: '{value}'. It must be {cure}."
    ))
}

/// An IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: u32,
    pub prefix: u8,
}

impl Cidr {
    pub fn overlaps(self, other: Self) -> bool {
        let mask = mask(self.prefix.min(other.prefix));
        self.network & mask == other.network & mask
    }

    /// The address at position `n`; 0 is the network itself.
    pub fn host(self, n: u32) -> Option<Ipv4Addr> {
        let address = self.network.checked_add(n)?;
        (address & mask(self.prefix) == self.network).then(|| Ipv4Addr::from(address))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = text.split_once('/').ok_or(())?;
        let network = u32::from(address.parse::<Ipv4Addr>().map_err(|_| ())?);
        let prefix: u8 = prefix.parse().map_err(|_| ())?;
        let aligned = prefix <= 32 && network & !mask(prefix) == 0;
        if aligned { Ok(Self { network, prefix }) } else { Err(()) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.prefix)
    }
}

/// A Kubernetes version: `v1.`, two numbers, perhaps a distributor's suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeVersion {
    pub minor: u32,
    pub patch: u32,
    text: String,
}

impl KubeVersion {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether both mean the same release, whatever their suffixes say.
    pub fn same_release(&self, other: &Self) -> bool {
        (self.minor, self.patch) == (other.minor, other.patch)
    }
}

impl FromStr for KubeVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (minor, rest) = text.strip_prefix("v1.").and_then(|t| t.split_once('.')).ok_or(())?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (patch, suffix) = rest.split_at(end);
        let plain = suffix.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b));
        if !plain || text.len() > 64 || minor.starts_with('+') {
            return Err(());
        }
        let number = |digits: &str| digits.parse().map_err(|_| ());
        Ok(Self { minor: number(minor)?, patch: number(patch)?, text: text.to_owned() })
    }
}

impl fmt::Display for KubeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_typed_or_refused_with_label_value_and_cure() {
        let labels = Labels::from_iter([
            ("n", "12"),
            ("big", "99"),
            ("yes", "True"),
            ("maybe", "maybe"),
            ("kind", "static"),
            ("net", "10.1.0.0/16"),
            ("skew", "10.1.0.1/16"),
            ("nets", "10.0.0.0/8, 192.0.2.0/24"),
            ("prefix", "registry.example.org"),
            ("wait", "4m"),
            ("empty", " "),
        ]);
        let read = LabelReader(&labels);
        assert_eq!(read.whole("n", 1..=50), Ok(Some(12)));
        assert_eq!(read.whole("absent", 1..=50), Ok(None));
        assert_eq!(read.whole("empty", 1..=50), Ok(None));
        assert_eq!(
            read.whole("big", 1..=50).unwrap_err().to_string(),
            "Invalid input for label big. Value: '99'. It must be a whole number from 1 to 50."
        );
        assert_eq!(read.flag("yes"), Ok(Some(true)));
        assert!(read.flag("maybe").unwrap_err().to_string().contains("true or false"));
        assert_eq!(read.choice("kind", &["static", "discovery"]), Ok(Some("static")));
        assert!(read.choice("n", &["static"]).is_err());
        assert_eq!(read.cidr("net").unwrap().unwrap().to_string(), "10.1.0.0/16");
        assert!(read.cidr("skew").is_err());
        assert_eq!(read.cidrs("nets").unwrap().len(), 2);
        assert!(read.image_prefix("prefix").unwrap_err().to_string().contains("ends with '/'"));
        assert_eq!(read.seconds("wait", 60..=3600), Ok(Some(240)));
    }

    #[test]
    fn versions() {
        let v: KubeVersion = "v1.31.4".parse().unwrap();
        assert_eq!((v.minor, v.patch), (31, 4));
        assert!(v.same_release(&"v1.31.4-vendor1".parse().unwrap()));
        for bad in ["1.31.4", "v1.31", "v2.0.0", "v1.31.x", "v1.31.4$(x)", "v1.+1.2", "v1..", ""] {
            assert!(bad.parse::<KubeVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn networks() {
        let net: Cidr = "10.254.0.0/16".parse().unwrap();
        assert_eq!(net.host(10).unwrap().to_string(), "10.254.0.10");
        assert!(net.overlaps("10.254.7.0/24".parse().unwrap()));
        assert!(!net.overlaps("10.100.0.0/16".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().overlaps(net));
        assert_eq!("10.0.0.0/30".parse::<Cidr>().unwrap().host(4), None);
        for bad in ["10.0.0.0", "10.0.0.0/33", "::/0", "10.0.0.0/-1", "10.0.0.0/24/1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
