//! What the etcd discovery service remembers of one token.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::ClusterId;
use super::etcd_member::{MemberValue, is_inside};
use super::status::Status;
use crate::base::clock::Timestamp;

/// Where a token stands. Stored by position: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenState {
    /// Fewer members than its size.
    Open,
    /// All members are known; the same ones may repeat themselves.
    Complete,
    /// The cluster runs: nobody registers any more.
    Sealed,
}

/// One discovery token with everything its members were told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryToken {
    /// What the token is called at rest: [`DiscoveryToken::name_of`].
    pub name: String,
    pub cluster_id: ClusterId,
    pub size: u8,
    pub created_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub expires_at: Timestamp,
    pub state: TokenState,
    /// The index that the next registration takes.
    pub next_index: u64,
    pub members: Vec<DiscoveryMember>,
    /// Member names that may register; empty means any.
    pub expected: Vec<String>,
    /// The network the members' addresses must lie in, as CIDR.
    pub subnet: Option<String>,
}

/// Whether and from where a member's server has made its first contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// None is expected: the driver's nodes ask magnumd for nothing else.
    None,
    Due,
    From(String),
}

/// One registered etcd member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryMember {
    /// Lower-case hex without padding, as etcd prints it.
    pub id: String,
    /// `name=url[,name=url…]`
    pub value: String,
    pub created_index: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub source: String,
}

impl DiscoveryToken {
    /// Under what a token is kept: the SHA-256 of it, as 64 hex digits. Whoever has the state but
    /// not its key cannot go back from there, because a token is 128 random bits; for the same
    /// reason the digest needs no key of its own.
    pub fn name_of(token: &str) -> String {
        let mut context = Context::new(&SHA256);
        context.update(b"magnumd discovery token ");
        context.update(token.as_bytes());
        context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// A token that nobody has used yet. Index 2 is the size's, so members begin at 3.
    pub fn issue(
        token: &str,
        cluster_id: ClusterId,
        size: u8,
        expected: Vec<String>,
        subnet: Option<String>,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            name: Self::name_of(token),
            cluster_id,
            size,
            created_at: now,
            completed_at: None,
            expires_at,
            state: TokenState::Open,
            next_index: 3,
            members: Vec::new(),
            expected,
            subnet,
        }
    }

    /// The index of the latest change, which etcd clients are told with every answer.
    pub const fn current_index(&self) -> u64 {
        self.next_index - 1
    }

    pub fn member(&self, id: &str) -> Option<&DiscoveryMember> {
        self.members.iter().find(|m| m.id == id)
    }

    /// Names that were expected and have not registered.
    pub fn missing(&self) -> Vec<&str> {
        let here = |name: &str| self.members.iter().any(|m| m.name() == name);
        self.expected.iter().map(String::as_str).filter(|name| !here(name)).collect()
    }

    /// Takes a member in, or recognises one that repeats itself because it was restarted
    /// before it had any data. Repeating must change no index: other members count every
    /// event as one more peer.
    pub fn register(
        &mut self,
        id: &str,
        value: &MemberValue,
        source: &str,
        now: Timestamp,
    ) -> Result<Registered, RegisterError> {
        let sealed = self.state == TokenState::Sealed;
        if let Some(known) = self.members.iter_mut().find(|m| m.id == id) {
            return match known.value == value.text() {
                _ if sealed => Err(RegisterError::Sealed),
                false => Err(RegisterError::Taken),
                true => {
                    known.last_seen = now;
                    Ok(Registered { created_index: known.created_index, is_new: false })
                }
            };
        }
        if sealed || self.members.len() >= usize::from(self.size) {
            return Err(RegisterError::Complete { size: self.size });
        }
        self.check_newcomer(value)?;
        let created_index = self.next_index;
        self.next_index += 1;
        self.members.push(DiscoveryMember {
            id: id.to_owned(),
            value: value.text().to_owned(),
            created_index,
            first_seen: now,
            last_seen: now,
            source: source.to_owned(),
        });
        if self.members.len() >= usize::from(self.size) {
            self.state = TokenState::Complete;
            self.completed_at = Some(now);
        }
        Ok(Registered { created_index, is_new: true })
    }

