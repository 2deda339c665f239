//! What Heat is given: the stack's template, its files, its parameters, the servers' user data.

use std::collections::BTreeMap;
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value, json};
use tera::Context;

use super::checks::{self, unsuitable};
use super::context::{self, Scene, WORKER_FLAVOR, WORKER_IMAGE};
use super::count::Census;
use super::craft::{Driver, Known};
use super::manifest::LabelsPolicy;
use super::plan::{NodeCertificates, NodePlan};
use super::{Bundle, ClusterPlan, DriverError, compile, written};
use crate::base::archive;
use crate::model::name;
use crate::model::nodegroup::{self, DEFAULT_WORKER};

/// Parameters by which magnumd recognises its stacks and their updates.
const RECOGNISED_BY: [&str; 2] = ["cluster_uuid", "revision"];
/// What clusters show as `coe_version`.
const COE_VERSION: &str = "kube_version";
/// Nova takes 65535 bytes of user data after base64.
const NOVA_USER_DATA: usize = 65_535 / 4 * 3;

impl Driver {
    /// The stack with all that belongs to it, and how many resources it has.
    pub(super) fn draw(&self, plan: &ClusterPlan) -> Result<(Bundle, u64), DriverError> {
        checks::suits(plan, &self.manifest)?;
        let scene = self.scene(plan);
        if self.manifest.labels_policy == LabelsPolicy::Error {
            self.refuse_undeclared(&plan.cluster.labels)?;
        }
        let known = self.known(plan)?;
        for group in &plan.groups {
            scene.node_labels(group)?;
        }
        self.refuse("refuse", &self.manifest.refuse, &known.context)?;
        let templates = self.templates()?;
        let render = |name: &str| templates.render(name, &known.context);
        let template = render(&self.manifest.stack.template)?;
        let mut files = self.user_data(&scene, &known.context)?;
        for file in &self.manifest.stack.files {
            if self.is_wanted(
                &compile::stack_file(&file.name),
                file.when.as_ref(),
                &known.context,
            )? {
                let text = render(&file.template)?;
                written::file(&file.name, &text).map_err(|e| self.wrong(&file.template, e))?;
                files.insert(file.name.clone(), text);
            }
        }
        let stack =
            written::yaml(&template).map_err(|e| self.wrong(&self.manifest.stack.template, e))?;
        let parameters = self.parameters(plan, &known, &stack)?;
        let bundle = Bundle { template, parameters, files };
        let census = Census::of_stack(&bundle, &stack)
            .map_err(|e| self.wrong(&self.manifest.stack.template, (None, e)))?;
        checks::fits_heat(plan, &bundle, census.resources())?;
        Ok((bundle, census.resources()))
    }

    /// By the names that the stack's template finds it under.
    fn user_data(
        &self,
        scene: &Scene<'_>,
        known: &Context,
    ) -> Result<BTreeMap<String, String>, DriverError> {
        let plan = scene.plan;
        let data = &self.manifest.user_data;
        let format = written::format_for(data.format, &plan.facts.os_distro);
        let inlines = self.inlines_in(known)?;
        let render = |index: Option<u32>, token: Option<&str>| {
            let (role, template) = match index {
                Some(_) => (nodegroup::MASTER, &data.master),
                None => (nodegroup::WORKER, &data.worker),
            };
            let mut context = known.clone();
            let mut node = scene.server(index, token)?;
            if inlines {
                node["files"] = self.packed(plan, index, known.clone())?.into();
            }
            context::put(&mut context, "node", &node);
            let text = self.templates()?.render(template, &context)?;
            written::user_data(format, &text).map_err(|e| self.wrong(template, e))?;
            let most = if inlines { NOVA_USER_DATA } else { data.max_bytes };
            match text.len() {
                bytes if bytes > most && inlines => unsuitable(format!(
                    "The user data of a {role} would have {bytes} bytes with all its files in it, \
                     and Nova takes {most}. Let servers fetch their files from magnumd instead."
                )),
                bytes if bytes > most => unsuitable(format!(
                    "The user data of a {role} would have {bytes} bytes, more than the {most} that \
                     driver {} allows itself. Use a shorter key pair, such as ed25519.",
                    self.name()
                )),
                _ => Ok(text),
            }
        };
        let mut files = BTreeMap::new();
        for index in 0..nodegroup::counts(&plan.groups).0 {
            let token = plan.enrolment.masters.get(index as usize);
            let text = render(Some(index), token.map(|t| t.expose().as_str()))?;
            files.insert(context::master_user_data(index), text);
        }
        let group = plan.groups.iter().find(|g| !g.is_master()).map_or(DEFAULT_WORKER, |g| &g.name);
        let token = plan.enrolment.workers.iter().find(|(name, _)| name == group);
        let text = render(None, token.map(|(_, t)| t.expose().as_str()))?;
        files.insert(context::WORKER_USER_DATA.to_owned(), text);
        Ok(files)
    }

