//! The machines inside the cloud: each active server's guest boots and behaves as a node.
//!
//! A guest sees of magnumd what a real node sees: its user data and the bootstrap interface.
//! A server whose user data names no bootstrap interface just sits there.

mod api;
pub(super) mod bundle;
mod certificates;
mod cloud;
mod docker;
mod duty;
mod etcd;
mod kubernetes;
pub(super) mod line;
mod node;
pub(super) mod swarm;
pub(super) mod user_data;

pub(super) use node::{Disk, Identity};

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::world::World;

/// What a machine does before it reads its user data.
const POWER_ON: Duration = Duration::from_millis(200);

/// Starts a guest in every server that becomes active.
pub(super) fn keep(
    world: Arc<World>,
    mut born: mpsc::UnboundedReceiver<String>,
    stop: CancellationToken,
) {
    tokio::spawn(async move {
        loop {
            let id = tokio::select! {
                id = born.recv() => id,
                () = stop.cancelled() => None,
            };
            let Some(id) = id else { return };
            let Some(power) = world.lock().compute.servers.get(&id).map(|s| s.power.clone()) else {
                continue;
            };
            let (world, stop) = (Arc::clone(&world), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    // First: what a machine had in hand ends with its power.
                    biased;
                    () = power.cancelled() => debug!(server = id, "a guest is switched off"),
                    () = live(&world, &id, &power) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    });
}

/// One machine's life; it ends when nothing is left to do.
async fn live(world: &Arc<World>, id: &str, power: &CancellationToken) {
    let now = world.clock.now();
    let Some(wait) = world.lock().compute.servers.get(id).map(|s| s.built_at.since(now)) else {
        return;
    };
    world.clock.sleep(wait + POWER_ON).await;
    let machine = {
        let state = world.lock();
        let Some(server) = state.compute.servers.get(id).filter(|s| s.fault.is_none()) else {
            return;
        };
        let ports = state.network.ports.values().filter(|p| p.device_id == id);
        let address = ports.flat_map(|p| &p.fixed).map(|(_, address)| *address).next();
        let mut plan = user_data::parse(&server.user_data);
        if let (true, Ok(plan)) = (server.is_of_before, &mut plan) {
            plan.claims = false;
        }
        (server.name.clone(), address, plan, server.disk.clone())
    };
    let node = |name, address, plan| {
        node::Node::new(Arc::clone(world), id, power.clone(), name, address, plan)
    };
    match machine {
        (name, _, Err(reason), _) => debug!(name, reason, "a guest has nothing to do"),
        (name, address, Ok(plan), Some(disk)) => {
            info!(name, role = %plan.role, "a guest starts again with its disk");
            node(name, address, plan).restart(disk).await;
        }
        (name, address, Ok(plan), None) => {
            info!(name, role = %plan.role, "a guest boots as a node");
            node(name, address, plan).run().await;
        }
    }
}