    /// Whether a member may register this from there. `addresses` are those of the expected members
    /// by their order, as Heat has told; empty before it has. A source inside the cluster's
    /// network was seen without a translation of addresses, so it is the member's own. Whoever comes
    /// through a router is known by where its first contact came from, which was proved then; of a
    /// driver whose nodes make none, by Heat's word alone.
    pub fn check_origin(
        &self,
        value: &MemberValue,
        source: IpAddr,
        addresses: &[String],
        contact: &Contact,
    ) -> Result<(), RegisterError> {
        let refused = |sentence: String| Err(RegisterError::Refused(sentence));
        let name = value.name();
        let source = source.to_canonical();
        // Only a lab lets loopback addresses come this far.
        let mut peers = value.peers().iter().map(|p| p.ip().to_canonical());
        let place = self.expected.iter().position(|expected| expected == name);
        let told: Option<IpAddr> = place.and_then(|at| addresses.get(at)?.parse().ok());
        if let Some(told) = told
            && let Some(other) = peers.clone().find(|ip| *ip != told && !ip.is_loopback())
        {
            return refused(format!("{name} has the address {told}, not {other}"));
        }
        let is_inside = self.subnet.as_ref().is_some_and(|s| is_inside(s, source) == Some(true))
            || addresses.iter().any(|a| a.parse() == Ok(source));
        let is_own = peers.any(|ip| ip == source);
        match contact {
            _ if is_inside && !is_own => refused(format!(
                "a member registers its own address, and this was sent from {source}"
            )),
            Contact::Due => refused(format!("{name} has not made its first contact yet")),
            Contact::From(address) if !is_own && address.parse() != Ok(source) => refused(format!(
                "{name} made its first contact from another address than {source}, from which this \
                 was sent"
            )),
            Contact::From(_) | Contact::None => Ok(()),
        }
    }

    fn check_newcomer(&self, value: &MemberValue) -> Result<(), RegisterError> {
        let refused = |sentence: String| Err(RegisterError::Refused(sentence));
        let name = value.name();
        if !self.expected.is_empty() && !self.expected.iter().any(|e| e == name) {
            return refused(format!("no member of this cluster is called '{name}'"));
        }
        for other in &self.members {
            if other.name() == name {
                return refused(format!("another member is already called '{name}'"));
            }
            // Stored values were read once before, under whatever rule held then.
            let theirs = MemberValue::parse(&other.value, true);
            let theirs = theirs.as_ref().map_or(&[][..], MemberValue::peers);
            if let Some(both) = value.peers().iter().find(|p| theirs.contains(p)) {
                return refused(format!("another member already listens at {both}"));
            }
        }
        let Some(subnet) = &self.subnet else { return Ok(()) };
        for peer in value.peers() {
            // Only a lab lets loopback addresses come this far.
            if !peer.ip().is_loopback() && is_inside(subnet, peer.ip()) == Some(false) {
                return refused(format!("{} is not in the cluster's network {subnet}", peer.ip()));
            }
        }
        Ok(())
    }

    /// From now on nobody registers, not even a member that is known: one with an emptied
    /// disk would start a second cluster under its old identity.
    pub fn seal(&mut self) {
        self.state = TokenState::Sealed;
    }

    /// What housekeeping should do with the token; `cluster` is the status of its cluster,
    /// None when that is gone.
    pub fn disposition(&self, cluster: Option<Status>, now: Timestamp) -> Disposition {
        let Some(status) = cluster else { return Disposition::Delete };
        if self.state == TokenState::Sealed {
            return Disposition::Keep;
        }
        let runs = !matches!(
            status,
            Status::CreateInProgress
                | Status::CreateFailed
                | Status::DeleteInProgress
                | Status::DeleteFailed
                | Status::DeleteComplete
        );
        let settled = self.completed_at.is_some_and(|at| now.since(at) >= SEALED_AFTER);
        match now >= self.expires_at {
            _ if runs || settled => Disposition::Seal,
            true if self.state == TokenState::Open => Disposition::Delete,
            _ => Disposition::Keep,
        }
    }
}

