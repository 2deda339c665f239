//! Policy: may this caller do that? In oslo.policy's own language, so that an operator's
//! rules keep their meaning.
//!
//! Rules are parsed once, into trees; a check walks one without allocating. What cannot be
//! parsed or finished denies, whatever `not` stands before it. A name without a rule stands
//! for the rule `default`, and for no where there is none, as in oslo.policy.

mod defaults;
mod eval;
mod files;
mod parse;

use std::collections::HashMap;

use serde_json::Value;
use tracing::{error, warn};

pub use eval::{Credentials, Target};
#[cfg(fuzzing)]
pub use files::parse as parse_file;
pub use files::{PolicyError, Source, Watch};
use parse::Check;

use crate::model::requester::Requester;

/// The rule that stands for names without one.
const DEFAULT: &str = "default";

/// Every rule by name, ready to be asked.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: HashMap<String, Check>,
}

impl Policy {
    /// The rules that magnumd comes with.
    pub fn builtin() -> Self {
        let rules = defaults::RULES
            .iter()
            .map(|rule| (rule.name.to_owned(), Check::parse(rule.text)))
            .collect();
        Self { rules }
    }

    /// The built-in rules with those of an operator's file in place of their namesakes.
    ///
    /// A rule is text, or the older list of lists; anything else never allows.
    pub fn with_overrides(overrides: impl IntoIterator<Item = (String, Value)>) -> Self {
        let mut policy = Self::builtin();
        for (name, rule) in overrides {
            let check = Check::of_value(&rule);
            if check.is_none() {
                error!(rule = name, "a policy rule cannot be understood; it allows nobody");
            }
            policy.rules.insert(name, check.unwrap_or(Check::Never));
        }
        policy.complain();
        policy
    }

    /// Tells the operator of rules that cannot mean what was meant.
    fn complain(&self) {
        for (rule, check) in &self.rules {
            if check.is_remote() {
                error!(rule, "a policy rule asks another service, which magnumd does not");
            }
            for named in check.named_rules() {
                if !self.rules.contains_key(named) && !self.rules.contains_key(DEFAULT) {
                    warn!(rule, named, "a policy rule names one that does not exist");
                }
            }
            if self.leads_back(rule) {
                error!(rule, "a policy rule leads back to itself; it allows nobody");
            }
        }
    }

    fn leads_back(&self, rule: &str) -> bool {
        let mut seen: Vec<&str> = Vec::new();
        let mut next = self.rules.get(rule).map(Check::named_rules).unwrap_or_default();
        while let Some(name) = next.pop() {
            if name == rule {
                return true;
            }
            if !seen.contains(&name) {
                seen.push(name);
                next.extend(self.rules.get(name).map(Check::named_rules).unwrap_or_default());
            }
        }
        false
    }

    /// Whether `rule` allows it.
    pub fn allows(&self, rule: &str, who: &Credentials<'_>, target: &Target<'_>) -> bool {
        eval::evaluate(&self.rules, rule, who, target)
    }

    /// Whether the caller is an administrator: evaluated once per request, before all else.
    pub fn is_admin(&self, requester: &Requester) -> bool {
        let who = Credentials { requester, is_admin: false };
        self.allows("context_is_admin", &who, &Target::own(requester, None))
    }

    /// Whether the rule is only for tokens that are scoped to a project.
    pub fn is_for_projects(rule: &str) -> bool {
        defaults::RULES.iter().any(|r| r.name == rule && r.scope == defaults::Scope::Project)
    }
}

/// The names of the built-in rules.
#[cfg(test)]
pub fn names() -> impl Iterator<Item = &'static str> {
    defaults::RULES.iter().map(|rule| rule.name)
}

