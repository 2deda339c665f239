//! A first cluster, built through the API like any tenant's, and shown while it grows.

use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use hyper::header::HeaderName;
use hyper::{Method, StatusCode};
use indicatif::{ProgressBar, ProgressStyle};
use magnumd::base::http::client::{Answer, HttpClient, HttpError, Outgoing};
use magnumd::base::http::tls::{self, TlsError, Trust};
use magnumd::conductor::Conductor;
use magnumd::model::ClusterId;
use magnumd::model::operation::{CreateStep, OperationKind, Step};
use serde_json::{Value, json};

const NAME: &str = "first";
const TEMPLATE: &str = "kubernetes";
const MASTERS: u64 = 1;
const WORKERS: u64 = 2;
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Why there is no first cluster.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("{what}: {status}: {body}")]
    Refused { what: String, status: StatusCode, body: String },
    #[error("cluster {NAME} is {status}: {reason}")]
    Failed { status: String, reason: String },
}

struct Tenant<'u> {
    http: HttpClient,
    api: &'u str,
    token: String,
}

/// Makes a template and a cluster, shows steps until it is complete, and says what to try.
pub async fn show(
    api: &str,
    identity: &str,
    directory: &Path,
    conductor: &Conductor,
) -> Result<(), DemoError> {
    let began = Instant::now();
    let tenant = log_in(api, identity).await?;
    let screen = Screen::new();
    let template = tenant
        .ask(
            Method::POST,
            "/clustertemplates",
            Some(json!({
                "name": TEMPLATE,
                "coe": "kubernetes",
                "image_id": "ubuntu",
                "external_network_id": "public",
                "keypair_id": "default",
                "flavor_id": "m1.small",
                "master_flavor_id": "m1.small",
                "network_driver": "flannel",
            })),
        )
        .await?;
    screen.step(&format!("cluster template {TEMPLATE}"));
    let made = tenant
        .ask(
            Method::POST,
            "/clusters",
            Some(json!({
                "name": NAME,
                "cluster_template_id": template["uuid"],
                "master_count": MASTERS,
                "node_count": WORKERS,
            })),
        )
        .await?;
    let uuid = made["uuid"].as_str().unwrap_or_default().to_owned();
    screen.step(&format!("cluster {NAME} accepted"));
    let id = uuid.parse().map(ClusterId::new).ok();
    let mut passed = 0;
    let cluster = loop {
        let progress = id.and_then(|id| conductor.progress_of(id));
        if let Some(progress) = progress {
            let at = match &progress.kind {
                OperationKind::Create(create) => {
                    CreateStep::ALL.iter().position(|s| *s == create.step)
                }
                _ => None,
            };
            let at = at.unwrap_or(passed);
            for step in &CreateStep::ALL[passed.min(at)..at] {
                screen.step(step.name());
            }
            passed = passed.max(at);
            screen.progress(passed as u64, progress.nodes_ready as u64);
        }
        let cluster = tenant.ask(Method::GET, &format!("/clusters/{uuid}"), None).await?;
        let text = |key: &str| cluster[key].as_str().unwrap_or_default().to_owned();
        match text("status").as_str() {
            "CREATE_IN_PROGRESS" => screen.say(&text("status_reason")),
            "CREATE_COMPLETE" => break cluster,
            status => {
                let status = status.to_owned();
                return Err(DemoError::Failed { status, reason: text("status_reason") });
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    CreateStep::ALL[passed..].iter().for_each(|step| screen.step(step.name()));
    screen.finish(&format!(
        "cluster {NAME} is CREATE_COMPLETE after {:.1} s, API at {}",
        began.elapsed().as_secs_f64(),
        cluster["api_address"].as_str().unwrap_or("(unknown)")
    ));
    suggest(directory);
    Ok(())
}

async fn log_in<'u>(api: &'u str, identity: &str) -> Result<Tenant<'u>, DemoError> {
    let http = HttpClient::new(tls::client_config(&Trust::default())?, Duration::from_secs(5));
    let scope = json!({"project": {"name": "demo", "domain": {"id": "default"}}});
    let user = json!({"name": "demo", "domain": {"id": "default"}, "password": "secret"});
    let method = json!({"methods": ["password"], "password": {"user": user}});
    let body = json!({"auth": {"identity": method, "scope": scope}});
    let outgoing = Outgoing::new(Method::POST, format!("{identity}/auth/tokens")).json(&body);
    let answer = accepted("logging in", http.send(outgoing).await?)?;
    let token = answer.header("x-subject-token").unwrap_or_default().to_owned();
    Ok(Tenant { http, api, token })
}

impl Tenant<'_> {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, DemoError> {
        let what = format!("{method} {path}");
        let mut outgoing = Outgoing::new(method, format!("{}{path}", self.api))
            .header(TOKEN, &self.token)
            .deadline(Duration::from_secs(30));
        if let Some(body) = &body {
            outgoing = outgoing.json(body);
        }
        let answer = accepted(&what, self.http.send(outgoing).await?)?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }
}

fn accepted(what: &str, answer: Answer) -> Result<Answer, DemoError> {
    match answer.status.is_success() {
        true => Ok(answer),
        false => Err(DemoError::Refused {
            what: what.to_owned(),
            status: answer.status,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        }),
    }
}

/// A bar on a terminal, plain lines elsewhere.
struct Screen {
    bar: Option<ProgressBar>,
}

impl Screen {
    fn new() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self { bar: None };
        }
        let bar = ProgressBar::new(CreateStep::ALL.len() as u64 - 1 + MASTERS + WORKERS);
        let style = "{spinner:.cyan} [{bar:30.cyan/blue}] {elapsed} {msg}";
        let style = ProgressStyle::with_template(style);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar: Some(bar) }
    }

    fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("\u{1b}[32m✓\u{1b}[0m {what}")),
            None => say!("done {what}"),
        }
    }

    fn progress(&self, steps: u64, nodes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(steps + nodes);
        }
    }

    fn say(&self, sentence: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(sentence.to_owned());
        }
    }

    fn finish(&self, sentence: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        say!("{sentence}");
    }
}

fn suggest(directory: &Path) {
    say!("\nTry, in another shell:");
    for command in commands(directory) {
        say!("  {command}");
    }
    say!("\nCtrl-C ends the lab.");
}

fn commands(directory: &Path) -> [String; 3] {
    let clouds = directory.join("clouds.yaml");
    [
        format!("export OS_CLIENT_CONFIG_FILE={} OS_CLOUD=demo", clouds.display()),
        format!("openstack coe cluster show {NAME}"),
        // A lab begins anew in the directory of the one before, whose files do not fit this cluster.
        format!("openstack coe cluster config {NAME} --dir {} --force", directory.display()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the client refuses to overwrite what it wrote, so the command that the lab prints
    /// worked once per directory ("File …/config exists, aborting.").
    #[test]
    fn what_is_suggested_works_again_and_again() {
        let [clouds, _, config] = commands(Path::new("/tmp/lab"));
        assert_eq!(clouds, "export OS_CLIENT_CONFIG_FILE=/tmp/lab/clouds.yaml OS_CLOUD=demo");
        assert_eq!(config, format!("openstack coe cluster config {NAME} --dir /tmp/lab --force"));
    }
}
