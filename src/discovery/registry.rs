//! The registry: who has registered under which token, durable before anybody is told.

use std::net::IpAddr;
use std::ops::Deref;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::waiters::Waiters;
use crate::base::clock::{Clock, Timestamp};
use crate::model::discovery::{Contact, DiscoveryToken, Disposition, RegisterError, TokenState};
use crate::model::etcd_member::{BadValue, MemberValue};
use crate::model::first_contact::Block;
use crate::store::{Change, Store, StoreError};

/// A member gives up after 5 s, for good; until then a disk may recover.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);
/// How stale the last sign of a waiting member may become; fresher is not worth a commit.
const FRESH: Duration = Duration::from_secs(60);

/// Why a registration did not come about.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such token, or no longer.
    #[error("unknown token")]
    Unknown,
    #[error(transparent)]
    Refused(#[from] RegisterError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BadValue> for RegistryError {
    fn from(e: BadValue) -> Self {
        Self::Refused(RegisterError::Refused(e.0))
    }
}

/// A token that somebody has named: only who names it knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// 32 lower-case hex digits.
    pub text: String,
    pub record: DiscoveryToken,
}

impl Deref for Token {
    type Target = DiscoveryToken;

    fn deref(&self) -> &DiscoveryToken {
        &self.record
    }
}

/// All discovery tokens. Clones share their waiters.
#[derive(Clone)]
pub struct Registry {
    store: Store,
    clock: Clock,
    allow_loopback: bool,
    /// From where every registration is believed: the operator's proxies.
    trusted: Vec<Block>,
    waiters: Waiters,
}

impl Registry {
    pub fn new(store: Store, clock: Clock, allow_loopback: bool, trusted: Vec<Block>) -> Self {
        Self { store, clock, allow_loopback, trusted, waiters: Waiters::default() }
    }

    pub fn token(&self, token: &str) -> Result<Option<Token>, StoreError> {
        let found = self.store.read(|view| view.discovery(token))?;
        Ok(found.map(|stored| Token { text: token.to_owned(), record: stored.record }))
    }

    pub const fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Registers a member; on disk when this returns. Answers the token as it then stands.
    pub async fn register(
        &self,
        token: &str,
        id: &str,
        value: &str,
        source: IpAddr,
    ) -> Result<Token, RegistryError> {
        let source = source.to_canonical();
        let value = MemberValue::parse(value, self.allow_loopback)?;
        let began = Instant::now();
        loop {
            match self.attempt(token, id, &value, source).await {
                // Another member was faster: look again at once.
                Err(RegistryError::Store(StoreError::Conflict)) if began.elapsed() < PATIENCE => {}
                Err(RegistryError::Store(error)) if began.elapsed() < PATIENCE => {
                    warn!(%error, "a registration is tried again");
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => {
                    return outcome.map(|record| Token { text: token.to_owned(), record });
                }
            }
        }
    }

    async fn attempt(
        &self,
        token: &str,
        id: &str,
        value: &MemberValue,
        source: IpAddr,
    ) -> Result<DiscoveryToken, RegistryError> {
        let found = self.store.read(|view| {
            let Some(known) = view.discovery(token)? else { return Ok(None) };
            let status = view.cluster(known.cluster_id)?.map(|c| c.status);
            let facts = view.facts(known.cluster_id)?;
            let addresses = facts.map(|f| f.record.master_addresses).unwrap_or_default();
            let is_trusted = self.trusted.iter().any(|block| block.contains(source));
            let contact = match view.node_key(known.cluster_id, value.name())? {
                _ if is_trusted => Contact::None,
                None => Contact::None,
                Some(key) => match key.record.holder {
                    None => Contact::Due,
                    Some(holder) => Contact::From(holder.address),
                },
            };
            Ok(Some((known, status, addresses, contact)))
        })?;
        let (known, status, addresses, contact) = found.ok_or(RegistryError::Unknown)?;
        let seen = known.member(id).map(|m| m.last_seen);
        let now = self.clock.now();
        let mut next = known.record.clone();
        // From the moment its cluster runs, not from the next housekeeping on.
        if next.disposition(status, now) == Disposition::Seal {
            next.seal();
        }
        known.check_origin(value, source, &addresses, &contact)?;
        let registered = next.register(id, value, &source.to_canonical().to_string(), now)?;
        if !registered.is_new && seen.is_some_and(|at| now.since(at) < FRESH) {
            return Ok(known.record);
        }
        self.store.commit(Change::new().expect(&known).put(&next)).await?;
        if registered.is_new {
            self.waiters.tell(token);
            let missing = next.missing().join(", ");
            info!(
                cluster = %next.cluster_id, token = first(&next.name), member = value.name(), %source,
                registered = next.members.len(), size = next.size, missing,
                after = ?now.since(next.created_at), "etcd member registered"
            );
        }
        Ok(next)
    }

    /// Seals the tokens of clusters that run and deletes those that nobody needs any more.
    pub async fn collect(&self, now: Timestamp) -> Result<(), StoreError> {
        let tokens = self.store.read(|view| {
            let mut tokens = Vec::new();
            for token in view.discoveries()? {
                match view.cluster(token.cluster_id) {
                    Ok(cluster) => tokens.push((cluster.map(|c| c.status), token)),
                    // Whether it still needs the token cannot be known.
                    Err(StoreError::Corrupt(_)) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(tokens)
        })?;
        for (status, token) in tokens {
            let change = Change::new().expect(&token);
            let (change, done) = match token.disposition(status, now) {
                Disposition::Keep => continue,
                Disposition::Delete => (change.delete(&token.record), "discovery token deleted"),
                Disposition::Seal => {
                    let mut sealed = token.record.clone();
                    sealed.seal();
                    (change.put(&sealed), "discovery token sealed")
                }
            };
            match self.store.commit(change).await {
                Ok(()) if token.state == TokenState::Open => {
                    info!(
                        cluster = %token.cluster_id, token = first(&token.name),
                        registered = token.members.len(), size = token.size, "{done} unfinished"
                    );
                }
                Ok(()) => {
                    debug!(cluster = %token.cluster_id, token = first(&token.name), "{done}");
                }
                // A member registered at this moment: next time.
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// What a log calls a token by: the beginning of its name, which says nothing of the token.
pub fn first(name: &str) -> &str {
    name.get(..8).unwrap_or_default()
}
