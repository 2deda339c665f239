//! May the service account validate tokens, and see what tenants have?

use super::{Judgement, Look, Scene};

pub async fn check(scene: &Scene) -> Look {
    let session = scene.cloud.keystone().service().await?;
    let config = &scene.config.keystone;
    Ok(judge(&config.username, &config.project, &session.roles))
}

fn judge(user: &str, project: &str, roles: &[String]) -> Judgement {
    let has = |wanted: &str| roles.iter().any(|role| role.eq_ignore_ascii_case(wanted));
    let all = || roles.join(", ");
    match (has("admin"), has("service")) {
        (true, _) => Judgement::ok(format!("{user} has in project {project}: {}", all())),
        (false, true) => Judgement::warn(
            format!(
                "{user} has the role service but not admin in project {project}: tokens can be \
                 validated, other projects' quotas cannot be seen"
            ),
            format!("openstack role add --user {user} --project {project} admin"),
        ),
        (false, false) => Judgement::fail(
            format!("{user} may not validate tokens: it has in project {project} only {}", all()),
            format!("openstack role add --user {user} --project {project} admin"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn admin_is_enough_and_member_is_not() {
        let of = |roles: &[&str]| {
            let roles: Vec<String> = roles.iter().map(|r| (*r).to_owned()).collect();
            judge("magnum", "service", &roles)
        };
        assert_eq!(of(&["admin", "reader"]).verdict, Verdict::Ok);
        assert_eq!(of(&["service"]).verdict, Verdict::Warn);
        let poor = of(&["member", "reader"]);
        assert_eq!(poor.verdict, Verdict::Fail);
        assert!(poor.sentence.contains("only member, reader"));
        assert!(poor.cure.unwrap().contains("role add --user magnum --project service admin"));
    }
}
