//! Trials: a throw-away trust and a throw-away server, made for real and taken away again.
//!
//! Both carry one fixed name, so that whatever an earlier trial left, killed in the middle, is
//! found and removed by the next. A trial that is cut off by its deadline or by the operator
//! still cleans up before it says so.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::scene::Guest;
use super::{Finding, Judgement, Look, Scene, flavor, image};
use crate::base::secret::Secret;
use crate::model::requester::Requester;
use crate::openstack::{Actor, CloudError, Heat, NewStack};

/// What trials call everything that they make.
pub const NAME: &str = "magnumd-preflight";
/// A server that is not there by then is not worth waiting for.
const BOOT: Duration = Duration::from_secs(180);
const CLEANUP: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(1);

/// Makes both trials side by side; `stop` cuts them short.
pub async fn run(scene: &Scene, stop: &CancellationToken) -> Vec<Finding> {
    let began = Instant::now();
    let finding = |check, look: Look| {
        let judgement = look.unwrap_or_else(|unseen| unseen);
        Finding { check, judgement, took: began.elapsed() }
    };
    let (trust, boot) =
        tokio::join!(async { finding("trial-trust", trust(scene, stop).await) }, async {
            finding("trial-boot", boot(scene, stop).await)
        },);
    vec![trust, boot]
}

fn no_tenant() -> Judgement {
    let cure = "set OS_CLOUD, or OS_AUTH_URL and the rest, to those of a tenant";
    Judgement::unseen("a trial is made with a tenant's credentials, and none were lent", cure)
}

fn cut_off() -> Judgement {
    Judgement::unseen("it was cut off; what it had made is removed", "let it finish")
}

// --- trust ---------------------------------------------------------------------------------

async fn trust(scene: &Scene, stop: &CancellationToken) -> Look {
    let guest = scene.guest().await?.ok_or_else(no_tenant)?;
    let Some(requester) = guest.requester.as_ref().filter(|r| r.project_id.is_some()) else {
        return Err(Judgement::unseen("the tenant's token has no project", "set OS_PROJECT_NAME"));
    };
    let keystone = scene.cloud.keystone();
    if let Some(left) = keystone.trustee_named(NAME).await? {
        keystone.delete_trustee(&left).await?;
    }
    let tried = stop.run_until_cancelled(delegate(scene, &guest, requester)).await;
    let removed = remove_trustee(scene, &guest, &requester.user_id).await;
    let outcome = match tried {
        None => cut_off(),
        Some(Ok(roles)) => Judgement::ok(format!(
            "a trust was made, delegates {}, and was deleted",
            roles.join(", ")
        )),
        Some(Err(e)) => Judgement::fail(
            format!("a trust could not be made and used: {e}"),
            "look at the lines trust and trustee-domain, and at Keystone's log",
        ),
    };
    Ok(with_leftovers(outcome, removed.err().map(|e| format!("user {NAME}: {e}"))))
}

/// A trust from the tenant to a user made for it, proved by a login through it.
async fn delegate(
    scene: &Scene,
    guest: &Guest,
    requester: &Requester,
) -> Result<Vec<String>, CloudError> {
    let keystone = scene.cloud.keystone();
    let password = Secret::new(scene.entropy.password());
    let trustee = keystone.create_trustee(NAME, &password).await?;
    let project = requester.project_id.as_deref().unwrap_or_default();
    let roles = match scene.config.trust.roles.as_slice() {
        [] => &requester.roles,
        some => some,
    };
    let token = &guest.session.token;
    let trust = keystone.create_trust(token, &requester.user_id, &trustee, project, roles).await?;
    let session = keystone.trustee(&trustee, &password, Some(&trust)).await?;
    Ok(session.roles)
}

/// With the trustee Keystone removes its trusts; they are deleted first all the same, as the
/// tenant, so that none outlives a Keystone that does not. A credential that may not even look at
/// trusts has made none.
async fn remove_trustee(scene: &Scene, guest: &Guest, trustor: &str) -> Result<(), CloudError> {
    let keystone = scene.cloud.keystone();
    let Some(trustee) = keystone.trustee_named(NAME).await? else { return Ok(()) };
    let token = &guest.session.token;
    let trusts = match keystone.trusts_between(token, trustor, &trustee).await {
        Err(CloudError::Refused { status: 403, .. }) => Vec::new(),
        trusts => trusts?,
    };
    for trust in trusts {
        keystone.delete_trust(token, &trust).await?;
    }
    keystone.delete_trustee(&trustee).await
}

// --- boot ----------------------------------------------------------------------------------

async fn boot(scene: &Scene, stop: &CancellationToken) -> Look {
    let guest = scene.guest().await?.ok_or_else(no_tenant)?;
    let Some(template) = scene.template() else {
        let cure = "name a template, or --image and --flavor";
        return Err(Judgement::unseen("no image and flavor are named", cure));
    };
    let actor = Actor::from(&guest.session);
    let image = image::find(scene, &actor).await?;
    let flavor = flavor::find(scene, &actor, template.flavor_id.as_deref()).await?;
    let heat = scene.cloud.heat(&actor).await?;
    remove_stacks(scene, &heat).await.map_err(|e| with_leftovers(Judgement::ok(""), Some(e)))?;
    let began = Instant::now();
    let try_it = tokio::time::timeout(BOOT, build(scene, &heat, &image.id, &flavor.id));
    let tried = stop.run_until_cancelled(try_it).await;
    let took = began.elapsed();
    let removed = remove_stacks(scene, &heat).await;
    let outcome = match tried {
        None => cut_off(),
        Some(Err(_)) => Judgement::fail(
            format!("a server of flavor {} was not built within {BOOT:?}", flavor.name),
            "look at nova-compute, and at the images it has to fetch first",
        ),
        Some(Ok(Err(reason))) => Judgement::fail(
            format!("a server of flavor {} could not be built: {reason}", flavor.name),
            "look at Nova's and Neutron's logs on the compute host",
        ),
        Some(Ok(Ok(drive))) => judge_drive(drive, took),
    };
    Ok(with_leftovers(outcome, removed.err()))
}

