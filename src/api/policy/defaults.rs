//! The built-in rules, as text.

/// Which tokens a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Tokens scoped to a project; others are refused before the rule is asked.
    Project,
    Any,
}

/// One rule and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub name: &'static str,
    pub text: &'static str,
    pub scope: Scope,
}

impl Rule {
    /// What the rule is about: the requests it guards, or that other rules name it.
    pub fn guards(&self) -> String {
        let Some((kind, action)) = self.name.split_once(':') else {
            return "Named by other rules.".to_owned();
        };
        let (action, everywhere) = match action.strip_suffix("_all_projects") {
            Some(action) => (action, ", by administrators, in all projects"),
            None => (action, ""),
        };
        let (collection, member) = match kind {
            "cluster" => ("/v1/clusters", "/v1/clusters/{cluster}"),
            "clustertemplate" => ("/v1/clustertemplates", "/v1/clustertemplates/{template}"),
            "nodegroup" => (
                "/v1/clusters/{cluster}/nodegroups",
                "/v1/clusters/{cluster}/nodegroups/{nodegroup}",
            ),
            "certificate" => ("/v1/certificates", "/v1/certificates/{cluster}"),
            "credential" => ("/v1/credentials", "/v1/credentials/{cluster}"),
            "quota" => ("/v1/quotas", "/v1/quotas/{project}/{resource}"),
            "stats" => ("/v1/stats", "/v1/stats"),
            "magnum-service" => ("/v1/mservices", "/v1/mservices"),
            _ => ("/v1/federations", "/v1/federations/{federation}"),
        };
        let request = match action {
            "create" => format!("POST {collection}"),
            "get_all" => format!("GET {collection}"),
            "detail" => format!("GET {collection}/detail"),
            "get" | "get_one" => format!("GET {member}"),
            "delete" => format!("DELETE {member}"),
            "resize" | "upgrade" => format!("POST {member}/actions/{action}"),
            "publish" => format!("Setting public or hidden: POST {collection}, PATCH {member}"),
            _ => format!("PATCH {member}"),
        };
        format!("{request}{everywhere}.")
    }
}

const fn base(name: &'static str, text: &'static str) -> Rule {
    Rule { name, text, scope: Scope::Any }
}

const fn project(name: &'static str, text: &'static str) -> Rule {
    Rule { name, text, scope: Scope::Project }
}

const fn everywhere(name: &'static str) -> Rule {
    Rule { name, text: ADMIN, scope: Scope::Any }
}

const ADMIN: &str = "rule:context_is_admin";
const MEMBER: &str = "rule:admin_or_project_member";
const READER: &str = "rule:admin_or_project_reader";
const MEMBER_NOT_TRUSTEE: &str = "rule:admin_or_project_member_deny_cluster_user";
const READER_NOT_TRUSTEE: &str = "rule:admin_or_project_reader_deny_cluster_user";

