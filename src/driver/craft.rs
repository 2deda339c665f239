//! One driver: its directory, compiled and checked, and what is known of a plan. Pure.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Map, Value};
use tera::Context;

use super::checks::unsuitable;
use super::context::{self, Scene};
use super::directory::Directory;
use super::expression::Expression;
use super::label::{Default as LabelDefault, Label};
use super::manifest::{self, Health, Manifest, RotateStrategy, Rule, Wait};
use super::templates::Templates;
use super::{Bundle, ClusterPlan, DriverError, Outcome, compile, outcome, written};
use crate::model::cluster_template::{Coe, ServerType};
use crate::model::labels::Labels;
use crate::model::nodegroup;
use crate::model::stack::Stack;

/// A driver, ready to draw.
pub struct Driver {
    pub(super) manifest: Manifest,
    pub(super) directory: Directory,
    labels: Vec<Label>,
    /// Compiled when they are first needed.
    templates: OnceLock<Templates>,
}

/// How long a creation waits for its nodes; None waits as long as the creation may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// From the complete stack to a node's first report.
    pub boot: Option<Duration>,
    /// In phase etcd without a word.
    pub etcd: Option<Duration>,
    /// From a node's first report until it is ready.
    pub ready: Option<Duration>,
}

/// What a creation waits for beside its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Whether nodes report to magnumd, and the cluster is complete when they have.
    pub for_nodes: bool,
    pub limits: Deadlines,
}

impl Default for Waits {
    fn default() -> Self {
        Self { for_nodes: true, limits: Deadlines::default() }
    }
}

/// All that templates are given about one plan.
pub(super) struct Known {
    pub context: Context,
    pub labels: Map<String, Value>,
}

impl Driver {
    /// Compiles a directory; whatever can be known to be wrong without a cluster is an error.
    pub fn new(directory: Directory) -> Result<Self, DriverError> {
        let driver = Self::unproven(directory)?;
        driver.templates()?;
        Ok(driver)
    }

    /// Takes the templates on trust, until they are needed: most clouds need few of the drivers
    /// that come with magnumd, and compiled they fill some megabytes.
    pub(super) fn unproven(directory: Directory) -> Result<Self, DriverError> {
        let manifest = Manifest::read(&directory)?;
        let labels = Label::all(&manifest)?;
        Ok(Self { manifest, directory, labels, templates: OnceLock::new() })
    }

    pub(super) fn templates(&self) -> Result<&Templates, DriverError> {
        if let Some(compiled) = self.templates.get() {
            return Ok(compiled);
        }
        let compiled = compile::compile(&self.manifest, &self.labels, &self.directory)?;
        Ok(self.templates.get_or_init(|| compiled))
    }

    /// An error in a template, or in what it has given.
    pub(super) fn fault(&self, template: &str, reason: String) -> DriverError {
        self.templates().map_or_else(|e| e, |known| known.error(template, None, reason))
    }

    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// In the order of the manifest.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// Whether the manifest has a label of this name.
    pub fn declares(&self, label: &str) -> bool {
        self.labels.iter().any(|l| l.name == label)
    }

    /// Whether it builds this COE on servers of this type and images of this `os_distro`.
    pub fn provides(&self, server_type: ServerType, os_distro: &str, coe: Coe) -> bool {
        self.manifest.provides.iter().any(|p| {
            p.server_type == server_type && p.coe == coe && p.os.iter().any(|os| os == os_distro)
        })
    }

    /// Names of network drivers it knows.
    pub fn network_drivers(&self) -> &[String] {
        &self.manifest.network_drivers
    }

    /// What clusters show as `container_version`.
    pub fn container_version(&self) -> Option<&str> {
        self.manifest.container_version.as_deref()
    }

    /// Whether nodes report to magnumd, and a cluster is complete when they have.
    pub fn waits_for_nodes(&self, plan: &ClusterPlan) -> Result<bool, DriverError> {
        Ok(self.manifest.bootstrap.wait == Wait::Nodes && !self.inlines(plan)?)
    }

    /// Whether servers get their files with their user data.
    pub fn inlines(&self, plan: &ClusterPlan) -> Result<bool, DriverError> {
        self.wanted(compile::INLINE, self.manifest.bootstrap.inline.as_ref(), plan)
    }

    /// How long Heat waits for signals of servers; None where it does not.
    pub fn awaits_signals(&self, plan: &ClusterPlan) -> Result<Option<Duration>, DriverError> {
        let signals = self.manifest.bootstrap.signals.as_ref();
        if signals.is_none() {
            return Ok(None);
        }
        self.seconds(compile::SIGNALS, signals, &self.known(plan)?.context)
    }

    /// A length of time that an expression of the manifest gives in seconds, if it gives one.
    fn seconds(
        &self,
        name: &str,
        expression: Option<&Expression>,
        context: &Context,
    ) -> Result<Option<Duration>, DriverError> {
        let Some(expression) = expression else { return Ok(None) };
        let seconds = self.templates()?.value(name, expression, context)?;
        Ok(seconds.as_u64().map(Duration::from_secs))
    }