fn judge_drive(drive: bool, took: Duration) -> Judgement {
    let seconds = took.as_secs_f64();
    match drive {
        true => Judgement::ok(format!(
            "a server was built with a config drive in {seconds:.1} s, and deleted"
        )),
        false => Judgement::fail(
            format!("a server was built in {seconds:.1} s, but without the config drive asked for"),
            "install genisoimage on every compute host, and see force_config_drive in nova.conf",
        ),
    }
}

/// A network, a subnet and a server; whether the server got its drive.
fn hot(image: &str, flavor: &str) -> Value {
    json!({
        "heat_template_version": "2018-08-31",
        "description": "A trial of magnumd preflight, which deletes it again",
        "resources": {
            "network": {"type": "OS::Neutron::Net", "properties": {"name": NAME}},
            "subnet": {"type": "OS::Neutron::Subnet", "properties": {
                "network": {"get_resource": "network"}, "cidr": "10.0.0.0/24"}},
            "server": {"type": "OS::Nova::Server", "depends_on": "subnet", "properties": {
                "name": NAME, "image": image, "flavor": flavor, "config_drive": true,
                "user_data_format": "RAW", "user_data": "#cloud-config\n{}\n",
                "networks": [{"network": {"get_resource": "network"}}]}},
        },
        "outputs": {"server": {"value": {"get_attr": ["server", "show"]}}},
    })
}

async fn build(scene: &Scene, heat: &Heat<'_>, image: &str, flavor: &str) -> Result<bool, String> {
    let words = |e: CloudError| e.to_string();
    let template = hot(image, flavor).to_string();
    let order = NewStack {
        name: NAME,
        template: &template,
        parameters: &BTreeMap::new(),
        files: &BTreeMap::new(),
        timeout_minutes: 5,
        tag: NAME,
    };
    let id = heat.create(&order).await.map_err(words)?;
    loop {
        let stack = heat.show(NAME, &id, true).await.map_err(words)?;
        if stack.has_failed() {
            let failures = heat.failures(NAME, &id).await.map_err(words)?;
            let first = failures.into_iter().next();
            return Err(first.map_or(stack.status_reason, |f| f.reason));
        }
        if !stack.is_in_progress() {
            let drive = &stack.outputs.get("server").map(|s| s["config_drive"].clone());
            // Nova says "True", or nothing.
            return Ok(drive.as_ref().is_some_and(|d| d == "True" || d == true));
        }
        scene.clock.sleep(LOOK).await;
    }
}

/// Deletes every stack of trials, and waits until none is left; the error says which one is.
async fn remove_stacks(scene: &Scene, heat: &Heat<'_>) -> Result<(), String> {
    let words = |e: CloudError| format!("stack {NAME}: {e}");
    let deletion = async {
        let mut asked = false;
        loop {
            let left = heat.tagged(NAME).await.map_err(words)?;
            if left.is_empty() {
                return Ok(());
            }
            for (id, name) in &left {
                if !asked {
                    heat.delete(name, id).await.or_else(gone).map_err(words)?;
                }
                let stack = heat.show(name, id, false).await;
                if let Ok(stack) = stack
                    && stack.status.cannot_go()
                {
                    return Err(format!("stack {name} ({id}): {}", stack.status_reason));
                }
            }
            asked = true;
            scene.clock.sleep(LOOK).await;
        }
    };
    let late = || Err(format!("stack {NAME}: not deleted within {CLEANUP:?}"));
    tokio::time::timeout(CLEANUP, deletion).await.unwrap_or_else(|_| late())
}

fn gone(error: CloudError) -> Result<(), CloudError> {
    if error.is_missing() { Ok(()) } else { Err(error) }
}

/// Whatever came out of a trial, what it left behind is worse.
fn with_leftovers(outcome: Judgement, left: Option<String>) -> Judgement {
    let Some(left) = left else { return outcome };
    let both = [outcome.sentence, format!("{left}: not removed")];
    let both: Vec<String> = both.into_iter().filter(|s| !s.is_empty()).collect();
    Judgement::fail(
        both.join("; "),
        format!("run it again, which removes what is called {NAME}; or remove it by hand"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn a_server_without_its_drive_and_what_is_left() {
        let took = Duration::from_millis(1500);
        assert_eq!(
            judge_drive(true, took).sentence,
            "a server was built with a config drive in 1.5 s, and deleted"
        );
        assert_eq!(judge_drive(false, took).verdict, Verdict::Fail);
        let left = with_leftovers(judge_drive(true, took), Some("stack x".to_owned()));
        assert_eq!(left.verdict, Verdict::Fail);
        assert!(left.sentence.ends_with("and deleted; stack x: not removed"), "{}", left.sentence);
    }
}
