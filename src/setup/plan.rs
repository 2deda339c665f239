//! The plan: what will be made, changed, kept, and what is in the way. Pure.

use super::Names;
use super::file::File;
use super::survey::{CATALOGUE_TYPE, Entry, Facts, Ours};

/// What happens to one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create,
    Change,
    Keep,
    Remove,
    /// It is in the way; nothing is done at all.
    Refuse,
}

impl Action {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Keep => "keep",
            Self::Remove => "remove",
            Self::Refuse => "refuse",
        }
    }
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub action: Action,
    pub what: String,
}

fn line(action: Action, what: impl Into<String>) -> Line {
    Line { action, what: what.into() }
}

/// What gives us the passwords of accounts that an existing Magnum has.
const IMPORT: &str = "magnumd config import /etc/magnum/magnum.conf --to /etc/magnumd/magnumd.toml";

pub fn make(names: &Names, facts: &Facts, file: &File) -> Vec<Line> {
    let mut lines = in_keystone(names, facts);
    lines.extend(in_catalogue(names, facts, &url(names, file)));
    let path = file.path().display();
    lines.push(match (file.is_new(), file.changes()) {
        (true, _) => line(Action::Create, format!("{path}, readable by its owner alone")),
        (false, true) => line(Action::Change, format!("{path}: accounts, passwords, addresses")),
        (false, false) => line(Action::Keep, path.to_string()),
    });
    lines
}

/// The API's address in the catalogue.
pub fn url(names: &Names, file: &File) -> String {
    let address = std::net::SocketAddr::new(names.address, file.port);
    format!("{}://{address}/v1", file.scheme)
}

fn in_keystone(names: &Names, facts: &Facts) -> Vec<Line> {
    let Names { user, project, domain, .. } = names;
    let keeper = names.keeper();
    let there = |entry: &Option<Entry>| entry.is_some();
    let mut lines = vec![match there(&facts.project) {
        true => line(Action::Keep, format!("project {project}")),
        false => line(Action::Create, format!("project {project}")),
    }];
    let account = Account {
        what: format!("user {user}, admin in project {project}"),
        entry: &facts.user,
        is_admin: facts.user_is_admin,
        logs_in: facts.user_logs_in,
        cure: format!(
            "if a Magnum uses it, take its password over with {IMPORT}; else choose another with \
             --user, or delete it: openstack user delete {user}"
        ),
    };
    lines.push(account.line());
    lines.push(match &facts.domain {
        None => line(Action::Create, format!("domain {domain}, for the clusters' users")),
        Some(entry) if entry.is_ours => line(Action::Keep, format!("domain {domain}")),
        Some(_) if facts.keeper_logs_in && facts.keeper_is_admin => {
            line(Action::Keep, format!("domain {domain}, made by somebody else"))
        }
        Some(_) => line(
            Action::Refuse,
            format!(
                "domain {domain} is there and was not made by setup; if a Magnum uses it, take its \
                 administrator over with {IMPORT}; else choose another with --domain, or delete it"
            ),
        ),
    });
    let account = Account {
        what: format!("user {keeper} in domain {domain}, admin there"),
        entry: &facts.keeper,
        is_admin: facts.keeper_is_admin,
        logs_in: facts.keeper_logs_in,
        cure: "choose another domain with --domain".to_owned(),
    };
    lines.push(account.line());
    lines
}

/// A user with a password and a role.
struct Account<'e> {
    what: String,
    entry: &'e Option<Entry>,
    is_admin: bool,
    logs_in: bool,
    cure: String,
}

impl Account<'_> {
    fn line(self) -> Line {
        let what = self.what;
        match self.entry {
            None => line(Action::Create, what),
            Some(_) if self.is_admin && self.logs_in => line(Action::Keep, what),
            Some(Entry { is_ours: true, .. }) => {
                line(Action::Change, format!("{what}: password and role as configured"))
            }
            Some(_) => line(
                Action::Refuse,
                format!(
                    "{what}: it is there, was not made by setup, and does not fit the \
                     configuration; {}",
                    self.cure
                ),
            ),
        }
    }
}

fn in_catalogue(names: &Names, facts: &Facts, url: &str) -> Vec<Line> {
    let region = &names.region;
    if !facts.regions.contains(region) {
        let known = facts.regions.join(", ");
        let what = format!("there is no region {region}; choose one with --region: {known}");
        return vec![line(Action::Refuse, what)];
    }
    let mut lines = vec![match facts.service {
        None => line(Action::Create, format!("service magnum of type {CATALOGUE_TYPE}")),
        Some(_) => line(Action::Keep, format!("service of type {CATALOGUE_TYPE}")),
    }];
    for interface in INTERFACES {
        let what = format!("endpoint {interface} in region {region}: {url}");
        let found = facts.endpoints.iter().find(|(own, _, _)| own == interface);
        lines.push(match found {
            None => line(Action::Create, what),
            Some((_, own, _)) if own == url => line(Action::Keep, what),
            Some((_, _, entry)) if entry.is_ours => line(Action::Change, what),
            Some((_, own, _)) => line(
                Action::Refuse,
                format!(
                    "endpoint {interface} in region {region} leads to {own} and was not made by \
                     setup; delete it if that Magnum is no more, or set --address to where it leads"
                ),
            ),
        });
    }
    lines
}