/// Every built-in rule as a file to begin with: all of it commented out.
pub fn sample() -> String {
    let mut text =
        "# The rules that magnumd comes with. Those without a # in front replace them.\n"
            .to_owned();
    for rule in defaults::RULES {
        let scope = match rule.scope {
            defaults::Scope::Project => " Only for tokens that are scoped to a project.",
            defaults::Scope::Any => "",
        };
        text += &format!("\n# {}{scope}\n#\"{}\": \"{}\"\n", rule.guards(), rule.name, rule.text);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::api::tests::place::{Place, requester};

    fn allows(policy: &Policy, rule: &str, who: &Requester, owner: &Requester) -> bool {
        let is_admin = policy.is_admin(who);
        let target = Target::own(owner, Some("trustees"));
        policy.allows(rule, &Credentials { requester: who, is_admin }, &target)
    }

    #[test]
    fn the_table_of_roles_holds() {
        let policy = Policy::builtin();
        let owner = requester("u1", "p1", &["member", "reader"]);
        let mate = requester("u2", "p1", &["member", "reader"]);
        let reader = requester("u3", "p1", &["reader"]);
        let other = requester("u4", "p2", &["member", "reader"]);
        let admin = requester("u5", "p3", &["admin"]);
        let nobody = requester("u6", "p1", &[]);
        let mut trustee = requester("t", "p1", &["member", "reader"]);
        trustee.user_domain_id = "trustees".to_owned();
        let callers = [&owner, &mate, &reader, &other, &admin, &nobody, &trustee];
        // rule, then who of the callers may
        let table: &[(&str, [bool; 7])] = &[
            ("cluster:get", [true, true, true, false, true, false, false]),
            ("cluster:create", [true, true, false, false, true, false, false]),
            ("cluster:resize", [true, true, false, false, true, false, false]),
            ("cluster:get_all_all_projects", [false, false, false, false, true, false, false]),
            ("certificate:get", [true, false, false, false, true, false, false]),
            ("certificate:create", [true, false, false, false, true, false, false]),
            ("certificate:rotate_ca", [true, true, false, false, true, false, true]),
            ("credential:rotate", [true, true, false, false, false, false, false]),
            ("quota:get_all", [false, false, false, false, true, false, false]),
            ("magnum-service:get_all", [false, false, false, false, true, false, false]),
            ("clustertemplate:publish", [false, false, false, false, true, false, false]),
            ("no:such_rule", [false; 7]),
        ];
        for (rule, expected) in table {
            let got = callers.map(|who| allows(&policy, rule, who, &owner));
            assert_eq!(got, *expected, "{rule}");
        }
    }

    #[test]
    fn an_override_replaces_its_namesake_and_may_add_names() {
        let policy = Policy::with_overrides([
            ("certificate:get".to_owned(), json!("rule:admin_or_project_reader")),
            ("cluster:get_all_all_projects".to_owned(), json!("!")),
            (
                "cluster:create".to_owned(),
                json!([["role:builder"], ["role:admin", "is_admin:True"]]),
            ),
            ("cluster:get".to_owned(), json!({ "not": "a rule" })),
            ("cluster:delete".to_owned(), json!("rule:ours")),
            ("ours".to_owned(), json!("role:ours")),
        ]);
        let owner = requester("u1", "p1", &["member", "reader"]);
        let reader = requester("u3", "p1", &["reader"]);
        let admin = requester("u5", "p3", &["admin"]);
        let builder = requester("u7", "p9", &["Builder", "ours"]);
        assert!(allows(&policy, "certificate:get", &reader, &owner));
        assert!(!allows(&policy, "cluster:get_all_all_projects", &admin, &owner));
        assert!(allows(&policy, "cluster:create", &builder, &owner));
        assert!(allows(&policy, "cluster:create", &admin, &owner));
        assert!(!allows(&policy, "cluster:create", &owner, &owner));
        assert!(!allows(&policy, "cluster:get", &admin, &owner));
        assert!(allows(&policy, "cluster:delete", &builder, &owner));
    }

    #[test]
    fn rules_that_lead_nowhere_or_in_circles_deny() {
        let policy = Policy::with_overrides([
            ("round".to_owned(), json!("rule:about")),
            ("about".to_owned(), json!("rule:round or rule:round")),
            ("not_round".to_owned(), json!("not rule:round")),
            ("remote".to_owned(), json!("not http://example.org/check")),
            ("default".to_owned(), json!("@")),
        ]);
        let owner = requester("u1", "p1", &["member"]);
        for rule in ["round", "not_round", "remote"] {
            assert!(!allows(&policy, rule, &owner, &owner), "{rule}");
        }
        assert!(allows(&policy, "unknown:rule", &owner, &owner), "the default rule");
    }

    /// What the log is told meanwhile.
    fn told(work: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Sink(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Sink {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let sink = Sink::default();
        let writer = sink.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(log.finish(), work);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_operator_is_told_of_rules_that_cannot_be_meant() {
        let owner = requester("u1", "p1", &["member"]);
        let with = |rule: serde_json::Value| Policy::with_overrides([("ours".to_owned(), rule)]);
        let table = [
            (json!("not http://example.org/check"), "asks another service"),
            (json!("not rule:ours"), "leads back to itself"),
            (json!("role:a or rule:typo"), "names one that does not exist"),
            (json!("role:a role:b"), "cannot be understood"),
        ];
        for (rule, sentence) in table {
            let read = told(|| drop(with(rule.clone())));
            assert!(read.contains(sentence) && read.contains("ours"), "{rule}: {read}");
        }
        assert_eq!(told(|| drop(with(json!("rule:context_is_admin")))), "");
        let remote = with(json!("role:admin or http://example.org/check"));
        let asked = told(|| assert!(!allows(&remote, "ours", &owner, &owner)));
        assert!(asked.contains("http://example.org/check") && asked.contains("denied"), "{asked}");
        let admin = requester("u5", "p3", &["admin"]);
        assert!(allows(&remote, "ours", &admin, &owner), "who needs no service to be asked");
    }

    #[test]
    fn every_stored_attribute_can_be_compared_with() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let cluster = runtime.block_on(async { Place::new().cluster(7, "p1", "k1").await });
        let table = [
            ("'k1':%(name)s", true),
            ("'CREATE_COMPLETE':%(status)s", true),
            ("False:%(master_lb_enabled)s", true),
            ("30:%(create_timeout)s", true),
            ("None:%(health_status)s", true),
            ("'v1.30.9':%(labels.kube_tag)s", true),
            ("user_id:%(trustee_user_id)s", false),
            ("'x':%(no_such_thing)s", false),
            ("not 'x':%(no_such_thing)s", true),
            ("project_id:p%%1", false),
            ("is_admin_project:True", true),
        ];
        for (rule, expected) in table {
            let policy = Policy::with_overrides([("ours".to_owned(), json!(rule))]);
            let owner = requester("u1", "p1", &["member"]);
            let who = Credentials { requester: &owner, is_admin: false };
            let target = Target::cluster(&cluster, Some("trustees"));
            assert_eq!(policy.allows("ours", &who, &target), expected, "{rule}");
        }
    }

    proptest! {
        #[test]
        fn no_rule_text_panics(text in "[ ()@!:%a-z'._\\-\\[\\]A-Z]{0,60}", rounds in 0..80usize) {
            let nested = format!("{}{text}{}", "(".repeat(rounds), ")".repeat(rounds));
            let policy = Policy::with_overrides([
                ("x".to_owned(), json!(text)),
                ("y".to_owned(), json!(nested)),
            ]);
            let owner = requester("u1", "p1", &["member"]);
            let _ = allows(&policy, "x", &owner, &owner);
            let _ = allows(&policy, "y", &owner, &owner);
        }

        #[test]
        fn words_of_the_language_in_any_order_do_not_panic(
            words in proptest::collection::vec(
                prop::sample::select(vec![
                    "and", "or", "not", "(", ")", "@", "!", "role:member", "rule:is_user",
                    "user_id:%(user_id)s", "True:%(x)s", "'a':a", "", "rule:x",
                ]),
                0..40,
            ),
        ) {
            let policy = Policy::with_overrides([("x".to_owned(), json!(words.join(" ")))]);
            let owner = requester("u1", "p1", &["member"]);
            let _ = allows(&policy, "x", &owner, &owner);
        }
    }
}
