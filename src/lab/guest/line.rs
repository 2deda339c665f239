//! How a guest reaches those outside its cloud: from the address that others see it by.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;

use crate::base::http::client::{Answer, HttpClient, HttpError, Outgoing};

use super::super::world::{State, World};

const CONNECT: Duration = Duration::from_secs(20);

/// A guest's connections to the outside.
#[derive(Debug)]
pub(super) struct Line {
    tls: ClientConfig,
    /// The client of the address that the guest had last.
    current: Mutex<Option<(Option<IpAddr>, HttpClient)>>,
}

impl Line {
    pub fn new(tls: ClientConfig) -> Self {
        Self { tls, current: Mutex::default() }
    }

    pub async fn send(
        &self,
        world: &World,
        server: &str,
        asked: Outgoing,
    ) -> Result<Answer, HttpError> {
        let source = outside(&world.lock(), server).map(IpAddr::V4);
        let client = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            match &*current {
                Some((from, client)) if *from == source => client.clone(),
                _ => {
                    let client = HttpClient::from_source(self.tls.clone(), CONNECT, source);
                    *current = Some((source, client.clone()));
                    client
                }
            }
        };
        client.send(asked).await
    }
}

/// A server's floating address, else that of the router which translates its own. The addresses
/// of the lab's public network are this machine's; None where there is none of them.
pub(in super::super) fn outside(state: &State, server: &str) -> Option<Ipv4Addr> {
    if state.compute.behind.is_some() {
        return state.compute.behind;
    }
    let net = &state.network;
    let ports = || net.ports.values().filter(|p| p.device_id == server);
    let router = || {
        ports().flat_map(|p| &p.fixed).find_map(|(subnet, _)| {
            let gateway = net.subnets.get(subnet)?.gateway;
            let leads = |p: &&super::super::network::Port| {
                p.fixed.iter().any(|(s, a)| s == subnet && Some(*a) == gateway)
            };
            let interface = net.ports.values().find(leads)?;
            let (_, address) = net.routers.get(&interface.device_id)?.gateway.as_ref()?;
            Some(*address)
        })
    };
    let found = net.floating_of(server).first().copied().or_else(router);
    found.filter(Ipv4Addr::is_loopback)
}
