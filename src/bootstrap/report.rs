//! What a node says of itself, made fit to be kept and shown. Pure.

use std::time::Duration;

use serde::Deserialize;

use super::http::Fault;
use crate::base::clock::Timestamp;
use crate::base::printable;
use crate::model::node::{Node, Phase, PhaseState};

const MESSAGE_BYTES: usize = 1 << 10;
const LOG_BYTES: usize = 16 << 10;
/// How old the time may be at which a node that is ready was last heard.
const RARELY: Duration = Duration::from_secs(30);

/// What a node sends to `status`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRequest {
    phase: String,
    state: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    log_tail: Option<String>,
}

/// A report that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub phase: Phase,
    pub state: PhaseState,
    pub message: String,
    pub log_tail: String,
}

impl TryFrom<StatusRequest> for Report {
    type Error = Fault;

    fn try_from(request: StatusRequest) -> Result<Self, Fault> {
        let phase = Phase::parse(&request.phase)
            .ok_or_else(|| one_of("phase", Phase::ALL.iter().map(|p| p.as_str())))?;
        let state = PhaseState::parse(&request.state)
            .ok_or_else(|| one_of("state", PhaseState::ALL.iter().map(|s| s.as_str())))?;
        let message = line(&request.message.unwrap_or_default());
        let log = printable::lines(&request.log_tail.unwrap_or_default());
        Ok(Self {
            phase,
            state,
            message,
            // What happened last says why it failed.
            log_tail: log[boundary(&log, log.len().saturating_sub(LOG_BYTES))..].to_owned(),
        })
    }
}

impl Report {
    /// Writes the report into the node's record; answers whether that moved the node on.
    ///
    /// Ready is final: afterwards the token in a server's user data opens nothing any more,
    /// so whoever finds it there must not be able to turn back time.
    pub fn apply(self, node: &mut Node, now: Timestamp) -> bool {
        node.last_seen = now;
        if node.is_ready() {
            return false;
        }
        let moved = (node.phase, node.state) != (self.phase, self.state);
        node.phase = self.phase;
        node.state = self.state;
        node.message = self.message;
        node.log_tail = self.log_tail;
        moved
    }
}

/// Whether there is nothing to write down: of a node that is ready only the time is kept, and that
/// not to the second. Whoever has the token of its user data could keep the disk busy otherwise.
pub(super) fn is_superfluous(node: &Node, now: Timestamp) -> bool {
    node.is_ready() && now.since(node.last_seen) < RARELY
}

fn one_of(field: &str, known: impl Iterator<Item = &'static str>) -> Fault {
    Fault::bad(format!("{field} must be one of {}.", known.collect::<Vec<_>>().join(", ")))
}

/// A sentence that is short enough to be kept.
pub(super) fn line(text: &str) -> String {
    let text = printable::line(text);
    text[..boundary(&text, text.len().min(MESSAGE_BYTES))].to_owned()
}

/// The first character boundary at or after `at`, and before it if there is none.
fn boundary(text: &str, at: usize) -> usize {
    (at..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::model::ClusterId;

    fn report(phase: &str, state: &str, message: &str, log: &str) -> Result<Report, Fault> {
        Report::try_from(StatusRequest {
            phase: phase.to_owned(),
            state: state.to_owned(),
            message: Some(message.to_owned()),
            log_tail: Some(log.to_owned()),
        })
    }

    #[test]
    fn reports_are_checked_and_cleaned() {
        let good = report("control-plane", "failed", "no\u{1b}[31m\0 route", "a\r\nb\tc").unwrap();
        assert_eq!((good.phase, good.state), (Phase::ControlPlane, PhaseState::Failed));
        assert_eq!((good.message.as_str(), good.log_tail.as_str()), ("no[31m route", "a\nb\tc"));
        let turned = report("etcd", "failed", "one\n\u{202e}two", "a\u{202e}\nb").unwrap();
        assert_eq!((turned.message.as_str(), turned.log_tail.as_str()), ("one two", "a\nb"));
        let long = "x".repeat(LOG_BYTES) + "end";
        let kept = report("etcd", "started", &long, &long).unwrap();
        assert_eq!((kept.message.len(), kept.log_tail.len()), (MESSAGE_BYTES, LOG_BYTES));
        assert!(kept.log_tail.ends_with("end"));
        for (phase, state) in [("Ready", "done"), ("ready", "DONE"), ("", ""), ("ready", "")] {
            assert!(report(phase, state, "", "").is_err(), "{phase} {state}");
        }
    }

    #[test]
    fn a_failed_node_may_try_again_and_a_ready_one_stays_ready() {
        let mut node = Node {
            cluster_id: ClusterId::new(Uuid::from_u128(7)),
            name: "n".to_owned(),
            nodegroup: "g".to_owned(),
            role: "worker".to_owned(),
            instance: None,
            phase: Phase::Booted,
            state: PhaseState::Started,
            message: String::new(),
            log_tail: String::new(),
            first_seen: Timestamp::EPOCH,
            last_seen: Timestamp::EPOCH,
        };
        let now = Timestamp::from_micros(5);
        let mut tell = |phase: &str, state: &str| {
            let moved = report(phase, state, "m", "").unwrap().apply(&mut node, now);
            (moved, node.phase, node.state)
        };
        let failed = tell("runtime", "failed");
        assert_eq!(failed, (true, Phase::Runtime, PhaseState::Failed));
        assert!(!tell("runtime", "failed").0, "the same again is no news");
        assert_eq!(tell("booted", "started"), (true, Phase::Booted, PhaseState::Started));
        assert!(tell("ready", "done").0);
        assert_eq!(tell("booted", "started"), (false, Phase::Ready, PhaseState::Done));
        let after = |seconds| now.plus(Duration::from_secs(seconds));
        assert!(is_superfluous(&node, now) && is_superfluous(&node, after(29)));
        assert!(!is_superfluous(&node, after(30)), "when it was last heard is kept");
        node.state = PhaseState::Started;
        assert!(!is_superfluous(&node, now), "before it is ready each report counts");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_none_grows(text in "(\\PC|\\n){0,40}", times in 0_usize..900) {
            let long = text.repeat(times);
            let kept = report("booted", "done", &long, &long).unwrap();
            prop_assert!(kept.message.len() < MESSAGE_BYTES + 4);
            prop_assert!(kept.log_tail.len() <= LOG_BYTES);
            prop_assert!(printable::lines(&long).ends_with(&kept.log_tail));
        }
    }
}
