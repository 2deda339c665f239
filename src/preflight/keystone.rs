//! Is Keystone there, and does it know us?

use super::{Judgement, Look, Scene};
use crate::openstack::CloudError;

pub async fn check(scene: &Scene) -> Look {
    let url = scene.cloud.keystone().auth_url();
    let outcome = scene.cloud.keystone().service().await.map(drop);
    let config = &scene.config.keystone;
    Ok(judge(url, &config.username, &config.project, outcome.as_ref().err()))
}

fn judge(url: &str, user: &str, project: &str, error: Option<&CloudError>) -> Judgement {
    match error {
        None => Judgement::ok(format!("{url} knows {user} in project {project}")),
        Some(e) if e.is_unauthorised() => Judgement::fail(
            format!("{url} does not accept the service account {user} in project {project}"),
            "correct username, password, project and their domains in [keystone], or make the \
             account with: magnumd setup",
        ),
        Some(e @ CloudError::Refused { status: 0, .. }) => {
            Judgement::fail(format!("keystone.auth_url cannot be asked: {e}"), "correct it")
        }
        Some(CloudError::Missing { .. }) => Judgement::fail(
            format!("{url} is not a Keystone: it answers 404 to a login"),
            "set auth_url in [keystone] to the address of Keystone's version 3, ending in /v3",
        ),
        Some(e) => Judgement::fail(
            format!("{url} does not answer: {e}"),
            "see that Keystone runs, that auth_url in [keystone] is its address, and that \
             nothing between it and this machine is in the way",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openstack::Service;
    use crate::preflight::Verdict;

    #[test]
    fn every_answer_has_its_sentence() {
        let service = Service::Keystone;
        let refused = |status| CloudError::Refused { service, status, reason: "no".to_owned() };
        let busy = CloudError::Busy { service, reason: "refused".to_owned(), retry_after: None };
        let missing = CloudError::Missing { service, what: "the login".to_owned() };
        let table = [
            (refused(401), "does not accept the service account magnum"),
            (missing, "is not a Keystone"),
            (busy, "does not answer: Keystone is unavailable: refused"),
        ];
        for (error, part) in table {
            let said = judge("http://k/v3", "magnum", "service", Some(&error));
            assert_eq!(said.verdict, Verdict::Fail);
            assert!(said.sentence.contains(part), "{}", said.sentence);
        }
        let fine = judge("http://k/v3", "magnum", "service", None);
        assert_eq!(fine, Judgement::ok("http://k/v3 knows magnum in project service"));
    }
}
