//! IPv4 networks, as labels and templates speak of them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

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

    /// How many networks of a prefix `length` fit in; none are larger than itself.
    pub fn subnets(self, length: u32) -> u64 {
        match length.checked_sub(u32::from(self.prefix)) {
            Some(bits) if length <= 32 => 1 << bits,
            _ => 0,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let net: Cidr = "10.254.0.0/16".parse().unwrap();
        assert_eq!(net.host(10).unwrap().to_string(), "10.254.0.10");
        assert!(net.overlaps("10.254.7.0/24".parse().unwrap()));
        assert!(!net.overlaps("10.100.0.0/16".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Cidr>().unwrap().overlaps(net));
        assert_eq!("10.0.0.0/30".parse::<Cidr>().unwrap().host(4), None);
        assert_eq!((net.subnets(24), net.subnets(16), net.subnets(15)), (256, 1, 0));
        assert_eq!(net.subnets(33), 0);
        assert_eq!("0.0.0.0/0".parse::<Cidr>().unwrap().subnets(32), 1 << 32);
        for bad in ["10.0.0.0", "10.0.0.0/33", "::/0", "10.0.0.0/-1", "10.0.0.0/24/1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
