//! Labels that magnumd itself reads, and those that nobody reads.

use super::snapshot::ClusterSnapshot;
use super::{Conductor, RequestError};
use crate::driver::{ClusterPlan, Driver};
use crate::model::labels::{Labels, UnknownLabels};
use crate::model::nodegroup::NodeGroup;
use crate::openstack::Flavor;

const LEAST: &str = "min_node_count";
const MOST: &str = "max_node_count";
const AUTO_SCALING: &str = "auto_scaling_enabled";
pub(super) const BOOT_VOLUME_SIZE: &str = "boot_volume_size";

/// How many workers the default group may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub min: u32,
    /// None means unbounded.
    pub max: Option<u32>,
}

impl Limits {
    /// What labels say of the default group of workers, whatever its count.
    pub fn of(labels: &Labels) -> Result<Self, RequestError> {
        let read = |name: &'static str| match labels.get(name).map(str::trim) {
            None | Some("") => Ok(None),
            Some(text) => whole(text, name).map(Some),
        };
        let min = read(LEAST)?.unwrap_or(0);
        // As in the node group's own field, 0 is no limit.
        let max = read(MOST)?.filter(|max| *max > 0);
        match max.filter(|max| *max < min) {
            Some(max) => Err(RequestError::Invalid(format!(
                "Invalid input for label {MOST}. Value: '{max}'. It must be at least {LEAST}, {min}, \
                 or 0 for no limit."
            ))),
            None => Ok(Self { min, max }),
        }
    }

    /// The limits of a new group. As Magnum has it, one that is scaled by itself and has no upper
    /// limit may grow by one: without any, cluster-autoscaler would leave it alone.
    pub fn of_new(driver: &Driver, labels: &Labels, count: u32) -> Result<Self, RequestError> {
        let mut limits = Self::of(labels)?;
        limits.allow(count)?;
        let says_nothing = labels.get(MOST).is_none_or(|text| text.trim().is_empty());
        if says_nothing && driver.is_on(AUTO_SCALING, labels) {
            limits.max = Some(count.saturating_add(1));
        }
        Ok(limits)
    }

    /// Whether a group of so many workers keeps to them.
    pub fn allow(self, count: u32) -> Result<(), RequestError> {
        let (label, value, bound) = match self.max.filter(|max| count > *max) {
            Some(max) => (MOST, max, "at least"),
            None if count < self.min => (LEAST, self.min, "at most"),
            None => return Ok(()),
        };
        Err(RequestError::Invalid(format!(
            "Invalid input for label {label}. Value: '{value}'. It must be {bound} node_count, {count}."
        )))
    }

    /// Has the default workers follow labels that an upgrade has changed; a limit that was set for
    /// the group itself stays.
    pub fn follow(group: &mut NodeGroup, before: &Labels, after: &Labels) {
        let (Ok(old), Ok(new)) = (Self::of(before), Self::of(after)) else { return };
        if group.min_node_count == old.min {
            group.min_node_count = new.min;
        }
        let unchanged = before.get(MOST) == after.get(MOST);
        if !unchanged && (group.max_node_count == old.max || old.max.is_none()) {
            group.max_node_count = new.max;
        }
    }
}

pub fn whole(text: &str, label: &str) -> Result<u32, RequestError> {
    text.trim().parse().map_err(|_| {
        RequestError::Invalid(format!(
            "Invalid input for label {label}. Value: '{text}'. It must be a whole number from 0 to \
             {}.",
            u32::MAX
        ))
    })
}

/// The labels of a cluster to be, with the operator's size of root volumes where they name none.
///
/// It becomes the cluster's own: an update with another size would build every server anew.
pub fn with_boot_volume(labels: &Labels, gigabytes: u32) -> Labels {
    let mut labels = labels.clone();
    if gigabytes > 0 && labels.get(BOOT_VOLUME_SIZE).is_none() {
        labels.insert(BOOT_VOLUME_SIZE, gigabytes.to_string());
    }
    labels
}

