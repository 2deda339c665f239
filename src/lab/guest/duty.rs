//! A node that is ready: it asks for duties and does them, with an eye on what it is given.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;
use tracing::debug;

use super::super::fault::GuestHarm;
use super::bundle::Bundle;
use super::cloud;
use super::line::Line;
use super::node::Node;
use super::user_data::{Role, variables};

/// A real node asks twice a minute; here a minute is long.
const BETWEEN: Duration = Duration::from_secs(3);

/// The authorities in a file, in order.
fn authorities(files: &Bundle, path: &str) -> Vec<String> {
    let text = files.text(path).unwrap_or_default();
    let end = "-----END CERTIFICATE-----";
    let blocks = text.split_inclusive(end).map(|block| block.trim().to_owned());
    blocks.filter(|block| block.ends_with(end)).collect()
}

impl Node<'_> {
    /// Until the machine is switched off.
    pub(super) async fn do_duties(mut self, client: &Line, mut trusted: Vec<String>) {
        loop {
            self.save(&trusted);
            self.world.clock.sleep(BETWEEN).await;
            let answer = self.call(client, Method::GET, "duty", None).await;
            if answer.status == StatusCode::NO_CONTENT {
                continue;
            }
            let given = Bundle::unpack(&answer.body);
            if given.as_ref().is_ok_and(|files| self.learns(files)) {
                self.plan.claims = true;
                continue;
            }
            if given.as_ref().is_ok_and(|files| files.text("duty.env").is_err()) {
                // There is nothing to do but to say where it stands.
                self.report_ready(client).await;
                continue;
            }
            let given = given.and_then(|files| Ok((variables(files.text("duty.env")?)?, files)));
            let (env, files) = match given {
                Ok(given) => given,
                Err(reason) => {
                    debug!(name = self.name, reason, "a guest does not understand its duty");
                    continue;
                }
            };
            let value = |key: &str| env.get(key).map(String::as_str).unwrap_or_default();
            let kind = value("DUTY_KIND").to_owned();
            let number: u64 = value("DUTY_NUMBER").parse().unwrap_or_default();
            let harm = self.world.faults.of_guest(&self.name, &kind);
            if let Some(GuestHarm::Delay(length)) = harm {
                self.world.clock.sleep(length).await;
            }
            let done = match harm {
                Some(GuestHarm::Hang) => std::future::pending().await,
                Some(GuestHarm::Fail(sentence)) => Err(sentence),
                Some(GuestHarm::Delay(_)) | None => {
                    self.perform(client, &kind, value("DUTY_TARGETS"), &files, &mut trusted).await
                }
            };
            debug!(name = self.name, kind, ?done, "a guest has done its duty");
            let (state, message) = match done {
                Ok(()) => ("done", String::new()),
                Err(reason) => ("failed", reason),
            };
            let body = json!({"number": number, "state": state, "message": message});
            self.call(client, Method::POST, "duty", Some(body)).await;
        }
    }

    /// `trusted` is what the node trusts, in the order in which it may be dropped.
    async fn perform(
        &mut self,
        client: &Line,
        kind: &str,
        targets: &str,
        files: &Bundle,
        trusted: &mut Vec<String>,
    ) -> Result<(), String> {
        let given = authorities(files, "pki/ca.crt");
        let expect = |count: usize| match given.len() == count {
            true => Ok(()),
            false => Err(format!("pki/ca.crt has {} authorities instead of {count}", given.len())),
        };
        match kind {
            "drain" if targets.is_empty() => Err("no node is named".to_owned()),
            "drain" if self.plan.role == Role::Worker => Err("only masters drain".to_owned()),
            "drain" => {
                self.take_off_the_books(targets);
                Ok(())
            }
            "trust-authorities" => {
                expect(2)?;
                *trusted = given;
                self.change_api(client, files).await
            }
            "issue-leaves" => {
                expect(2)?;
                let known = given.iter().all(|a| trusted.contains(a));
                if !known || given.first() == trusted.first() {
                    return Err("the authorities are not those that were to be trusted".to_owned());
                }
                // Those who sign for themselves have had a key from the start.
                if files.text("pki/ca.key").is_ok() != self.bundle.text("pki/ca.key").is_ok() {
                    return Err("keys are for masters that sign, and for them only".to_owned());
                }
                self.issued = None;
                let wanted = match self.plan.role {
                    Role::Master => authorities(files, "pki/etcd/ca.crt"),
                    Role::Worker => given.clone(),
                };
                let (_, signers) = self.issue(client).await?;
                let is_next =
                    |signer: &String| wanted.first().is_some_and(|ca| ca == signer.trim());
                if !signers.iter().all(is_next) {
                    return Err("a certificate was not signed by the next authority".to_owned());
                }
                *trusted = given;
                self.change_api(client, files).await
            }
            "drop-authorities" => {
                expect(1)?;
                match given.first() == trusted.first() {
                    true => self.change_api(client, files).await,
                    false => Err("what is left is not the new authority".to_owned()),
                }
            }
            "renew-credentials" => cloud::log_in(files).await.map(|_| ()),
            "rejoin" if self.is_joined() => Ok(()),
            "rejoin" => Err("the cluster does not show this node".to_owned()),
            other => Err(format!("'{other}' is no duty that this node knows")),
        }
    }
    fn take_off_the_books(&self, nodes: &str) {
        let mut state = self.world.lock();
        for name in nodes.split_whitespace() {
            let mut all = state.compute.servers.values_mut();
            if let Some(server) = all.find(|s| s.name == name) {
                server.joined = None;
            }
        }
    }

    /// A master's API server starts again with what the duty brought.
    async fn change_api(&mut self, client: &Line, files: &Bundle) -> Result<(), String> {
        if self.plan.role == Role::Worker {
            return Ok(());
        }
        for path in ["pki/ca.crt", "pki/ca.key"] {
            if let Ok(content) = files.text(path) {
                self.bundle.put(path, content);
            }
        }
        self.start_api(client).await.map(|_| ())
    }
}