    /// Whether templates see the trustee's credentials.
    pub fn wants_trust(&self) -> bool {
        !self.manifest.secrets.is_empty()
    }

    /// Whether the cluster's API can be asked how its nodes are.
    pub fn has_health(&self) -> bool {
        match self.manifest.health {
            Some(health) => health == Health::Kubernetes,
            None => self.manifest.provides.iter().any(|p| p.coe == Coe::Kubernetes),
        }
    }

    /// Whether the first master hands over secrets with which the other nodes join.
    pub fn joins_by_secrets(&self) -> bool {
        self.manifest.bootstrap.join_secrets
    }

    /// For which purposes a node may have a certificate.
    pub fn purposes(&self, is_master: bool) -> &[String] {
        let purposes = &self.manifest.certificates;
        if is_master { &purposes.master } else { &purposes.worker }
    }

    /// Whether clusters may have further node groups.
    pub fn check_nodegroups(&self) -> Result<(), DriverError> {
        match self.manifest.nodegroups {
            true => Ok(()),
            false => unsuitable(format!(
                "Driver {} builds clusters with their two default node groups only. Resize the \
                 cluster instead.",
                self.name()
            )),
        }
    }

    /// Whether the authorities of its clusters can be replaced.
    pub fn check_rotation(&self) -> Result<(), DriverError> {
        match self.manifest.rotate_ca.strategy {
            RotateStrategy::ThreePhase => Ok(()),
            RotateStrategy::None => unsuitable(format!(
                "Driver {} cannot replace the certificate authorities of its clusters. Create a \
                 new cluster instead.",
                self.name()
            )),
        }
    }

    /// Whether these labels, counts and flags can be built at all; before any side effect.
    pub fn check(&self, plan: &ClusterPlan) -> Result<(), DriverError> {
        self.draw(plan).map(|_| ())
    }

    /// What Heat should build.
    pub fn bundle(&self, plan: &ClusterPlan) -> Result<Bundle, DriverError> {
        self.draw(plan).map(|(bundle, _)| bundle)
    }

    /// Whether magnumd's etcd discovery is wanted.
    pub fn uses_discovery(&self, plan: &ClusterPlan) -> Result<bool, DriverError> {
        self.wanted(compile::DISCOVERY, self.manifest.bootstrap.discovery.as_ref(), plan)
    }

    /// Whether an expression of the manifest holds; what is not there does not.
    fn wanted(
        &self,
        name: &str,
        expression: Option<&Expression>,
        plan: &ClusterPlan,
    ) -> Result<bool, DriverError> {
        match expression {
            Some(wanted) => self.templates()?.holds(name, wanted, &self.known(plan)?.context),
            None => Ok(false),
        }
    }

    /// What a creation waits for; asked at every look, so labels are typed once for all of it.
    pub fn waits(&self, plan: &ClusterPlan) -> Result<Waits, DriverError> {
        let spec = &self.manifest.bootstrap;
        let context = self.known(plan)?.context;
        let read = |name: &str, expression: &Option<Expression>| {
            self.seconds(name, expression.as_ref(), &context)
        };
        let limits = Deadlines {
            boot: read(compile::DEADLINE_BOOT, &spec.deadlines.boot)?,
            etcd: read(compile::DEADLINE_ETCD, &spec.deadlines.etcd)?,
            ready: read(compile::DEADLINE_READY, &spec.deadlines.ready)?,
        };
        let for_nodes = spec.wait == Wait::Nodes && !self.inlines_in(&context)?;
        Ok(Waits { for_nodes, limits })
    }

    pub(super) fn inlines_in(&self, context: &Context) -> Result<bool, DriverError> {
        match &self.manifest.bootstrap.inline {
            Some(inline) => self.templates()?.holds(compile::INLINE, inline, context),
            None => Ok(false),
        }
    }

    /// The version of the COE on the plan's nodes; None where only the image knows.
    pub fn coe_version(&self, plan: &ClusterPlan) -> Option<String> {
        self.version(&self.known(plan).ok()?).ok()?
    }

    /// Whether these labels switch on what a label of the manifest, if it has one, stands for.
    pub fn is_on(&self, label: &str, labels: &Labels) -> bool {
        let label = self.labels.iter().find(|l| l.name == label);
        let given = label.and_then(|l| l.given(labels).ok().flatten());
        given.and_then(|value| value.as_bool()).unwrap_or(false)
    }

    /// How many workers must be ready for the cluster to be complete; None means all.
    pub fn ready_threshold(&self, plan: &ClusterPlan) -> Option<u32> {
        self.whole(plan, "ready_threshold")
    }

    /// Minutes for the creation: as requested, else the label of that name where the driver
    /// knows one, else as configured.
    pub fn create_timeout(&self, plan: &ClusterPlan) -> u32 {
        match plan.cluster.create_timeout {
            0 => self.whole(plan, "create_timeout").unwrap_or(plan.settings.create_timeout),
            minutes => minutes,
        }
    }

