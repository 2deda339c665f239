//! The conductor's loop: takes clusters from the queue, a few at a time, until it is stopped.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, error_span, info, warn};

use super::Conductor;
use super::engine::LOOKS;
use super::queue::Turn;
use crate::base::party::Party;
use crate::model::ClusterId;
use crate::model::service::Service;
use crate::store::Change;

const HEARTBEAT: Duration = Duration::from_secs(60);
/// How often the loop shows that it turns.
const BEAT: Duration = Duration::from_secs(5);
/// How long running steps may finish when we stop.
const DRAIN: Duration = Duration::from_secs(60);

impl Conductor {
    /// Resumes every unfinished operation, then works until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        match self.inner.store.read(|view| view.operations()) {
            Ok(operations) => {
                if !operations.is_empty() {
                    info!(operations = operations.len(), "resuming unfinished operations");
                }
                operations.iter().for_each(|o| self.poke(o.cluster_id));
            }
            Err(error) => error!(%error, "unfinished operations cannot be read"),
        }
        let mut lanes = JoinSet::new();
        let mut names = HashMap::new();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let between = self.inner.clock.real_length(self.inner.settings.sync_interval);
        let mut sync = tokio::time::interval(between.max(Duration::from_millis(10)));
        let mut turns = tokio::time::interval(BEAT);
        loop {
            self.inner.pulse.beat();
            let turn = match lanes.len() < self.inner.settings.lanes {
                true => self.queue().take(Instant::now()),
                false => Turn::Idle,
            };
            let until = match turn {
                Turn::Run(id, project) => {
                    let conductor = self.clone();
                    // Of the highest level, so that no filter takes the names from the lines.
                    let span = error_span!("run", cluster = %id);
                    let lane = async move {
                        Party::Project(project).scope(conductor.look_after(id)).await;
                    };
                    let lane = lane.instrument(span);
                    names.insert(lanes.spawn(lane).id(), id);
                    continue;
                }
                Turn::WaitUntil(at) => at,
                Turn::Idle => Instant::now() + Duration::from_secs(3600),
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.inner.wake.notified() => {}
                () = tokio::time::sleep_until(until.into()) => {}
                _ = heartbeat.tick() => self.beat().await,
                _ = sync.tick() => self.sync_soon(),
                _ = turns.tick() => {}
                Some(ended) = lanes.join_next_with_id() => {
                    let task = match &ended {
                        Ok((task, ())) => *task,
                        Err(panicked) => panicked.id(),
                    };
                    if let Some(id) = names.remove(&task) {
                        self.finished(id);
                        if ended.is_err() {
                            error!(cluster = %id, "a run panicked; it is tried again");
                            self.push(id, LOOKS.most);
                        }
                    }
                }
            }
        }
        // From here on time is limited anyway.
        self.inner.pulse.rest();
        self.inner.stopping.cancel();
        let drained = async { while lanes.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            warn!("running steps were cut off; they resume at the next start");
        }
    }

    /// Gives a run's lane back.
    fn finished(&self, id: ClusterId) {
        let mut queue = self.queue();
        queue.finished(id);
        if self.inner.gone.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
            queue.forget(id);
        }
    }

    /// One more sign of life for `mservices`.
    async fn beat(&self) {
        let host = &self.inner.settings.host;
        let now = self.inner.clock.now();
        let known = self.inner.store.read(|view| view.services());
        let known = known.unwrap_or_default().into_iter().find(|s| s.host == *host);
        let service = match known.map(|s| s.record) {
            Some(mut service) => {
                service.report_count += 1;
                service.last_seen_up = now;
                service
            }
            None => Service {
                id: 1,
                host: host.clone(),
                report_count: 1,
                last_seen_up: now,
                created_at: now,
            },
        };
        if let Err(error) = self.inner.store.commit(Change::new().put(&service)).await {
            warn!(%error, "the heartbeat could not be written");
        }
    }
}
