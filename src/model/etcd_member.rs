//! What an etcd member says of itself: `name=url[,name=url…]`, as in `--initial-cluster`.

use std::net::{IpAddr, SocketAddr};

/// Most peer URLs of one member, and most bytes of all it says.
const MOST_URLS: usize = 4;
const MOST_BYTES: usize = 2048;

/// Why a member's value is not taken; the sentence ends up in the member's own log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub String);

/// A value that has been read: one name and where that member listens for its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberValue {
    text: String,
    name: String,
    peers: Vec<SocketAddr>,
}

impl MemberValue {
    /// Reads a value. Hosts must be addresses that another machine can reach;
    /// `allow_loopback` is for labs in which all members live on this one.
    pub fn parse(text: &str, allow_loopback: bool) -> Result<Self, BadValue> {
        if text.len() > MOST_BYTES {
            let length = text.len();
            return Err(BadValue(format!(
                "value has {length} bytes; at most {MOST_BYTES} are taken"
            )));
        }
        if !text.bytes().all(|b| (0x21..=0x7e).contains(&b)) {
            return Err(BadValue("value holds spaces or characters that are not ASCII".to_owned()));
        }
        let mut name = None;
        let mut peers = Vec::new();
        for part in text.split(',') {
            let (this, url) = part.split_once('=').ok_or_else(|| {
                BadValue(format!("'{}' is not name=http://ADDRESS:PORT", shown(part)))
            })?;
            if !is_member_name(this) {
                return Err(BadValue(format!(
                    "member name '{}' is not 1 to 253 of letters, digits, '.', '_' and '-'",
                    shown(this)
                )));
            }
            if *name.get_or_insert(this) != this {
                return Err(BadValue("value names more than one member".to_owned()));
            }
            let peer = peer(url, allow_loopback)?;
            if peers.contains(&peer) {
                return Err(BadValue(format!("peer URL '{}' is given twice", shown(url))));
            }
            peers.push(peer);
        }
        if peers.len() > MOST_URLS {
            return Err(BadValue(format!("value has more than {MOST_URLS} peer URLs")));
        }
        let name = name.expect("a split has at least one part").to_owned();
        Ok(Self { text: text.to_owned(), name, peers })
    }

    /// The value exactly as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The peers' addresses; an IPv4 address in IPv6 clothes is shown as IPv4.
    pub fn peers(&self) -> &[SocketAddr] {
        &self.peers
    }
}

fn is_member_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn peer(url: &str, allow_loopback: bool) -> Result<SocketAddr, BadValue> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    // A zone such as %eth0 means nothing to another machine.
    let address = rest.filter(|r| !r.contains('%')).and_then(|r| r.parse::<SocketAddr>().ok());
    let Some(address) = address.filter(|a| a.port() != 0) else {
        return Err(BadValue(format!(
            "peer URL '{}' is not http or https with a literal address, a port and nothing else",
            shown(url)
        )));
    };
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    if is_reachable(address.ip()) || allow_loopback && address.ip().is_loopback() {
        return Ok(address);
    }
    Err(BadValue(format!("peer URL '{}': other members cannot reach that address", shown(url))))
}

