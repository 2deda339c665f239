//! What the etcd discovery service remembers of one token.

use std::time::Duration;

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
    /// 32 lower-case hex digits.
    pub token: String,
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
    /// A token that nobody has used yet. Index 2 is the size's, so members begin at 3.
    pub fn issue(
        token: String,
        cluster_id: ClusterId,
        size: u8,
        expected: Vec<String>,
        subnet: Option<String>,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            token,
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
    pub fn fate(&self, cluster: Option<Status>, now: Timestamp) -> Fate {
        let Some(status) = cluster else { return Fate::Delete };
        if self.state == TokenState::Sealed {
            return Fate::Keep;
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
            _ if runs || settled => Fate::Seal,
            true if self.state == TokenState::Open => Fate::Delete,
            _ => Fate::Keep,
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
pub enum Fate {
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
            "0123456789abcdef0123456789abcdef".to_owned(),
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
        for (case, token, status, at, fate) in [
            ("young", &open, creating, minutes(5), Fate::Keep),
            ("expired", &open, Some(Status::CreateFailed), minutes(120), Fate::Delete),
            ("orphan", &sealed, None, minutes(1), Fate::Delete),
            ("just complete", &complete, creating, minutes(59), Fate::Keep),
            ("long complete", &complete, creating, minutes(60), Fate::Seal),
            ("running", &complete, Some(Status::CreateComplete), minutes(1), Fate::Seal),
            ("changed since", &complete, Some(Status::UpdateFailed), minutes(1), Fate::Seal),
            ("going", &complete, Some(Status::DeleteInProgress), minutes(1), Fate::Keep),
            ("old and sealed", &sealed, Some(Status::CreateComplete), minutes(999), Fate::Keep),
        ] {
            assert_eq!(token.fate(status, at), fate, "{case}");
        }
    }
}
