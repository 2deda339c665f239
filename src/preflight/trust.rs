//! Can the tenant's kind of credential make the trust that every cluster needs?

use super::scene::Guest;
use super::{Judgement, Look, Scene, Verdict};
use crate::conductor::can_make_trusts;

pub async fn check(scene: &Scene) -> Look {
    let Some(credentials) = &scene.guest else {
        return Err(Judgement::unseen(
            "no tenant's credentials were lent",
            "set OS_CLOUD, or OS_AUTH_URL and the rest, to those of a tenant",
        ));
    };
    match scene.guest().await {
        Ok(guest) => {
            let delegated = &scene.config.trust.roles;
            let said = judge(&credentials.who, guest.as_deref(), delegated);
            Ok(match said.verdict {
                Verdict::Ok if credentials.is_application() => doubtful(&credentials.who),
                _ => said,
            })
        }
        Err(e) if e.is_unauthorised() => Ok(Judgement::fail(
            format!("Keystone does not accept the {} of the environment", credentials.who),
            "correct OS_CLOUD or the OS_* variables, or unset them",
        )),
        Err(e) => Err(e.into()),
    }
}

fn judge(who: &str, guest: Option<&Guest>, delegated: &[String]) -> Judgement {
    let requester = guest.and_then(|guest| guest.requester.as_ref());
    let Some(requester) = requester.filter(|r| r.project_id.is_some()) else {
        return Judgement::fail(
            format!("the {who} has a token without a project, and clusters belong to one"),
            "set OS_PROJECT_NAME and OS_PROJECT_DOMAIN_NAME",
        );
    };
    if let Err(refusal) = can_make_trusts(requester) {
        let sentence = refusal.to_string();
        let (sentence, cure) = sentence.split_once(". ").unwrap_or((&sentence, "use a password"));
        return Judgement::fail(sentence, cure.trim_end_matches('.'));
    }
    let lacking: Vec<&str> =
        delegated.iter().map(String::as_str).filter(|role| !requester.has_role(role)).collect();
    if !lacking.is_empty() {
        let project = requester.project_name.as_deref().unwrap_or_default();
        return Judgement::fail(
            format!("the {who} lacks {}, which trust.roles wants to delegate", lacking.join(", ")),
            format!(
                "openstack role add --user {} --project {project} {}, or change trust.roles",
                requester.user_name, lacking[0]
            ),
        );
    }
    Judgement::ok(format!("the {who} may make trusts; --deep makes one to prove it"))
}

/// From 2026.2 on Keystone takes all application credentials for delegations.
fn doubtful(who: &str) -> Judgement {
    Judgement::warn(
        format!(
            "the {who} is unrestricted, but newer Keystones let no application credential make a \
             trust; --deep makes one to prove it"
        ),
        "use a password; or set allow_insecure_application_credential_trust_escalation in \
         [security_compliance] of keystone.conf",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::secret::Secret;
    use crate::model::requester::Requester;
    use crate::openstack::Session;

    fn guest(restricted: bool, project: Option<&str>) -> Guest {
        let requester = Requester {
            user_id: "u".to_owned(),
            user_name: "demo".to_owned(),
            user_domain_id: String::new(),
            user_domain_name: String::new(),
            project_id: project.map(str::to_owned),
            project_name: project.map(str::to_owned),
            project_domain_id: None,
            domain_id: None,
            system_scope: false,
            roles: vec!["member".to_owned()],
            trust: None,
            restricted_credential: restricted,
            expires_at: Timestamp::EPOCH,
        };
        let session = Session {
            token: Secret::new(String::new()),
            issued_at: Timestamp::EPOCH,
            expires_at: Timestamp::EPOCH,
            user_id: String::new(),
            roles: Vec::new(),
            project_id: String::new(),
            domain_id: String::new(),
            catalog: Default::default(),
        };
        Guest { session, requester: Some(requester) }
    }

    #[test]
    fn an_application_credential_is_told_its_cure() {
        let said = judge("user demo", Some(&guest(true, Some("p"))), &[]);
        assert_eq!(said.verdict, Verdict::Fail);
        assert!(said.sentence.contains("restricted application credential"), "{}", said.sentence);
        assert!(said.cure.unwrap().contains("--unrestricted"));
        assert_eq!(judge("user demo", Some(&guest(false, Some("p"))), &[]).verdict, Verdict::Ok);
        let homeless = judge("user demo", Some(&guest(false, None)), &[]);
        assert!(homeless.sentence.contains("without a project"));
        let poor = judge("user demo", Some(&guest(false, Some("p"))), &["creator".to_owned()]);
        assert!(poor.sentence.contains("lacks creator"), "{}", poor.sentence);
    }
}