pub const RULES: &[Rule] = &[
    base("context_is_admin", "role:admin"),
    base("admin_or_owner", "is_admin:True or project_id:%(project_id)s"),
    base("admin_or_user", "is_admin:True or user_id:%(user_id)s"),
    base("is_user", "user_id:%(user_id)s"),
    base("cluster_user", "user_id:%(trustee_user_id)s"),
    base("deny_cluster_user", "not domain_id:%(trustee_domain_id)s"),
    base("project_member", "role:member and project_id:%(project_id)s"),
    base("project_reader", "role:reader and project_id:%(project_id)s"),
    base("admin_or_project_member", "rule:context_is_admin or rule:project_member"),
    base("admin_or_project_reader", "rule:context_is_admin or rule:project_reader"),
    base(
        "admin_or_project_member_user",
        "rule:context_is_admin or (rule:project_member and rule:is_user)",
    ),
    base(
        "admin_or_project_reader_user",
        "rule:context_is_admin or (rule:project_reader and rule:is_user)",
    ),
    base("user_or_cluster_user", "rule:is_user or rule:cluster_user"),
    base("admin_or_user_or_cluster_user", "rule:context_is_admin or rule:user_or_cluster_user"),
    base(
        "admin_or_project_member_cluster_user",
        "rule:context_is_admin or (rule:project_member and rule:cluster_user)",
    ),
    base(
        "admin_or_project_member_user_or_cluster_user",
        "rule:context_is_admin or (rule:project_member and rule:user_or_cluster_user)",
    ),
    base("project_member_deny_cluster_user", "rule:project_member and rule:deny_cluster_user"),
    base("project_reader_deny_cluster_user", "rule:project_reader and rule:deny_cluster_user"),
    base(
        "admin_or_project_member_deny_cluster_user",
        "rule:context_is_admin or rule:project_member_deny_cluster_user",
    ),
    base(
        "admin_or_project_reader_deny_cluster_user",
        "rule:context_is_admin or rule:project_reader_deny_cluster_user",
    ),
    project("cluster:create", MEMBER_NOT_TRUSTEE),
    project("cluster:delete", MEMBER_NOT_TRUSTEE),
    everywhere("cluster:delete_all_projects"),
    project("cluster:detail", READER_NOT_TRUSTEE),
    everywhere("cluster:detail_all_projects"),
    project("cluster:get", READER_NOT_TRUSTEE),
    everywhere("cluster:get_one_all_projects"),
    project("cluster:get_all", READER_NOT_TRUSTEE),
    everywhere("cluster:get_all_all_projects"),
    project("cluster:update", MEMBER_NOT_TRUSTEE),
    project("cluster:update_health_status", "rule:admin_or_project_member_user_or_cluster_user"),
    everywhere("cluster:update_all_projects"),
    project("cluster:resize", MEMBER_NOT_TRUSTEE),
    project("cluster:upgrade", MEMBER_NOT_TRUSTEE),
    everywhere("cluster:upgrade_all_projects"),
    project("clustertemplate:create", MEMBER_NOT_TRUSTEE),
    project("clustertemplate:delete", MEMBER),
    everywhere("clustertemplate:delete_all_projects"),
    project("clustertemplate:detail", READER_NOT_TRUSTEE),
    everywhere("clustertemplate:detail_all_projects"),
    project("clustertemplate:get", READER_NOT_TRUSTEE),
    everywhere("clustertemplate:get_one_all_projects"),
    project("clustertemplate:get_all", READER_NOT_TRUSTEE),
    everywhere("clustertemplate:get_all_all_projects"),
    project("clustertemplate:update", MEMBER),
    everywhere("clustertemplate:update_all_projects"),
    everywhere("clustertemplate:publish"),
    project("certificate:get", "rule:admin_or_project_reader_user"),
    project("certificate:create", "rule:admin_or_project_member_user"),
    project("certificate:rotate_ca", MEMBER),
    project("credential:rotate", "rule:project_member_deny_cluster_user"),
    project("nodegroup:get", READER),
    project("nodegroup:get_all", READER),
    everywhere("nodegroup:get_one_all_projects"),
    everywhere("nodegroup:get_all_all_projects"),
    project("nodegroup:create", MEMBER),
    project("nodegroup:update", MEMBER),
    project("nodegroup:delete", MEMBER),
    project("quota:get", READER),
    everywhere("quota:get_all"),
    everywhere("quota:create"),
    everywhere("quota:update"),
    everywhere("quota:delete"),
    project("stats:get_all", READER),
    everywhere("magnum-service:get_all"),
    project("federation:create", MEMBER_NOT_TRUSTEE),
    project("federation:update", MEMBER_NOT_TRUSTEE),
    project("federation:delete", MEMBER_NOT_TRUSTEE),
    project("federation:detail", READER_NOT_TRUSTEE),
    project("federation:get", READER_NOT_TRUSTEE),
    project("federation:get_all", READER_NOT_TRUSTEE),
];

#[cfg(test)]
mod tests {
    use super::super::parse::Check;
    use super::*;

    #[test]
    fn every_rule_parses_and_names_only_rules_that_exist() {
        for rule in RULES {
            let check = Check::parse(rule.text);
            assert_ne!(check, Check::Never, "{}", rule.name);
            for name in check.named_rules() {
                assert!(RULES.iter().any(|r| r.name == name), "{} names {name}", rule.name);
            }
            assert_eq!(RULES.iter().filter(|r| r.name == rule.name).count(), 1, "{}", rule.name);
        }
    }
}
