//! IPv4 prefixes: reading, overlapping, handing out.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A network prefix; the address holds no host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cidr {
    base: u32,
    bits: u32,
}

impl Cidr {
    const fn size(self) -> u64 {
        1 << (32 - self.bits)
    }

    fn at(self, offset: u64) -> Ipv4Addr {
        let offset = u32::try_from(offset.min(self.size() - 1)).unwrap_or(u32::MAX);
        Ipv4Addr::from_bits(self.base | offset)
    }

    pub fn first_host(self) -> Ipv4Addr {
        self.at(1)
    }

    /// First and last address that a host may have.
    pub fn hosts(self) -> (Ipv4Addr, Ipv4Addr) {
        (self.at(1), self.at(self.size().saturating_sub(2)))
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        u64::from(address.to_bits()).wrapping_sub(u64::from(self.base)) < self.size()
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.at(0)) || other.contains(self.at(0))
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a valid IPv4 subnet.");
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let bits: u32 = bits.parse().map_err(|_| wrong())?;
        if !(1..=30).contains(&bits) {
            return Err(wrong());
        }
        Ok(Self { base: address.to_bits() & (u32::MAX << (32 - bits)), bits })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.base), self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_compared_and_refused() {
        let cidr: Cidr = "10.0.0.77/24".parse().unwrap();
        assert_eq!(cidr.to_string(), "10.0.0.0/24");
        assert_eq!(cidr.hosts(), ([10, 0, 0, 1].into(), [10, 0, 0, 254].into()));
        assert!(cidr.contains([10, 0, 0, 255].into()) && !cidr.contains([10, 0, 1, 0].into()));
        assert!(cidr.overlaps("10.0.0.0/8".parse().unwrap()));
        assert!("10.0.0.0/8".parse::<Cidr>().unwrap().overlaps(cidr));
        assert!(!cidr.overlaps("10.0.1.0/24".parse().unwrap()));
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/0", "fd00::/64", "a/24"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }
}
