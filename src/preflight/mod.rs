//! Preflight: what goes wrong in a lab, looked at before a cluster meets it.
//!
//! Each pitfall is one file: it gathers facts, and a pure function judges them, so that every
//! sentence and its cure can be tested in microseconds. All checks run side by side under one
//! deadline; one that cannot see says so and never passes for a good one. Nothing outside is
//! changed, but by [`trial`], which the operator asks for and which cleans up.

mod buildable;
mod catalogue;
mod certificates;
mod clock_skew;
mod config_drive;
mod disk;
mod dns;
mod doors;
mod drawing;
mod external_network;
mod extras;
mod first_contact;
mod flavor;
mod heat;
mod image;
mod judgement;
mod keystone;
mod node_trust;
mod quota;
mod records;
mod roles;
mod scene;
mod template;
mod timeouts;
mod tls_files;
mod token_life;
pub mod trial;
mod trust;
mod trustee_domain;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

pub use judgement::{Judgement, Verdict};
pub use scene::{Parts, Scene};
pub use template::{Options, Wanted};

/// How long all checks together may take.
pub const DEADLINE: Duration = Duration::from_secs(9);

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Finding {
    pub check: &'static str,
    pub judgement: Judgement,
    pub took: Duration,
}

/// What a check says: a judgement of what it saw, or why it could not see.
type Look = Result<Judgement, Judgement>;
type Check = Pin<Box<dyn Future<Output = Look> + Send>>;

/// Looks at everything that the scene calls for; the lines come in a fixed order.
pub async fn run(scene: &Arc<Scene>, deadline: Duration) -> Vec<Finding> {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for (place, (check, look)) in checks(scene).into_iter().enumerate() {
        running.spawn(async move {
            let judgement = match tokio::time::timeout(deadline, look).await {
                Ok(Ok(judgement) | Err(judgement)) => judgement,
                Err(_) => late(deadline),
            };
            (place, Finding { check, judgement, took: began.elapsed() })
        });
    }
    let mut found = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(finding) => found.push(finding),
            Err(fallen) => std::panic::resume_unwind(fallen.into_panic()),
        }
    }
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, finding)| finding).collect()
}

fn late(deadline: Duration) -> Judgement {
    let sentence = format!("no answer within {deadline:?}");
    let cure = "look at the service asked, and at the network between it and this machine";
    Judgement::fail(sentence, cure)
}

/// The lines of the report, in the order in which an operator would mend things.
fn checks(scene: &Arc<Scene>) -> Vec<(&'static str, Check)> {
    let mut all: Vec<(&'static str, Check)> = Vec::new();
    macro_rules! look {
        ($name:literal, $check:expr) => {
            all.push(($name, {
                let scene = Arc::clone(scene);
                Box::pin(async move { $check(&scene).await })
            }))
        };
    }
    look!("keystone", keystone::check);
    look!("clock", clock_skew::check);
    look!("roles", roles::check);
    look!("trustee-domain", trustee_domain::check);
    look!("catalogue", catalogue::check);
    look!("token-life", token_life::check);
    look!("heat", heat::check);
    look!("external-network", external_network::check);
    look!("discovery", doors::discovery);
    look!("bootstrap", doors::bootstrap);
    look!("first-contact", first_contact::check);
    look!("tls", tls_files::check);
    look!("disk", disk::check);
    look!("certificates", certificates::check);
    if scene.guest.is_some() || scene.cluster_request.is_some() {
        look!("trust", trust::check);
    }
    if scene.cluster_request.is_some() {
        look!("template", template::check);
    }
    if scene.template().is_some() {
        look!("image", image::check);
        look!("flavor", flavor::check);
        look!("stack", buildable::check);
        look!("quota", quota::check);
        look!("extras", extras::check);
        look!("dns", dns::check);
        look!("config-drive", config_drive::check);
        look!("timeouts", timeouts::check);
    }
    all
}