/// Not loopback, link-local (the metadata service is), multicast, broadcast or unspecified.
fn is_reachable(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(v4) => {
            v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(special || address.is_loopback() || address.is_multicast() || address.is_unspecified())
}

/// Whether `address` lies in `cidr`; None when `cidr` is not one.
pub fn is_inside(cidr: &str, address: IpAddr) -> Option<bool> {
    let (network, length) = cidr.split_once('/')?;
    let network: IpAddr = network.parse().ok()?;
    let length: u32 = length.parse().ok()?;
    let (network_bits, address_bits, width) = match (network, address) {
        (IpAddr::V4(n), IpAddr::V4(a)) => (u128::from(n.to_bits()), u128::from(a.to_bits()), 32),
        (IpAddr::V6(n), IpAddr::V6(a)) => (n.to_bits(), a.to_bits(), 128),
        _ => return Some(false),
    };
    if length > width {
        return None;
    }
    Some((network_bits ^ address_bits).checked_shr(width - length).unwrap_or(0) == 0)
}

/// The beginning of something a stranger wrote.
fn shown(text: &str) -> &str {
    text.get(..80).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_that_etcd_sends() {
        let one = MemberValue::parse("m1=http://10.0.0.11:2380", false).unwrap();
        assert_eq!(one.name(), "m1");
        assert_eq!(one.peers(), ["10.0.0.11:2380".parse().unwrap()]);
        let two = "k1-master-0=https://10.0.0.11:2380,k1-master-0=https://[fd00::1]:2380";
        let two = MemberValue::parse(two, false).unwrap();
        assert_eq!(two.peers().len(), 2);
        assert!(MemberValue::parse("m1=http://127.0.0.1:2380", true).is_ok());
    }

    #[test]
    fn values_that_nobody_may_register() {
        for bad in [
            "",
            "m1",
            "m1=",
            "=http://10.0.0.1:2380",
            "m 1=http://10.0.0.1:2380",
            "m1=http://10.0.0.1:2380\n",
            "m1=http://10.0.0.1:2380,",
            "m1=http://10.0.0.1:2380,m1=http://10.0.0.1:2380",
            "m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380",
            "m1=http://10.0.0.1",
            "m1=http://10.0.0.1:0",
            "m1=http://10.0.0.1:2380/",
            "m1=http://10.0.0.1:2380/path",
            "m1=http://user@10.0.0.1:2380",
            "m1=http://master.example.org:2380",
            "m1=unix://10.0.0.1:2380",
            "m1=HTTP://10.0.0.1:2380",
            "m1=http://127.0.0.1:2380",
            "m1=http://[::1]:2380",
            "m1=http://[::ffff:127.0.0.1]:2380",
            "m1=http://169.254.169.254:80",
            "m1=http://[fe80::1]:2380",
            "m1=http://[fd00::1%1]:2380",
            "m1=http://224.0.0.1:2380",
            "m1=http://0.0.0.0:2380",
            "m1=http://255.255.255.255:2380",
        ] {
            assert!(MemberValue::parse(bad, false).is_err(), "{bad}");
        }
        let five: Vec<String> = (1..=5).map(|i| format!("m=http://10.0.0.{i}:2380")).collect();
        assert!(MemberValue::parse(&five.join(","), false).is_err());
        assert!(MemberValue::parse("m1=http://169.254.169.254:80", true).is_err());
        let long = format!("{}=http://10.0.0.1:2380", "m".repeat(254));
        assert!(MemberValue::parse(&long, false).is_err());
        // A port may have zeros before it.
        let long = format!("m=http://10.0.0.1:{}2380", "0".repeat(3000));
        let refused = MemberValue::parse(&long, false).unwrap_err().to_string();
        assert!(refused.contains("3022 bytes; at most 2048"), "{refused}");
    }

    #[test]
    fn networks() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(is_inside("10.0.0.0/24", ip("10.0.0.255")), Some(true));
        assert_eq!(is_inside("10.0.0.0/24", ip("10.0.1.0")), Some(false));
        assert_eq!(is_inside("0.0.0.0/0", ip("203.0.113.9")), Some(true));
        assert_eq!(is_inside("10.0.0.7/32", ip("10.0.0.7")), Some(true));
        assert_eq!(is_inside("fd00::/64", ip("fd00::9")), Some(true));
        assert_eq!(is_inside("::/0", ip("fd00::9")), Some(true));
        assert_eq!(is_inside("fd00::/64", ip("10.0.0.1")), Some(false));
        assert_eq!(is_inside("10.0.0.0/33", ip("10.0.0.1")), None);
        assert_eq!(is_inside("somewhere", ip("10.0.0.1")), None);
    }

    proptest! {
        #[test]
        fn no_value_panics(text in "\\PC{0,60}", tail in "[a-z0-9=:/.,%\\[\\]]{0,60}") {
            let _outcome = MemberValue::parse(&text, false);
            let _outcome = MemberValue::parse(&format!("m=http://{tail}"), true);
            let _outcome = is_inside(&tail, IpAddr::from([10, 0, 0, 1]));
        }
    }
}