pub const INTERFACES: [&str; 3] = ["public", "internal", "admin"];

pub fn removal(ours: &Ours) -> Vec<Line> {
    let mut lines = Vec::new();
    if ours.trustees > 0 {
        let domain = ours.domain.as_ref().map_or("", |(_, name)| name);
        lines.push(line(
            Action::Refuse,
            format!(
                "domain {domain} has {} users of clusters; delete the clusters first",
                ours.trustees
            ),
        ));
    }
    for (_, interface) in &ours.endpoints {
        lines.push(line(Action::Remove, format!("endpoint {interface}")));
    }
    let kept = |used: bool| if used { Action::Keep } else { Action::Remove };
    if ours.service.is_some() {
        lines.push(line(kept(ours.service_is_used), "service magnum"));
    }
    if let Some((_, name)) = &ours.user {
        lines.push(line(Action::Remove, format!("user {name}")));
    }
    if let Some((_, name)) = &ours.domain {
        lines.push(line(Action::Remove, format!("domain {name} with its administrator")));
    }
    if let Some((_, name)) = &ours.project {
        lines.push(line(kept(ours.project_is_used), format!("project {name}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            user: "magnum".to_owned(),
            project: "service".to_owned(),
            domain: "magnum".to_owned(),
            region: "R1".to_owned(),
            address: [10, 0, 0, 1].into(),
        }
    }

    fn entry(is_ours: bool) -> Option<Entry> {
        Some(Entry { id: "x".to_owned(), is_ours })
    }

    fn actions(lines: &[Line]) -> String {
        lines.iter().map(|l| l.action.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_empty_cloud_gets_everything_and_a_ready_one_nothing() {
        assert_eq!(
            actions(&in_keystone(&names(), &Facts::default())),
            "create create create create"
        );
        let ready = Facts {
            regions: vec!["R1".to_owned()],
            project: entry(false),
            user: entry(true),
            user_is_admin: true,
            user_logs_in: true,
            domain: entry(true),
            keeper: entry(true),
            keeper_is_admin: true,
            keeper_logs_in: true,
            service: entry(true),
            endpoints: Vec::new(),
        };
        assert_eq!(actions(&in_keystone(&names(), &ready)), "keep keep keep keep");
        let lost = Facts { user_logs_in: false, keeper_is_admin: false, ..ready.clone() };
        assert_eq!(actions(&in_keystone(&names(), &lost)), "keep change keep change");
        let url = "http://10.0.0.1:9511/v1";
        assert_eq!(actions(&in_catalogue(&names(), &ready, url)), "keep create create create");
    }

    #[test]
    fn what_somebody_else_made_is_in_the_way() {
        let foreign = Facts {
            regions: vec!["R1".to_owned()],
            project: entry(false),
            user: entry(false),
            domain: entry(false),
            service: entry(false),
            endpoints: vec![("public".to_owned(), "http://old".to_owned(), entry(false).unwrap())],
            ..Facts::default()
        };
        let lines = in_keystone(&names(), &foreign);
        assert_eq!(actions(&lines), "keep refuse refuse create");
        assert!(lines[1].what.contains("choose another with --user"));
        assert!(lines[1].what.contains("magnumd config import"), "{}", lines[1].what);
        assert!(lines[2].what.contains("magnumd config import"), "{}", lines[2].what);
        let lines = in_catalogue(&names(), &foreign, "http://new");
        assert_eq!(actions(&lines), "keep refuse create create");
        assert!(lines[1].what.contains("leads to http://old"));
        let nowhere = in_catalogue(&Names { region: "R2".to_owned(), ..names() }, &foreign, "u");
        assert!(nowhere[0].what.contains("no region R2; choose one with --region: R1"));
    }

    #[test]
    fn removal_spares_what_is_used() {
        let ours = Ours {
            endpoints: vec![("e".to_owned(), "public".to_owned())],
            service: Some("s".to_owned()),
            service_is_used: true,
            user: Some(("u".to_owned(), "magnum".to_owned())),
            project: Some(("p".to_owned(), "service".to_owned())),
            project_is_used: true,
            ..Ours::default()
        };
        assert_eq!(actions(&removal(&ours)), "remove keep remove keep");
        let lived_in = Ours { trustees: 3, ..ours };
        assert_eq!(removal(&lived_in)[0].action, Action::Refuse);
    }
}
