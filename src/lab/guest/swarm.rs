//! A node of a swarm: the first manager founds it and hands over what the others join with.

use hyper::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::line::Line;
use super::node::Node;
use super::user_data::{Role, variables};

/// With which nodes join, by role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lab) struct Tokens {
    pub master: String,
    pub worker: String,
}

impl Node<'_> {
    /// Whether the bundle makes this machine a node of a swarm.
    pub(super) fn is_of_a_swarm(&self) -> bool {
        self.bundle.text("daemon.json").is_ok()
    }

    pub(super) async fn found_or_join(&mut self, client: &Line) -> Result<String, String> {
        let env = variables(self.bundle.text("env")?)?;
        let value = |key: &str| env.get(key).map(String::as_str).unwrap_or_default();
        if value("MASTER_INDEX") == "0" {
            let draw = || -> String {
                self.world.entropy.bytes::<16>().iter().map(|b| format!("{b:02x}")).collect()
            };
            let tokens = Tokens {
                master: format!("SWMTKN-1-{}", draw()),
                worker: format!("SWMTKN-1-{}", draw()),
            };
            let body = json!({
                "master": tokens.master, "worker": tokens.worker,
                "renewal": format!("{}{}", draw(), draw()),
            });
            // It is there before others hear how to join it.
            self.world.lock().compute.swarms.insert(self.plan.cluster.clone(), tokens);
            self.call(client, Method::POST, "join", Some(body)).await;
            return Ok("founded".to_owned());
        }
        let answer = self.call(client, Method::GET, "join", None).await;
        let answer: Value = serde_json::from_slice(&answer.body)
            .map_err(|e| format!("what this node joins with is not JSON: {e}"))?;
        let known = self.world.lock().compute.swarms.get(&self.plan.cluster).cloned();
        let known = known.ok_or("there is no swarm to join")?;
        let mine = match self.plan.role {
            Role::Master => known.master,
            Role::Worker => known.worker,
        };
        match answer["secret"] == mine {
            true => Ok("joined".to_owned()),
            false => Err("A valid join token is necessary to join this cluster".to_owned()),
        }
    }

    /// The daemon of a manager listens, with a certificate that magnumd has signed or, without
    /// TLS, for everybody.
    pub(super) async fn start_docker(&mut self, client: &Line) -> Result<String, String> {
        let env = variables(self.bundle.text("env")?)?;
        let port = env.get("API_PORT").map(String::as_str).unwrap_or_default();
        let Ok(port) = port.parse() else { return Ok(String::new()) };
        let wants_tls = self.bundle.text("daemon.json")?.contains("\"tlsverify\": true");
        let identity = match wants_tls {
            true => {
                let (wanted, certificate, ca) = self.certificate(client, "docker-server").await?;
                Some((certificate, wanted.key_pem(), ca))
            }
            false => None,
        };
        let identity = identity.as_ref().map(|(pem, key, ca)| (&**pem, &**key, &**ca));
        self.serve(Api::docker(&self.name, &self.plan.cluster, port, identity)?).await;
        Ok(String::new())
    }
}