    /// A label of this name that is a number, whose default does not have to be computed.
    fn whole(&self, plan: &ClusterPlan, label: &str) -> Option<u32> {
        let label = self.labels.iter().find(|l| l.name == label)?;
        let value = match label.given(&plan.cluster.labels).ok()? {
            Some(value) => value,
            None => match label.default_in(plan.settings.nested) {
                LabelDefault::Value(value) => value.clone(),
                LabelDefault::Computed(_) => return None,
            },
        };
        value.as_u64().and_then(|n| u32::try_from(n).ok())
    }

    /// What Heat built.
    pub fn outcome(&self, plan: &ClusterPlan, stack: &Stack) -> Outcome {
        let masters = nodegroup::counts(&plan.groups).0;
        outcome::read(&self.manifest.outputs, &self.api_format(plan), masters, stack)
    }

    /// The URL of an API at an address.
    pub fn api_url(&self, plan: &ClusterPlan, address: &str) -> String {
        self.api_format(plan).replacen("{}", address, 1)
    }

    fn api_format(&self, plan: &ClusterPlan) -> String {
        let written = &self.manifest.outputs.api_address.format.value;
        match written.contains("{{") || written.contains("{%") {
            // A plan that cannot be read was refused when its cluster was asked for.
            true => self
                .known(plan)
                .and_then(|known| self.templates()?.render(compile::API_FORMAT, &known.context))
                .unwrap_or_else(|_| written.clone()),
            false => written.clone(),
        }
    }

    pub(super) fn scene<'p>(&'p self, plan: &'p ClusterPlan) -> Scene<'p> {
        Scene { plan, manifest: &self.manifest, create_timeout: self.create_timeout(plan) }
    }

    /// Labels typed, values computed, and everything else that templates are given.
    pub(super) fn known(&self, plan: &ClusterPlan) -> Result<Known, DriverError> {
        let scene = self.scene(plan);
        let mut context = scene.base();
        let labels = self.typed_labels(plan, &mut context)?;
        let own_cidr = ["fixed_subnet_cidr", "fixed_network_cidr"]
            .iter()
            .find_map(|label| labels.get(*label).and_then(Value::as_str));
        context::put(&mut context, "net", &scene.net(own_cidr));
        let mut values = tera::Map::new();
        context.insert_value("values", tera::Value::from(values.clone()));
        for named in &self.manifest.values {
            let value =
                self.templates()?.value(&compile::value(&named.name), &named.is, &context)?;
            values.insert(named.name.clone().into(), tera::Value::from_serializable(&value));
            context.insert_value("values", tera::Value::from(values.clone()));
        }
        Ok(Known { context, labels })
    }

    fn typed_labels(
        &self,
        plan: &ClusterPlan,
        context: &mut Context,
    ) -> Result<Map<String, Value>, DriverError> {
        let nested = plan.settings.nested;
        let mut labels = Map::new();
        for label in &self.labels {
            let value = match label.given(&plan.cluster.labels)? {
                Some(value) => value,
                None => match label.default_in(nested) {
                    LabelDefault::Value(value) => value.clone(),
                    LabelDefault::Computed(expression) => {
                        context::put(context, "labels", &labels);
                        let own = nested && label.nested.is_some();
                        let name = compile::label_default(&label.name, own);
                        let value = self.templates()?.value(&name, expression, context)?;
                        label.computed(&manifest::as_written(&value).unwrap_or_default())?
                    }
                },
            };
            labels.insert(label.name.clone(), value);
        }
        context::put(context, "labels", &labels);
        Ok(labels)
    }

    pub(super) fn version(&self, known: &Known) -> Result<Option<String>, DriverError> {
        let Some(version) = &self.manifest.coe_version else { return Ok(None) };
        let version = self.templates()?.value(compile::COE_VERSION, version, &known.context)?;
        Ok(version.as_str().filter(|v| !v.is_empty()).map(str::to_owned))
    }

    pub(super) fn refuse(
        &self,
        list: &str,
        rules: &[Rule],
        context: &Context,
    ) -> Result<(), DriverError> {
        self.refuse_by(list, rules, context, |_| true)
    }

    /// The same by those rules alone whose position `counts`.
    pub(super) fn refuse_by(
        &self,
        list: &str,
        rules: &[Rule],
        context: &Context,
        counts: impl Fn(usize) -> bool,
    ) -> Result<(), DriverError> {
        for (i, rule) in rules.iter().enumerate().filter(|(i, _)| counts(*i)) {
            if self.templates()?.holds(&compile::rule(list, i), &rule.when, context)? {
                return unsuitable(self.templates()?.render(&compile::say(list, i), context)?);
            }
        }
        Ok(())
    }

    pub(super) fn is_wanted(
        &self,
        name: &str,
        when: Option<&Expression>,
        context: &Context,
    ) -> Result<bool, DriverError> {
        when.map_or(Ok(true), |when| self.templates()?.holds(name, when, context))
    }

    /// An error in what a template has given.
    pub(super) fn wrong(&self, template: &str, (line, reason): written::Wrong) -> DriverError {
        let at = line.map_or_else(String::new, |line| format!(" (line {line} of what it gives)"));
        self.fault(template, format!("{reason}{at}"))
    }
}
