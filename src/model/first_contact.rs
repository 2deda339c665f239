//! First contact: what a server has to prove before it is believed to be a node. Pure.
//!
//! User data is no secret: Heat shows it to every reader of the project, and the enrolment token
//! with it. So a token is believed only from where the server itself can be, or with what only
//! the server was given. `SECURITY.md` says which of it holds in which network.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;

/// The weakest proof that the operator accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirstContact {
    /// An address of the server's, of a router of its project, or one that the operator trusts.
    #[default]
    Address,
    /// An address of the server's own.
    OwnAddress,
    /// The secret in the server's vendor data.
    VendorData,
}

impl FirstContact {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::OwnAddress => "own-address",
            Self::VendorData => "vendor-data",
        }
    }
}

/// What was proved, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Whoever asks has read what Nova gave this server alone.
    VendorData,
    /// It asks from an address that nobody but this server has.
    OwnAddress,
    /// It is one of the machines behind a router of the cluster's own project.
    Router,
    /// It asks from where the operator says that only nodes are.
    TrustedSource,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VendorData => "vendor-data",
            Self::OwnAddress => "own-address",
            Self::Router => "router",
            Self::TrustedSource => "trusted-source",
        })
    }
}

/// Addresses that the operator names: `10.1.2.3`, `10.1.0.0/16`, `2001:db8::/48`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    network: IpAddr,
    prefix: u8,
}

impl Block {
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                masked(address, self.prefix) == self.network
            }
            _ => false,
        }
    }

    /// Whether it holds more than 2^16 IPv4 addresses, or more than one IPv6 site.
    pub const fn is_wide(self) -> bool {
        match self.network {
            IpAddr::V4(_) => self.prefix < 16,
            IpAddr::V6(_) => self.prefix < 48,
        }
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::from((v4.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::from((v6.to_bits() & mask).to_be_bytes())
        }
    }
}

impl FromStr for Block {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is neither an address nor a network such as 10.1.0.0/16");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if prefix > most {
            return Err(wrong());
        }
        let network = masked(address, prefix);
        if network != address {
            return Err(format!("'{text}' is not where a network begins; {network}/{prefix} is"));
        }
        Ok(Self { network, prefix })
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// From which addresses a server's packets may reach us, by what Neutron says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Its own, with which packets leave its networks as they are.
    pub fixed: Vec<IpAddr>,
    /// Its own, in whose place a router puts another one: outside they are somebody else's.
    pub hidden: Vec<IpAddr>,
    pub floating: Vec<IpAddr>,
    /// Of routers behind which there are machines of its project alone.
    pub routers: Vec<IpAddr>,
    /// Of routers behind which there may be machines of other projects.
    pub crowded: Vec<IpAddr>,
}

/// What a request brings of vendor data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    Absent,
    Right,
    /// The secret of another server, or of nobody.
    Wrong,
}

/// Why a request proves nothing. Shown in full, it is for the operator's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproven {
    WrongSecret,
    NoSecret,
    Address {
        source: IpAddr,
        why: Why,
        /// Addresses that would do, with what they are.
        would: Vec<(IpAddr, &'static str)>,
    },
}

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Unknown,
    Hidden,
    Crowded,
    /// It is a router's, where the operator wants the server's own.
    OnlyRouter,
}

impl Unproven {
    /// For the node's log; whoever asks knows the address already.
    pub fn told(&self) -> String {
        match self {
            Self::WrongSecret => "The vendor secret is not that of this server.".to_owned(),
            Self::NoSecret => "The first request of a node needs the vendor secret here, and this \
                               server has none: Nova has given it no vendor data of magnumd."
                .to_owned(),
            Self::Address { source, .. } => format!(
                "This request comes from {source}, which does not prove that the server sends it; \
                 the log of magnumd says what would."
            ),
        }
    }

    /// For the tenant, after "is refused at first contact, because".
    pub const fn because(&self) -> &'static str {
        match self {
            Self::WrongSecret => "its vendor secret is that of another server",
            Self::NoSecret => "Nova has given its server no vendor data of magnumd",
            Self::Address { .. } => "its requests do not come from an address of its server",
        }
    }
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CURE: &str = "have Nova give servers vendor data (vendordata_dynamic_targets), or name \
                            the address in trusted_sources of [bootstrap] if nodes alone come from it";
        let (source, why, would) = match self {
            Self::WrongSecret => {
                return f.write_str(
                    "its X-Magnumd-Vendor-Secret is not that of the server it says it is: either \
                     somebody pretends to be it, or Nova asks another magnumd for vendor data",
                );
            }
            Self::NoSecret => {
                return f.write_str(
                    "it brings no vendor secret, and first_contact of [bootstrap] is \"vendor-data\": \
                     see that vendordata_dynamic_targets in nova.conf names magnumd, that its log has \
                     no \"Error from dynamic vendordata service\", and that the server has a config \
                     drive or reaches the metadata service",
                );
            }
            Self::Address { source, why, would } => (source, why, would),
        };
        let what = match why {
            Why::Unknown => "which Neutron does not know as an address of this server",
            Why::Hidden => {
                "which is an address of this server inside its network, but a router translates it, \
                 so that what comes from it is somebody else"
            }
            Why::Crowded => {
                "which is the address of a router behind which other projects may have machines"
            }
            Why::OnlyRouter => {
                "which is the address of its router, and first_contact of [bootstrap] is \
                 \"own-address\""
            }
        };
        write!(f, "it comes from {source}, {what}; ")?;
        match would.is_empty() {
            true => f.write_str("no address would do; ")?,
            false => {
                let named: Vec<String> =
                    would.iter().map(|(address, what)| format!("{address} ({what})")).collect();
                write!(f, "these would do: {}; ", named.join(", "))?;
            }
        }
        f.write_str(CURE)
    }
}