/// A flavor without a disk needs a root volume.
pub fn check_root_volume(
    driver: &Driver,
    labels: &Labels,
    flavors: &[Option<&Flavor>],
) -> Result<(), RequestError> {
    let can = driver.declares(BOOT_VOLUME_SIZE);
    let size = match labels.get(BOOT_VOLUME_SIZE).filter(|_| can) {
        Some(text) => whole(text, BOOT_VOLUME_SIZE)?,
        None => 0,
    };
    let cure = if can { "set the label boot_volume_size" } else { "choose another driver" };
    let diskless = flavors.iter().filter_map(|f| *f).find(|f| f.disk == 0);
    match diskless {
        Some(flavor) if size == 0 => Err(RequestError::Invalid(format!(
            "Flavor with zero root volume size ({}) needs a boot volume: {cure}, or choose another \
             flavor.",
            flavor.name
        ))),
        _ => Ok(()),
    }
}

/// What whoever gives these labels should know, where the operator does not want it refused. What is
/// not as it looks always is.
pub fn check_unknown(
    driver: &Driver,
    labels: &Labels,
    policy: UnknownLabels,
) -> Result<Option<String>, RequestError> {
    driver.check_spelling(labels)?;
    if policy == UnknownLabels::Refuse {
        driver.refuse_undeclared(labels)?;
    }
    Ok(driver.warnings(labels, labels))
}

/// What whoever made this cluster should know of what they gave.
fn told(driver: &Driver, plan: &ClusterPlan) -> Vec<String> {
    let labels = &plan.cluster.labels;
    driver.warnings(labels, labels).into_iter().chain(driver.idle(plan)).collect()
}

