//! Whose token is this? One validation for all who ask at once, then the cache.
//!
//! Only Keystone can tell that a text is no token, and each text that is none costs a question. A
//! source that has sent several of them asks in a narrow lane of its kind, so that those who send
//! good ones need not stand behind it.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use moka::Expiry;
use moka::future::Cache;
use tokio::sync::Semaphore;

use super::error::CloudError;
use super::keystone::Keystone;
use crate::base::clock::Clock;
use crate::base::http::sources;
use crate::base::metrics::{Counter, MetricSet, Registry};
use crate::base::secret::Secret;
use crate::model::requester::Requester;

/// Why a token was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    /// Unknown, expired or revoked.
    #[error("The request you have made requires authentication.")]
    Invalid,
    /// Keystone gave no answer; the sentence says what happened.
    #[error("{0}")]
    Unavailable(String),
}

/// How long a refused token is remembered.
const REFUSED_FOR: Duration = Duration::from_secs(30);
const MOST_TOKENS: u64 = 10_000;
/// Refused tokens after which a source is doubtful, until it has sent none for some time.
const SLIPS: u32 = 5;
const DOUBTFUL_FOR: Duration = Duration::from_secs(60);
const MOST_SOURCES: u64 = 10_000;
/// Questions to Keystone at the same time for all doubtful sources.
const DOUBTFUL_PLACES: usize = 2;

/// Validates tokens with the service account; clones share the cache.
#[derive(Clone)]
pub struct Tokens {
    keystone: Arc<Keystone>,
    cache: Cache<[u8; 32], Known>,
    /// Tokens refused lately, by source.
    slips: Cache<IpAddr, Arc<AtomicU32>>,
    doubtful: Arc<Semaphore>,
    clock: Clock,
    metrics: TokenMetrics,
}

/// What is counted of tokens. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct TokenMetrics {
    hits: Counter,
    misses: Counter,
    refusals: Counter,
    failures: Counter,
}

impl MetricSet for TokenMetrics {
    fn register(&self, registry: &mut Registry) {
        let mut count = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        count("token_cache_hits", "Tokens that were known already", &self.hits);
        count("token_cache_misses", "Tokens that Keystone was asked about", &self.misses);
        count("token_refusals", "Tokens that were not accepted", &self.refusals);
        count("token_failures", "Tokens about which Keystone gave no answer", &self.failures);
    }
}

/// The owner of a token.
#[derive(Clone, Debug)]
pub struct Validated {
    pub owner: Arc<Requester>,
    /// Whether Keystone said so now, and not only when it was asked last.
    pub is_confirmed: bool,
}

#[derive(Clone)]
enum Known {
    Good { owner: Arc<Requester>, life: Duration },
    Refused,
}

/// Each entry lives as long as it may be believed.
struct Life;

impl Expiry<[u8; 32], Known> for Life {
    fn expire_after_create(&self, _: &[u8; 32], known: &Known, _: Instant) -> Option<Duration> {
        Some(match known {
            Known::Good { life, .. } => *life,
            Known::Refused => REFUSED_FOR,
        })
    }
}

impl Tokens {
    /// `remember` is the longest life of an entry, and so of a token after its revocation.
    pub fn new(keystone: Arc<Keystone>, clock: Clock, remember: Duration) -> Self {
        let cache = Cache::builder()
            .max_capacity(MOST_TOKENS)
            .expire_after(Life)
            .time_to_live(remember)
            .build();
        let slips = Cache::builder().max_capacity(MOST_SOURCES).time_to_idle(DOUBTFUL_FOR).build();
        let doubtful = Arc::new(Semaphore::new(DOUBTFUL_PLACES));
        Self { keystone, cache, slips, doubtful, clock, metrics: TokenMetrics::default() }
    }

    pub fn metrics(&self) -> &TokenMetrics {
        &self.metrics
    }