/// What the operator has decided about first contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub needs: FirstContact,
    pub trusted: Vec<Block>,
}

impl Rules {
    /// The judgement where no address of the server's is needed for it; None where one is.
    pub fn at_once(&self, source: IpAddr, vendor: Vendor) -> Option<Result<Guarantee, Unproven>> {
        let source = source.to_canonical();
        match (vendor, self.needs) {
            (Vendor::Right, _) => Some(Ok(Guarantee::VendorData)),
            (Vendor::Wrong, _) => Some(Err(Unproven::WrongSecret)),
            (Vendor::Absent, FirstContact::VendorData) => Some(Err(Unproven::NoSecret)),
            (Vendor::Absent, FirstContact::Address)
                if self.trusted.iter().any(|block| block.contains(source)) =>
            {
                Some(Ok(Guarantee::TrustedSource))
            }
            (Vendor::Absent, _) => None,
        }
    }

    /// The judgement of a request without vendor data.
    pub fn by_address(&self, source: IpAddr, reach: &Reach) -> Result<Guarantee, Unproven> {
        // A listener for both families shows IPv4 in the clothes of IPv6.
        let source = source.to_canonical();
        let takes_routers = self.needs == FirstContact::Address;
        if reach.fixed.contains(&source) || reach.floating.contains(&source) {
            return Ok(Guarantee::OwnAddress);
        }
        let why = match () {
            () if reach.routers.contains(&source) && takes_routers => return Ok(Guarantee::Router),
            () if reach.routers.contains(&source) => Why::OnlyRouter,
            () if reach.crowded.contains(&source) => Why::Crowded,
            () if reach.hidden.contains(&source) => Why::Hidden,
            () => Why::Unknown,
        };
        let named = |list: &[IpAddr], what: &'static str| -> Vec<(IpAddr, &'static str)> {
            list.iter().map(|address| (*address, what)).collect()
        };
        let mut would = named(&reach.fixed, "its own");
        would.extend(named(&reach.floating, "floating"));
        if takes_routers {
            would.extend(named(&reach.routers, "its router's"));
        }
        Err(Unproven::Address { source, why, would })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn rules(needs: FirstContact, trusted: &[&str]) -> Rules {
        Rules { needs, trusted: trusted.iter().map(|t| t.parse().unwrap()).collect() }
    }