fn in_one(sentences: Vec<String>) -> Option<String> {
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

/// A status reason with the warnings below it.
fn joined(sentence: Option<String>, warnings: Option<String>) -> Option<String> {
    match (sentence, warnings) {
        (sentence, None) => sentence,
        (None, Some(warnings)) => Some(format!("warnings: {warnings}")),
        (Some(sentence), Some(warnings)) => Some(format!("{sentence}\nwarnings: {warnings}")),
    }
}

/// A group's labels that are not its cluster's too.
pub fn own_labels(group: &Labels, cluster: &Labels) -> Labels {
    group.iter().filter(|(name, value)| cluster.get(name) != Some(value)).collect()
}

impl Conductor {
    /// Labels that are new with a request, by what the operator wants.
    pub(super) fn check_new_labels(
        &self,
        driver: &Driver,
        labels: &Labels,
    ) -> Result<(), RequestError> {
        check_unknown(driver, labels, self.inner.settings.unknown_labels).map(|_| ())
    }

    /// What is shown of a cluster to be.
    pub(super) fn first_reason(&self, driver: &Driver, plan: &ClusterPlan) -> Option<String> {
        joined(None, in_one(told(driver, plan)))
    }

    /// A sentence about a cluster with what is to be known of its labels: what the conductor says
    /// replaces what it said before, and a warning must not be gone before anybody has looked.
    pub(super) fn with_warnings(&self, snapshot: &ClusterSnapshot, sentence: &str) -> String {
        let sentence = sentence.to_owned();
        self.reason(snapshot, Some(sentence.clone())).unwrap_or(sentence)
    }

    pub(super) fn reason(
        &self,
        snapshot: &ClusterSnapshot,
        sentence: Option<String>,
    ) -> Option<String> {
        // Where even the driver is lost something worse is said.
        let labels = &snapshot.cluster.labels;
        let plan = snapshot.plan(&self.inner.settings, &self.inner.enrolment);
        let warnings = match (self.driver(snapshot), plan) {
            (Ok(driver), Some(plan)) => told(&driver, &plan),
            (Ok(driver), None) => driver.warnings(labels, labels).into_iter().collect(),
            (Err(_), _) => Vec::new(),
        };
        // What an upgrade does not bring is told until it is over, and with its last word.
        let undone = snapshot.rollouts.iter().flat_map(|rollout| rollout.undone.iter().cloned());
        joined(sentence, in_one(warnings.into_iter().chain(undone).collect()))
    }

    /// The same for a node group, about the labels of its own.
    pub(super) fn group_reason(
        &self,
        snapshot: &ClusterSnapshot,
        group: &NodeGroup,
        sentence: String,
    ) -> Option<String> {
        let own = own_labels(&group.labels, &snapshot.cluster.labels);
        if own.is_empty() {
            return Some(sentence);
        }
        let Ok(driver) = self.driver(snapshot) else { return Some(sentence) };
        let (settings, key) = (&self.inner.settings, &self.inner.enrolment);
        let plans = snapshot.plan(settings, key).zip(snapshot.plan_of(group, settings, key));
        let idle = plans.and_then(|(mut cluster, plan)| {
            plan.revision.clone_into(&mut cluster.revision);
            driver.check_group_labels(&cluster, &plan, &own).ok()
        });
        let idle = idle.filter(|idle| !idle.is_empty()).map(|idle| {
            let word = if idle.len() == 1 { "The label" } else { "The labels" };
            let verb = if idle.len() == 1 { "changes" } else { "change" };
            format!("{word} {} {verb} nothing in this node group.", idle.join(", "))
        });
        let all: Vec<_> = driver.warnings(&own, &group.labels).into_iter().chain(idle).collect();
        joined(Some(sentence), (!all.is_empty()).then(|| all.join(" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Drivers;
    use crate::model::cluster::Cluster;
    use crate::model::{ClusterId, TemplateId, nodegroup};
    use uuid::Uuid;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[test]
    fn limits_of_the_default_workers() {
        let driver = Drivers::builtin(&[]).by_name("k8s_kubeadm_v1").unwrap();
        let of = |pairs: &[(&str, &str)], count| {
            Limits::of_new(&driver, &labels(pairs), count).map_err(|e| e.to_string())
        };
        let limits = |min, max| Ok(Limits { min, max });
        assert_eq!(of(&[], 3), limits(0, None));
        assert_eq!(of(&[(LEAST, "1"), (MOST, "5")], 3), limits(1, Some(5)));
        assert_eq!(of(&[(LEAST, "3"), (MOST, "3")], 3), limits(3, Some(3)));
        assert_eq!(of(&[(LEAST, " "), (MOST, "0")], 3), limits(0, None));
        assert_eq!(of(&[(AUTO_SCALING, "true")], 3), limits(0, Some(4)));
        assert_eq!(of(&[(AUTO_SCALING, "true"), (MOST, "9")], 3), limits(0, Some(9)));
        assert_eq!(of(&[(AUTO_SCALING, "true"), (MOST, "0")], 3), limits(0, None), "as it says");
        assert_eq!(of(&[(AUTO_SCALING, "false")], 3), limits(0, None));
        for (pairs, said) in [
            (&[(LEAST, "one")][..], "label min_node_count. Value: 'one'. It must be a whole"),
            (&[(MOST, "-1")], "label max_node_count. Value: '-1'. It must be a whole"),
            (&[(MOST, "99999999999999")], "It must be a whole number from 0 to 4294967295."),
            (
                &[(LEAST, "4")],
                "label min_node_count. Value: '4'. It must be at most node_count, 3.",
            ),
            (
                &[(MOST, "2")],
                "label max_node_count. Value: '2'. It must be at least node_count, 3.",
            ),
            (
                &[(LEAST, "3"), (MOST, "2")],
                "label max_node_count. Value: '2'. It must be at least min",
            ),
        ] {
            let refused = of(pairs, 3).unwrap_err();
            assert!(refused.contains(said), "{pairs:?}: {refused}");
        }
    }

    #[test]
    fn an_upgrade_changes_the_limits_that_its_labels_change() {
        let cluster = Cluster::plain(
            ClusterId::new(Uuid::from_u128(1)),
            "k1",
            TemplateId::new(Uuid::from_u128(2)),
        );
        let followed = |min, max, before: &[(&str, &str)], after: &[(&str, &str)]| {
            let mut group = NodeGroup::default_of(&cluster, "image", nodegroup::WORKER, 3);
            (group.min_node_count, group.max_node_count) = (min, max);
            Limits::follow(&mut group, &labels(before), &labels(after));
            (group.min_node_count, group.max_node_count)
        };
        let old = [(LEAST, "1"), (MOST, "5")];
        let new = [(LEAST, "2"), (MOST, "9")];
        assert_eq!(followed(1, Some(5), &old, &new), (2, Some(9)));
        assert_eq!(followed(1, Some(5), &old, &[]), (0, None));
        assert_eq!(followed(0, None, &[], &new), (2, Some(9)));
        assert_eq!(followed(0, Some(7), &old, &new), (0, Some(7)), "set for the group itself");
        assert_eq!(followed(0, Some(4), &[], &[]), (0, Some(4)), "scaled by itself");
    }

    #[test]
    fn warnings_stand_below_whatever_else_is_said() {
        let driver = Drivers::builtin(&[]).by_name("k8s_kubeadm_v1").unwrap();
        let typo = labels(&[("master_lb_allowed_cidr", "10.0.0.0/8"), (LEAST, "1")]);
        let said = check_unknown(&driver, &typo, UnknownLabels::Warn).unwrap();
        assert_eq!(
            joined(Some("Stack CREATE completed successfully".to_owned()), said).unwrap(),
            "Stack CREATE completed successfully\nwarnings: Driver k8s_kubeadm_v1 does not know the \
             label master_lb_allowed_cidr (did you mean master_lb_allowed_cidrs?): it has no effect."
        );
        let refused = check_unknown(&driver, &typo, UnknownLabels::Refuse).unwrap_err().to_string();
        assert_eq!(
            refused,
            "Driver k8s_kubeadm_v1 knows no label master_lb_allowed_cidr. Did you mean \
             master_lb_allowed_cidrs? Otherwise leave it away."
        );
        let known = labels(&[("kube_tag", "v1.31.4"), ("fixed_network_cidr", "10.0.0.0/24")]);
        assert_eq!(check_unknown(&driver, &known, UnknownLabels::Refuse).unwrap(), None);
        for (typed, meant) in
            [("Kube_Tag", "kube_tag"), ("Api_Server_Cert_Sans", "api_server_cert_sans")]
        {
            let said = driver.warnings(&labels(&[(typed, "x")]), &Labels::default()).unwrap();
            assert!(said.contains(&format!("{typed} (did you mean {meant}?)")), "{said}");
        }
        let many: Labels = (0..12).map(|i| (format!("x{i:02}"), "1")).collect();
        let said = driver.warnings(&many, &many).unwrap();
        assert!(said.contains("x00, x01") && said.contains("x09, 2 more: they have"), "{said}");
    }

    #[test]
    fn a_label_that_needs_another_says_so() {
        let driver = Drivers::builtin(&[]).by_name("k8s_kubeadm_v1").unwrap();
        let kind = labels(&[("boot_volume_type", "fast")]);
        let both = |size| labels(&[("boot_volume_type", "fast"), ("boot_volume_size", size)]);
        let said = "The label boot_volume_type has no effect without boot_volume_size.";
        assert_eq!(driver.warnings(&kind, &kind).as_deref(), Some(said));
        assert_eq!(driver.warnings(&both("0"), &both("0")).as_deref(), Some(said));
        assert_eq!(driver.warnings(&both("20"), &both("20")), None);
        // Of a node group's own labels, whose cluster has the other.
        assert_eq!(driver.warnings(&kind, &both("20")), None);
        let days = labels(&[("monitoring_retention_days", "3"), ("prometheus_monitoring", "true")]);
        assert_eq!(driver.warnings(&days, &days), None);
        let healer = labels(&[("auto_healing_controller", "magnum-auto-healer")]);
        let said = "The label auto_healing_controller has no effect without auto_healing_enabled.";
        assert_eq!(driver.warnings(&healer, &healer).as_deref(), Some(said));
    }

    #[test]
    fn of_two_names_for_one_thing_the_older_one_is_told_of() {
        let driver = Drivers::builtin(&[]).by_name("k8s_kubeadm_v1").unwrap();
        let both =
            |older| labels(&[("fixed_subnet_cidr", "10.0.0.0/24"), ("fixed_network_cidr", older)]);
        let said = "The label fixed_network_cidr has no effect beside fixed_subnet_cidr, of which \
                    it is an older name.";
        let two = both("10.9.0.0/24");
        assert_eq!(driver.warnings(&two, &two).as_deref(), Some(said));
        let same = both("10.0.0.0/24");
        assert_eq!(driver.warnings(&same, &same), None);
    }
}