    /// A node's files in one compressed archive, for its user data. What is not known before the
    /// stack exists stands in them as a word that the stack, or the server, replaces.
    fn packed(
        &self,
        plan: &ClusterPlan,
        index: Option<u32>,
        known: Context,
    ) -> Result<String, DriverError> {
        let masters = 0..nodegroup::counts(&plan.groups).0;
        let node = NodePlan {
            name: match index {
                Some(index) => name::master_node(&plan.stack_name(), index),
                None => name::worker_node_prefix(&plan.stack_name()),
            },
            master_index: index,
            master_addresses: masters.map(|i| format!("@MASTER_{i}_ADDRESS@")).collect(),
            api_public: vec!["@API_PUBLIC@".to_owned()],
            api_endpoint: "https://@API_HOST@:6443".to_owned(),
            rejoins: false,
            certificates: match (&plan.inlined, index) {
                (Some(given), Some(_)) => given.certificates.clone(),
                (Some(given), None) => NodeCertificates {
                    ca: given.certificates.ca.clone(),
                    bootstrap: Some(given.bootstrap.clone()),
                    ..NodeCertificates::default()
                },
                // Before there are any, to see whether all this can be built.
                (None, _) => context::stand_ins(),
            },
        };
        let files = self.boot_files(plan, &node, known)?;
        let files: Vec<archive::File> =
            files.into_iter().map(|f| (f.path, f.mode, f.content)).collect();
        let failed = |e: std::io::Error| self.fault("files", e.to_string());
        let mut out = GzEncoder::new(Vec::new(), Compression::best());
        out.write_all(&archive::build(&files, 0).map_err(failed)?).map_err(failed)?;
        Ok(BASE64.encode(out.finish().map_err(failed)?))
    }

    /// What the stack's template asks for.
    fn parameters(
        &self,
        plan: &ClusterPlan,
        known: &Known,
        stack: &Value,
    ) -> Result<BTreeMap<String, Value>, DriverError> {
        let template = &self.manifest.stack.template;
        let declared = |name: &str| stack["parameters"].get(name).is_some();
        if let Some(missing) = RECOGNISED_BY.into_iter().find(|name| !declared(name)) {
            let reason = format!(
                "the stack declares no parameter {missing}, by which magnumd recognises it"
            );
            return Err(self.fault(template, reason));
        }
        let mut parameters = BTreeMap::from([
            (RECOGNISED_BY[0].to_owned(), json!(plan.cluster.id.to_string())),
            (RECOGNISED_BY[1].to_owned(), json!(plan.revision)),
        ]);
        if declared(COE_VERSION) {
            let version = self.version(known)?.unwrap_or_default();
            parameters.insert(COE_VERSION.to_owned(), json!(version));
        }
        if !plan.images.workers.is_empty() && declared(WORKER_IMAGE) {
            parameters.insert(WORKER_IMAGE.to_owned(), by_index(&plan.images.workers));
        }
        if !plan.flavors.workers.is_empty() {
            if !declared(WORKER_FLAVOR) {
                return unsuitable(format!(
                    "The stack of driver {} declares no parameter {WORKER_FLAVOR}, without which all \
                     workers would be resized at once. Choose a template with the workers' flavor.",
                    self.name()
                ));
            }
            parameters.insert(WORKER_FLAVOR.to_owned(), by_index(&plan.flavors.workers));
        }
        for (name, expression) in &self.manifest.stack.parameters {
            let value =
                self.templates()?.value(&compile::parameter(name), expression, &known.context)?;
            // A further group's stack may do without some.
            if declared(name) {
                parameters.insert(name.clone(), value);
            }
        }
        Ok(parameters)
    }
}

/// A group has one definition for all its members. Heat resolves the functions in it before it
/// numbers the members, so none of them can tell one member from another; but a function that
/// comes out of a parameter is resolved where the members are, after numbering.
fn by_index(workers: &BTreeMap<u32, String>) -> Value {
    let values: Map<String, Value> =
        workers.iter().map(|(i, value)| (format!("[{i}]"), json!(value))).collect();
    json!({"str_replace": {"template": "[%index%]", "params": values}})
}
