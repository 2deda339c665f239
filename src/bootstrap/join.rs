//! What nodes need to join a cluster: its first master hands it over, each node gets its role's.

use aws_lc_rs::digest::{SHA256, digest};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use super::admission::NodeIdentity;
use super::http::Fault;
use super::{Bootstrap, Caller, TRIES, still_booting};
use crate::base::http::server::{Response, empty, json as json_response};
use crate::base::secret::{Sealed, Secret};
use crate::model::join::JoinSecrets;
use crate::store::{Change, StoreError};

/// What the first master sends to `join`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinUpload {
    /// With which a further master joins.
    master: Secret<String>,
    /// With which a worker joins.
    worker: Secret<String>,
    /// Drawn by the sender and shown to nobody else: with it, and only with it, a master that
    /// is ready may hand over other secrets.
    renewal: Secret<String>,
}

impl JoinUpload {
    pub fn check(&self) -> Result<(), Fault> {
        for (field, secret, least) in [
            ("master", &self.master, 1),
            ("worker", &self.worker, 1),
            ("renewal", &self.renewal, 32),
        ] {
            let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
            let text = secret.expose();
            if !(least..=4096).contains(&text.len()) || !text.bytes().all(plain) {
                return Err(Fault::bad(format!(
                    "{field} must be {least} to 4096 letters, digits and signs, without blanks, \
                     quotes and backslashes."
                )));
            }
        }
        Ok(())
    }
}

/// Only the first master founds a cluster.
pub fn may_hand_over(guest: &NodeIdentity) -> Result<(), Fault> {
    match guest.master_index {
        Some(0) => Ok(()),
        _ => Err(Fault::forbidden("Only the first master may hand over what others join with.")),
    }
}

impl Bootstrap {
    /// Keeps what the first master hands over; said again, it changes nothing.
    pub(super) async fn take_join_secrets(
        &self,
        caller: &Caller,
        given: JoinUpload,
    ) -> Result<Response, Fault> {
        let (cluster, sealer) = (caller.cluster, self.store.sealer());
        let sealed = |which: &str, secret: &Secret<String>| -> Sealed {
            sealer.seal(&JoinSecrets::owner(cluster, which), secret.expose().as_bytes())
        };
        let next = JoinSecrets {
            cluster_id: cluster,
            master: sealed("master", &given.master),
            worker: sealed("worker", &given.worker),
            renewal: sealed("renewal", &given.renewal),
        };
        let node = self.node(caller)?;
        for _ in 0..TRIES {
            let seen = self.look(cluster, &caller.guest.name)?;
            let known = self.store.read(|view| view.join_secrets(cluster))?;
            let renews = match &known {
                Some(known) => {
                    let renewal = self.opened("renewal", cluster, &known.renewal)?;
                    same(&renewal, &given.renewal)
                }
                None => false,
            };
            // Other secrets are for whoever founded: the certificate tells the node, not that.
            if !renews {
                still_booting(&node)?;
            }
            let change = Change::new().expect_exists(&seen.cluster.record);
            let change = match &known {
                Some(known) => change.expect(known),
                None => change.expect_absent(&next),
            };
            match self.store.commit(change.put(&next)).await {
                Ok(()) => {
                    info!(%cluster, node = caller.guest.name, renews, "join secrets handed over");
                    return Ok(empty(StatusCode::NO_CONTENT));
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Fault::later("The cluster's records are being changed by others; try again."))
    }

    /// What the caller joins with: the secret of its role and no other.
    pub(super) fn join_secret(&self, caller: &Caller) -> Result<Response, Fault> {
        let known = self.store.read(|view| view.join_secrets(caller.cluster))?;
        let known = known.ok_or_else(|| {
            Fault::later("The first master has not handed over what others join with yet.")
        })?;
        let role = caller.guest.role();
        let sealed = if role == "master" { &known.master } else { &known.worker };
        let secret = self.opened(role, caller.cluster, sealed)?;
        let mut answer = json_response(StatusCode::OK, &json!({ "secret": secret.expose() }));
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(answer)
    }

    fn opened(
        &self,
        which: &str,
        cluster: crate::model::ClusterId,
        sealed: &Sealed,
    ) -> Result<Secret<String>, Fault> {
        let owner = JoinSecrets::owner(cluster, which);
        self.store.sealer().open_text(&owner, sealed).map_err(|e| Fault::ours(&e))
    }
}

/// Compared by their digests, so that the time it takes says nothing of the secrets.
fn same(a: &Secret<String>, b: &Secret<String>) -> bool {
    let of = |secret: &Secret<String>| digest(&SHA256, secret.expose().as_bytes());
    of(a).as_ref() == of(b).as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_is_short_plain_text() {
        let check = |master: &str, worker: &str, renewal: &str| {
            let secret = |text: &str| Secret::new(text.to_owned());
            let (master, worker, renewal) = (secret(master), secret(worker), secret(renewal));
            JoinUpload { master, worker, renewal }.check().map_err(|f| f.message)
        };
        let renewal = "0123456789abcdef0123456789abcdef";
        assert_eq!(check("SWMTKN-1-a-b", "SWMTKN-1-a-c", renewal), Ok(()));
        for (field, refused) in [
            ("master", check("", "w", renewal)),
            ("master", check("a b", "w", renewal)),
            ("worker", check("m", "w\"", renewal)),
            ("worker", check("m", &"w".repeat(4097), renewal)),
            ("renewal", check("m", "w", "short")),
        ] {
            let sentence = refused.unwrap_err();
            assert!(sentence.starts_with(field), "{sentence}");
            assert!(!sentence.contains("a b"), "a secret is not repeated: {sentence}");
        }
    }

    #[test]
    fn only_the_first_master_hands_over() {
        let guest = |master_index| NodeIdentity {
            name: "n".to_owned(),
            nodegroup: "g".to_owned(),
            master_index,
        };
        assert!(may_hand_over(&guest(Some(0))).is_ok());
        for other in [Some(1), None] {
            assert_eq!(may_hand_over(&guest(other)).unwrap_err().status, StatusCode::FORBIDDEN);
        }
    }
}