    /// Who owns `token`, which came from `source`.
    pub async fn validate_from(
        &self,
        token: &Secret<String>,
        source: IpAddr,
    ) -> Result<Arc<Requester>, TokenError> {
        if self.cache.contains_key(&key(token)) {
            return self.validate(token).await;
        }
        let source = sources::source(source);
        let slips = self.slips.get(&source).await;
        let is_doubtful = slips.as_ref().is_some_and(|n| n.load(Ordering::Relaxed) >= SLIPS);
        let place = match is_doubtful {
            true => Some(self.doubtful.acquire().await.expect("never closed")),
            false => None,
        };
        let owner = self.validate(token).await;
        drop(place);
        if matches!(owner, Err(TokenError::Invalid)) {
            let fresh = async { Arc::new(AtomicU32::new(0)) };
            self.slips.get_with(source, fresh).await.fetch_add(1, Ordering::Relaxed);
        }
        owner
    }

    /// Who owns `token`.
    pub async fn validate(&self, token: &Secret<String>) -> Result<Arc<Requester>, TokenError> {
        let key = key(token);
        // The common case without the machinery of single flight.
        let known = match self.cache.get(&key).await {
            Some(known) => {
                self.metrics.hits.inc();
                known
            }
            // Boxed: every connection would carry the whole of it otherwise.
            None => {
                self.metrics.misses.inc();
                let asked = Box::pin(self.cache.try_get_with(key, Box::pin(self.ask(token))));
                asked.await.map_err(|e: Arc<TokenError>| {
                    self.metrics.failures.inc();
                    (*e).clone()
                })?
            }
        };
        match known {
            Known::Good { owner, .. } if owner.expires_at > self.clock.now() => Ok(owner),
            Known::Good { .. } | Known::Refused => {
                self.metrics.refusals.inc();
                Err(TokenError::Invalid)
            }
        }
    }

    /// Whether `token` is still good, by Keystone's word of this moment.
    pub async fn confirm(&self, token: &Secret<String>) -> Result<(), TokenError> {
        self.cache.invalidate(&key(token)).await;
        self.validate(token).await.map(drop)
    }

    /// Who owns `token`, which came from `source`, by Keystone's word of this moment: who may do
    /// what they ask for may have changed since the last one. While Keystone gives no answer, the
    /// last one counts.
    pub async fn validate_anew_from(
        &self,
        token: &Secret<String>,
        source: IpAddr,
    ) -> Result<Validated, TokenError> {
        let key = key(token);
        let Some(Known::Good { owner: before, .. }) = self.cache.get(&key).await else {
            // What is not known is asked about now; what was refused stays so.
            let owner = self.validate_from(token, source).await?;
            return Ok(Validated { owner, is_confirmed: true });
        };
        self.metrics.misses.inc();
        let (owner, is_confirmed) = match Box::pin(self.ask(token)).await {
            Ok(known) => {
                self.cache.insert(key, known.clone()).await;
                match known {
                    Known::Good { owner, .. } => (Some(owner), true),
                    Known::Refused => (None, true),
                }
            }
            Err(_) => {
                self.metrics.failures.inc();
                (Some(before), false)
            }
        };
        match owner.filter(|owner| owner.expires_at > self.clock.now()) {
            Some(owner) => Ok(Validated { owner, is_confirmed }),
            None => {
                self.metrics.refusals.inc();
                Err(TokenError::Invalid)
            }
        }
    }

    async fn ask(&self, token: &Secret<String>) -> Result<Known, TokenError> {
        match self.keystone.validate(token).await {
            Ok(owner) => {
                let life = owner.expires_at.since(self.clock.now());
                Ok(Known::Good { owner: Arc::new(owner), life: self.clock.real_length(life) })
            }
            // Keystone answers 404 for a token that is not or no longer one, and 400 or 401
            // for text that cannot be one.
            Err(CloudError::Missing { .. } | CloudError::Refused { status: 400, .. }) => {
                Ok(Known::Refused)
            }
            Err(e) => {
                tracing::warn!(error = %e, "a token could not be validated");
                Err(TokenError::Unavailable(format!(
                    "The identity service cannot validate tokens now ({e}); try again."
                )))
            }
        }
    }

    /// Entries held.
    pub fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The token itself is not kept: whoever reads our memory shall not find it.
fn key(token: &Secret<String>) -> [u8; 32] {
    let digest = digest(&SHA256, token.expose().as_bytes());
    digest.as_ref().try_into().expect("SHA-256 is 32 bytes")
}