    /// Every kind of network by everybody who may come with a token that they found in Heat.
    #[test]
    fn who_is_let_in_from_which_network() {
        use FirstContact::{Address, OwnAddress, VendorData};
        const SERVER: &str = "10.0.0.5";
        const NEIGHBOUR: &str = "10.0.0.6";
        const FLOATING: &str = "203.0.113.9";
        const ROUTER: &str = "203.0.113.2";
        const READER: &str = "198.51.100.7";
        const NAT: &str = "192.0.2.200";
        let of = |list: &[&str]| list.iter().map(|a| ip(a)).collect::<Vec<_>>();
        let routed = Reach { fixed: of(&[SERVER]), ..Reach::default() };
        let floating =
            Reach { hidden: of(&[SERVER]), floating: of(&[FLOATING]), ..Reach::default() };
        let behind = Reach { hidden: of(&[SERVER]), routers: of(&[ROUTER]), ..Reach::default() };
        let shared = Reach { hidden: of(&[SERVER]), crowded: of(&[ROUTER]), ..Reach::default() };
        let six = Reach { fixed: of(&["2001:db8::5"]), ..Reach::default() };
        // Network, source, and what each of the three settings makes of it.
        let table: &[(&str, &Reach, &str, [&str; 3])] = &[
            ("routed", &routed, SERVER, ["own-address", "own-address", "no-secret"]),
            ("routed", &routed, "::ffff:10.0.0.5", ["own-address", "own-address", "no-secret"]),
            ("routed", &routed, NEIGHBOUR, ["unknown", "unknown", "no-secret"]),
            ("routed", &routed, READER, ["unknown", "unknown", "no-secret"]),
            ("floating", &floating, FLOATING, ["own-address", "own-address", "no-secret"]),
            ("floating", &floating, ROUTER, ["unknown", "unknown", "no-secret"]),
            // A machine of the operator's own network that took the address of a node.
            ("floating", &floating, SERVER, ["hidden", "hidden", "no-secret"]),
            ("snat", &behind, ROUTER, ["router", "only-router", "no-secret"]),
            ("snat", &behind, SERVER, ["hidden", "hidden", "no-secret"]),
            ("snat", &behind, READER, ["unknown", "unknown", "no-secret"]),
            ("shared", &shared, ROUTER, ["crowded", "crowded", "no-secret"]),
            ("foreign nat", &behind, NAT, ["unknown", "unknown", "no-secret"]),
            ("ipv6", &six, "2001:db8::5", ["own-address", "own-address", "no-secret"]),
            ("ipv6", &six, "2001:db8::6", ["unknown", "unknown", "no-secret"]),
            ("no ports", &Reach::default(), READER, ["unknown", "unknown", "no-secret"]),
        ];
        for (network, reach, source, outcomes) in table {
            for (needs, expected) in [Address, OwnAddress, VendorData].into_iter().zip(outcomes) {
                let rules = rules(needs, &[]);
                let source = ip(source);
                let judged = rules
                    .at_once(source, Vendor::Absent)
                    .unwrap_or_else(|| rules.by_address(source, reach));
                let said = match &judged {
                    Ok(guarantee) => guarantee.to_string(),
                    Err(Unproven::NoSecret) => "no-secret".to_owned(),
                    Err(Unproven::WrongSecret) => "wrong-secret".to_owned(),
                    Err(Unproven::Address { why, .. }) => match why {
                        Why::Unknown => "unknown".to_owned(),
                        Why::Hidden => "hidden".to_owned(),
                        Why::Crowded => "crowded".to_owned(),
                        Why::OnlyRouter => "only-router".to_owned(),
                    },
                };
                assert_eq!(said, *expected, "{network} from {source}, {needs:?}");
                // With the server's secret it may come from anywhere, with another from nowhere.
                let with = |vendor| rules.at_once(source, vendor);
                assert_eq!(with(Vendor::Right), Some(Ok(Guarantee::VendorData)), "{network}");
                assert_eq!(with(Vendor::Wrong), Some(Err(Unproven::WrongSecret)), "{network}");
            }
        }
    }

    #[test]
    fn a_trusted_source_is_one_that_the_operator_names() {
        let trusted = ["192.0.2.200", "10.8.0.0/16"];
        let named = rules(FirstContact::Address, &trusted);
        for (source, is_trusted) in [
            ("192.0.2.200", true),
            ("::ffff:192.0.2.200", true),
            ("192.0.2.201", false),
            ("10.8.255.255", true),
            ("10.9.0.0", false),
            ("2001:db8::1", false),
        ] {
            let judged = named.at_once(ip(source), Vendor::Absent);
            assert_eq!(judged == Some(Ok(Guarantee::TrustedSource)), is_trusted, "{source}");
        }
        for needs in [FirstContact::OwnAddress, FirstContact::VendorData] {
            let judged = rules(needs, &trusted).at_once(ip("192.0.2.200"), Vendor::Absent);
            assert_ne!(judged, Some(Ok(Guarantee::TrustedSource)), "{needs:?}");
        }
        let everybody: Block = "0.0.0.0/0".parse().unwrap();
        assert!(everybody.contains(ip("8.8.8.8")) && everybody.is_wide());
        assert!(!everybody.contains(ip("2001:db8::1")));
        assert!("::/0".parse::<Block>().unwrap().contains(ip("2001:db8::1")));
        for (odd, part) in [
            ("", "neither an address"),
            ("10.0.0.0/33", "neither an address"),
            ("10.0.0.0/x", "neither an address"),
            ("nat.example.org", "neither an address"),
            ("10.0.0.7/24", "10.0.0.0/24 is"),
        ] {
            let said = odd.parse::<Block>().unwrap_err();
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_refusal_names_source_addresses_and_cure() {
        let reach = Reach {
            hidden: vec![ip("10.0.0.5")],
            floating: vec![ip("203.0.113.9")],
            routers: vec![ip("203.0.113.2")],
            ..Reach::default()
        };
        let refused = Rules::default().by_address(ip("198.51.100.7"), &reach).unwrap_err();
        let said = refused.to_string();
        for part in [
            "comes from 198.51.100.7, which Neutron does not know",
            "203.0.113.9 (floating), 203.0.113.2 (its router's)",
            "vendordata_dynamic_targets",
            "trusted_sources of [bootstrap]",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains("10.0.0.5"), "inside its network it would not do: {said}");
        assert!(refused.told().contains("198.51.100.7"), "{}", refused.told());
        assert!(!refused.told().contains("203.0.113"), "not for whoever asks: {}", refused.told());
        assert!(!refused.because().contains(char::is_numeric));
        let strict = rules(FirstContact::OwnAddress, &[]);
        let refused = strict.by_address(ip("203.0.113.2"), &reach).unwrap_err().to_string();
        assert!(!refused.contains("(its router's)"), "{refused}");
        assert!(refused.contains("own-address"), "{refused}");
    }
}
