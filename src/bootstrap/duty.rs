//! What a node that is ready is asked to do, and what it says of it.

use hyper::StatusCode;
use serde::Deserialize;
use tracing::{info, warn};

use super::http::Fault;
use super::report::line;
use super::{Bootstrap, Caller, TRIES, claim};
use crate::base::archive::File;
use crate::base::http::server::{Response, empty};
use crate::model::Sequence;
use crate::model::duty::{Duty, DutyKind, DutyState};
use crate::store::{Change, StoreError, Stored};

/// What a node sends to `duty`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DutyRequest {
    number: u64,
    state: String,
    #[serde(default)]
    message: Option<String>,
}

/// How a duty ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DutyAnswer {
    number: Sequence,
    state: DutyState,
    message: String,
}

impl TryFrom<DutyRequest> for DutyAnswer {
    type Error = Fault;

    fn try_from(request: DutyRequest) -> Result<Self, Fault> {
        let state = DutyState::parse(&request.state).filter(|state| *state != DutyState::Given);
        Ok(Self {
            number: Sequence(request.number),
            state: state.ok_or_else(|| Fault::bad("state must be one of done, failed."))?,
            message: line(&request.message.unwrap_or_default()),
        })
    }
}

impl Bootstrap {
    /// The files of the node's duty; None when there is nothing to do.
    pub(super) async fn duty(&self, caller: &Caller) -> Result<Option<Vec<File>>, Fault> {
        let Some(duty) = self.given(caller)?.filter(|d| d.is_open()) else { return Ok(None) };
        let files = self.conductor.duty_files(caller.cluster, &caller.guest.name, &duty).await?;
        info!(cluster = %caller.cluster, node = caller.guest.name, duty = %duty.kind, "duty fetched");
        Ok(Some(files.into_iter().map(|f| (f.path, f.mode, f.content)).collect()))
    }

    /// The last word counts once; said again, or about an earlier duty, it changes nothing.
    pub(super) async fn take_duty_answer(
        &self,
        caller: &Caller,
        answer: DutyAnswer,
    ) -> Result<Response, Fault> {
        let (cluster, node) = (caller.cluster, &caller.guest.name);
        for _ in 0..TRIES {
            let given = self.given(caller)?;
            let Some(duty) = given.filter(|d| d.is_open() && d.number == answer.number) else {
                return Ok(empty(StatusCode::NO_CONTENT));
            };
            let mut ended = duty.record.clone();
            ended.state = answer.state;
            ended.message.clone_from(&answer.message);
            match self.store.commit(Change::new().expect(&duty).put(&ended)).await {
                Ok(()) => {
                    match ended.state {
                        DutyState::Failed => {
                            warn!(%cluster, node, duty = %ended.kind, said = ?ended.message, "duty failed");
                        }
                        _ => info!(%cluster, node, duty = %ended.kind, "duty done"),
                    }
                    self.conductor.poke(cluster);
                    return Ok(empty(StatusCode::NO_CONTENT));
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Fault::later("The node's duty is being changed by others; try again."))
    }

    /// Whether the node has been asked to get certificates of the next authorities.
    pub(super) fn renews(&self, caller: &Caller) -> Result<bool, Fault> {
        let duty = self.given(caller)?;
        Ok(duty.is_some_and(|d| d.is_open() && d.kind == DutyKind::IssueLeaves))
    }

    /// The node's last duty; only the server that has claimed the name is told.
    fn given(&self, caller: &Caller) -> Result<Option<Stored<Duty>>, Fault> {
        let (cluster, name) = (caller.cluster, &caller.guest.name);
        let (node, duty) =
            self.store.read(|view| Ok((view.node(cluster, name)?, view.duty(cluster, name)?)))?;
        match node.and_then(|n| n.record.instance) {
            Some(owner) if owner == caller.instance => Ok(duty),
            Some(_) => Err(claim::taken()),
            // A server that is about to be rebuilt still asks once or twice.
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_it_ended() {
        let read = |state: &str, message: &str| {
            DutyAnswer::try_from(DutyRequest {
                number: 7,
                state: state.to_owned(),
                message: Some(message.to_owned()),
            })
        };
        let failed = read("failed", "no\u{1b}[31m room").unwrap();
        assert_eq!((failed.state, failed.message.as_str()), (DutyState::Failed, "no[31m room"));
        assert_eq!(read("done", &"x".repeat(5000)).unwrap().message.len(), 1024);
        for bad in ["given", "", "Done"] {
            assert_eq!(read(bad, "").unwrap_err().status.as_u16(), 400, "{bad}");
        }
    }
}