/// How long members may repeat themselves after all of them are known.
const SEALED_AFTER: Duration = Duration::from_secs(3600);

impl DiscoveryMember {
    /// The name in its value.
    pub fn name(&self) -> &str {
        self.value.split_once('=').map_or("", |(name, _)| name)
    }
}

/// A registration that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    pub created_index: u64,
    /// Whether the others should hear of it.
    pub is_new: bool,
}

/// Why a member may not register. Members print the sentence when they give up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    #[error("this member has registered with another value")]
    Taken,
    #[error("the cluster is running: a member without data must be replaced, not started again")]
    Sealed,
    #[error("token is complete: all {size} members have registered")]
    Complete { size: u8 },
    #[error("{0}")]
    Refused(String),
}

/// What becomes of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Keep,
    Seal,
    Delete,
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    fn token() -> DiscoveryToken {
        DiscoveryToken::issue(
            "0123456789abcdef0123456789abcdef",
            ClusterId::new(Uuid::from_u128(7)),
            2,
            ["m0", "m1", "m2"].map(str::to_owned).to_vec(),
            Some("10.0.0.0/24".to_owned()),
            NOW,
            NOW.plus(Duration::from_secs(7200)),
        )
    }

    fn register(
        token: &mut DiscoveryToken,
        id: &str,
        value: &str,
    ) -> Result<(u64, bool), RegisterError> {
        let value = MemberValue::parse(value, true).unwrap();
        token.register(id, &value, "192.0.2.1", NOW).map(|r| (r.created_index, r.is_new))
    }

    #[test]
    fn the_registration_rule() {
        let mut t = token();
        assert_eq!(t.current_index(), 2, "the size's");
        assert_eq!(t.missing(), ["m0", "m1", "m2"]);
        assert_eq!(register(&mut t, "a", "m0=http://10.0.0.1:2380"), Ok((3, true)));
        assert_eq!(register(&mut t, "a", "m0=http://10.0.0.1:2380"), Ok((3, false)));
        assert_eq!(
            register(&mut t, "a", "m0=http://10.0.0.9:2380"),
            Err(RegisterError::Taken),
            "the same id with another value"
        );
        for (case, value) in [
            ("a name in use", "m0=http://10.0.0.2:2380"),
            ("an address in use", "m1=https://10.0.0.1:2380"),
            ("an address in use, written otherwise", "m1=http://[::ffff:10.0.0.1]:2380"),
            ("a name that was not rendered", "rogue=http://10.0.0.2:2380"),
            ("an address outside", "m1=http://10.0.1.2:2380"),
        ] {
            let outcome = register(&mut t, "b", value);
            assert!(matches!(outcome, Err(RegisterError::Refused(_))), "{case}: {outcome:?}");
        }
        assert_eq!((t.state, t.members.len()), (TokenState::Open, 1));
        assert_eq!(register(&mut t, "b", "m1=http://10.0.0.2:2380"), Ok((4, true)));
        assert_eq!((t.state, t.completed_at), (TokenState::Complete, Some(NOW)));
        assert_eq!(t.missing(), ["m2"]);
        assert_eq!(register(&mut t, "b", "m1=http://10.0.0.2:2380"), Ok((4, false)));
        assert_eq!(
            register(&mut t, "c", "m2=http://10.0.0.3:2380"),
            Err(RegisterError::Complete { size: 2 })
        );
        t.seal();
        assert_eq!(
            register(&mut t, "b", "m1=http://10.0.0.2:2380"),
            Err(RegisterError::Sealed),
            "an emptied disk must not bootstrap again"
        );
        assert_eq!(t.current_index(), 4);
    }

    /// A token for k-0 and k-1 of a network, and their addresses.
    fn of_two() -> (DiscoveryToken, [String; 2]) {
        let names = ["k-0", "k-1"].map(str::to_owned).to_vec();
        let cluster = ClusterId::new(uuid::Uuid::from_u128(7));
        let (now, end) = (Timestamp::EPOCH, Timestamp::EPOCH);
        let subnet = Some("10.0.0.0/24".to_owned());
        let token = DiscoveryToken::issue("t", cluster, 2, names, subnet, now, end);
        (token, ["10.0.0.5".to_owned(), "10.0.0.6".to_owned()])
    }

    #[test]
    fn a_member_registers_from_its_own_address() {
        let (token, told) = of_two();
        let said = |value: &str, source: &str, told: &[String]| {
            let value = MemberValue::parse(value, true).unwrap();
            let source = source.parse().unwrap();
            token.check_origin(&value, source, told, &Contact::None).err().map(|e| e.to_string())
        };
        let own = "k-1=https://10.0.0.6:2380";
        for source in ["10.0.0.6", "::ffff:10.0.0.6", "203.0.113.7", "127.0.0.1"] {
            assert_eq!(said(own, source, &told), None, "itself, or through a router: {source}");
            assert_eq!(said(own, source, &[]), None, "before Heat has told: {source}");
        }
        // A worker that has the token: for another, and as another with its own address.
        let words = "this was sent from 10.0.0.9";
        assert!(said(own, "10.0.0.9", &told).unwrap().contains(words));
        assert!(said(own, "10.0.0.9", &[]).unwrap().contains(words));
        let as_master = "k-1=https://10.0.0.9:2380";
        for source in ["10.0.0.9", "203.0.113.7"] {
            let said = said(as_master, source, &told).unwrap();
            assert!(said.contains("k-1 has the address 10.0.0.6, not 10.0.0.9"), "{said}");
        }
        let both = "k-1=https://10.0.0.6:2380,k-1=https://10.0.0.9:2380";
        assert!(said(both, "10.0.0.6", &told).is_some(), "none of another beside its own");
    }

    #[test]
    fn a_member_registers_from_where_it_made_its_first_contact() {
        let (token, told) = of_two();
        let said = |source: &str, contact: &Contact| {
            let value = MemberValue::parse("k-1=https://10.0.0.6:2380", false).unwrap();
            let source = source.parse().unwrap();
            token.check_origin(&value, source, &told, contact).err().map(|e| e.to_string())
        };
        let due = said("203.0.113.7", &Contact::Due).unwrap();
        assert!(due.contains("k-1 has not made its first contact yet"), "{due}");
        let made = Contact::From("203.0.113.7".to_owned());
        for source in ["203.0.113.7", "::ffff:203.0.113.7", "10.0.0.6"] {
            assert_eq!(said(source, &made), None, "through its router, or as itself: {source}");
        }
        let other = said("203.0.113.8", &made).unwrap();
        assert!(other.contains("from another address than 203.0.113.8"), "{other}");
        assert!(said("10.0.0.9", &made).is_some(), "a worker");
        assert!(said("10.0.0.6", &Contact::Due).is_some(), "whoever pretends its address");
    }

    #[test]
    fn what_becomes_of_tokens() {
        let minutes = |n: u64| NOW.plus(Duration::from_secs(60 * n));
        let open = token();
        let mut complete = token();
        register(&mut complete, "a", "m0=http://10.0.0.1:2380").unwrap();
        register(&mut complete, "b", "m1=http://10.0.0.2:2380").unwrap();
        let mut sealed = complete.clone();
        sealed.seal();
        let creating = Some(Status::CreateInProgress);
        for (case, token, status, at, disposition) in [
            ("young", &open, creating, minutes(5), Disposition::Keep),
            ("expired", &open, Some(Status::CreateFailed), minutes(120), Disposition::Delete),
            ("orphan", &sealed, None, minutes(1), Disposition::Delete),
            ("just complete", &complete, creating, minutes(59), Disposition::Keep),
            ("long complete", &complete, creating, minutes(60), Disposition::Seal),
            ("running", &complete, Some(Status::CreateComplete), minutes(1), Disposition::Seal),
            ("changed since", &complete, Some(Status::UpdateFailed), minutes(1), Disposition::Seal),
            ("going", &complete, Some(Status::DeleteInProgress), minutes(1), Disposition::Keep),
            (
                "old and sealed",
                &sealed,
                Some(Status::CreateComplete),
                minutes(999),
                Disposition::Keep,
            ),
        ] {
            assert_eq!(token.disposition(status, at), disposition, "{case}");
        }
    }
}
