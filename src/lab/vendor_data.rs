//! Nova's dynamic vendor data: it asks a service about each server, and gives the server alone
//! what was answered.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::header::HeaderName;
use serde_json::{Value, json};
use tracing::warn;

use crate::base::http::client::{HttpClient, Outgoing};
use crate::base::http::tls::{Trust, client_config};

use super::auth;
use super::seed::PASSWORD;
use super::world::World;

const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// Nova's `vendordata_dynamic_connect_timeout` and `vendordata_dynamic_read_timeout`.
const PATIENCE: Duration = Duration::from_secs(5);

impl World {
    /// `openstack/latest/vendor_data2.json` of a server, as its config drive and the metadata
    /// service have it. A target that does not answer gives nothing, and the server boots all the
    /// same.
    pub async fn vendor_data(&self, server: &str) -> Value {
        let Some((url, body)) = self.question(server) else { return json!({}) };
        let answer = match self.ask(url, &body).await {
            Ok(answer) => answer,
            Err(error) => {
                warn!(error, "Error from dynamic vendordata service magnumd");
                json!({})
            }
        };
        json!({ "magnumd": answer })
    }

    /// Whom Nova asks, and what; None where it is not configured to ask.
    fn question(&self, server: &str) -> Option<(String, Value)> {
        let state = self.lock();
        if !state.compute.asks_for_vendor_data {
            return None;
        }
        let magnum = state.registry.url("container-infra")?.trim_end_matches("/v1").to_owned();
        let server = state.compute.servers.get(server)?;
        let body = json!({
            "project-id": server.project_id,
            "instance-id": server.id,
            "image-id": server.image_id,
            "user-data": STANDARD.encode(&server.user_data),
            "hostname": server.name,
            "metadata": server.metadata,
            "boot-roles": "",
        });
        Some((format!("{magnum}/vendordata"), body))
    }

    async fn ask(&self, url: String, body: &Value) -> Result<Value, String> {
        let token = self.nova_token().ok_or("Nova cannot log in")?;
        let tls = client_config(&Trust::default()).map_err(|e| e.to_string())?;
        let asked = Outgoing::new(Method::POST, url).deadline(PATIENCE).json(body);
        let asked = asked.header(TOKEN, &token);
        let answer = HttpClient::new(tls, PATIENCE).send(asked).await.map_err(|e| e.to_string())?;
        match answer.status.is_success() {
            true => serde_json::from_slice(&answer.body).map_err(|e| e.to_string()),
            false => Err(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body))),
        }
    }

    /// A token of Nova's own account, while it is good the same.
    fn nova_token(&self) -> Option<String> {
        let now = self.clock.now();
        {
            let state = self.lock();
            let kept = state.compute.nova_token.as_deref();
            if let Some(token) = kept.and_then(|kept| state.identity.token(kept, now)) {
                return Some(token.id.clone());
            }
        }
        let user = json!({"name": "nova", "domain": {"id": "default"}, "password": PASSWORD});
        let project = json!({"name": "service", "domain": {"id": "default"}});
        let identity = json!({"methods": ["password"], "password": {"user": user}});
        let asked = json!({"auth": {"identity": identity, "scope": {"project": project}}});
        let token = auth::login(self, &asked).ok()?.id;
        self.lock().compute.nova_token = Some(token.clone());
        Some(token)
    }
}
