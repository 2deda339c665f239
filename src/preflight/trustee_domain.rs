//! Is there a domain for the clusters' users, and somebody who may make them?

use super::{Judgement, Look, Scene};
use crate::openstack::CloudError;

pub async fn check(scene: &Scene) -> Look {
    let keystone = scene.cloud.keystone();
    let trust = &scene.config.trust;
    let domain = if trust.domain_id.is_empty() { &trust.domain_name } else { &trust.domain_id };
    let admin = if trust.admin_id.is_empty() { &trust.admin_name } else { &trust.admin_id };
    Ok(match keystone.domain_admin().await {
        Ok(session) => judge(domain, admin, Ok(&session.roles)),
        Err(e) => judge(domain, admin, Err(&e)),
    })
}

fn judge(domain: &str, admin: &str, session: Result<&[String], &CloudError>) -> Judgement {
    match session {
        Ok(roles) if roles.iter().any(|r| r.eq_ignore_ascii_case("admin")) => {
            Judgement::ok(format!("{admin} administers domain {domain}"))
        }
        Ok(roles) => Judgement::fail(
            format!(
                "{admin} may not make users in domain {domain}: it has there only {}",
                roles.join(", ")
            ),
            format!(
                "openstack role add --user {admin} --user-domain {domain} --domain {domain} admin"
            ),
        ),
        Err(e) if e.is_unauthorised() => Judgement::fail(
            format!(
                "Keystone lets nobody into domain {domain} as {admin}: domain, user, password or \
                 role are wrong"
            ),
            "correct [trust], or make domain and administrator with: magnumd setup",
        ),
        // Where Keystone cannot be reached at all, that is another line's news.
        Err(e) => Judgement::from(e.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openstack::Service;
    use crate::preflight::Verdict;

    #[test]
    fn the_administrator_must_be_one() {
        let admin = ["admin".to_owned(), "reader".to_owned()];
        assert_eq!(judge("magnum", "keeper", Ok(&admin)).verdict, Verdict::Ok);
        let weak = judge("magnum", "keeper", Ok(&admin[1..]));
        assert!(weak.sentence.contains("only reader"), "{}", weak.sentence);
        let (service, reason) = (Service::Keystone, String::new());
        let refused = CloudError::Refused { service, status: 401, reason };
        let wrong = judge("magnum", "keeper", Err(&refused));
        assert_eq!(wrong.verdict, Verdict::Fail);
        assert!(wrong.sentence.contains("into domain magnum as keeper"), "{}", wrong.sentence);
    }
}
