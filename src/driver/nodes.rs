//! What nodes fetch: files of the directory, rendered or as they are, and keys past every template.

use tera::Context;

use super::craft::Driver;
use super::manifest::{FileEntry, Material, Role};
use super::{BundleFile, ClusterPlan, DriverError, DutyPlan, NodePlan, compile, context, written};
use crate::base::secret::Secret;
use crate::model::duty::DutyKind;

impl Driver {
    /// The files that one node fetches while it boots.
    pub fn node_files(
        &self,
        plan: &ClusterPlan,
        node: &NodePlan,
    ) -> Result<Vec<BundleFile>, DriverError> {
        self.boot_files(plan, node, self.known(plan)?.context)
    }

    /// The same, where everything else about the plan is known already.
    pub(super) fn boot_files(
        &self,
        plan: &ClusterPlan,
        node: &NodePlan,
        known: Context,
    ) -> Result<Vec<BundleFile>, DriverError> {
        let context = self.node_context(plan, node, known)?;
        let mut files = Vec::new();
        self.add_files("files", &self.manifest.files, node, &context, &mut files)?;
        Ok(files)
    }

    /// The files with which a node does a duty; the node's certificates are those it shall have
    /// afterwards.
    pub fn duty_files(
        &self,
        plan: &ClusterPlan,
        node: &NodePlan,
        duty: &DutyPlan,
    ) -> Result<Vec<BundleFile>, DriverError> {
        let mut context = self.node_context(plan, node, self.known(plan)?.context)?;
        context::put(&mut context, "duty", &context::duty(duty));
        let mut files = Vec::new();
        let every = &self.manifest.duties.every;
        self.add_files("duties.every", every, node, &context, &mut files)?;
        let own = compile::of_kind(&self.manifest, duty.kind);
        self.add_files(&compile::duty_list(duty.kind), own, node, &context, &mut files)?;
        Ok(files)
    }

    /// Names and addresses by which the API of this master is called, beside the node's own.
    pub fn api_names(
        &self,
        plan: &ClusterPlan,
        node: &NodePlan,
    ) -> Result<Vec<String>, DriverError> {
        let Some(names) = &self.manifest.certificates.api_names else { return Ok(Vec::new()) };
        let context = self.node_context(plan, node, self.known(plan)?.context)?;
        let names = self.templates()?.value(compile::API_NAMES, names, &context)?;
        serde_json::from_value(names)
            .map_err(|e| self.fault(compile::API_NAMES, format!("it is no list of texts: {e}")))
    }

    /// Whether a cluster's nodes have anything to do for a duty.
    pub fn has_duty(&self, plan: &ClusterPlan, kind: DutyKind) -> Result<bool, DriverError> {
        let context = self.known(plan)?.context;
        let list = compile::duty_list(kind);
        for (i, entry) in compile::of_kind(&self.manifest, kind).iter().enumerate() {
            if self.is_wanted(&compile::entry(&list, i), entry.when.as_ref(), &context)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn node_context(
        &self,
        plan: &ClusterPlan,
        node: &NodePlan,
        mut context: Context,
    ) -> Result<Context, DriverError> {
        context::put(&mut context, "node", &self.scene(plan).node(node)?);
        context::put(&mut context, "certificates", &context::certificates(node));
        Ok(context)
    }

    fn add_files(
        &self,
        list: &str,
        entries: &[FileEntry],
        node: &NodePlan,
        context: &Context,
        files: &mut Vec<BundleFile>,
    ) -> Result<(), DriverError> {
        let own = match node.master_index {
            Some(_) => Role::Master,
            None => Role::Worker,
        };
        for (i, entry) in entries.iter().enumerate() {
            let is_own = entry.role == Role::Any || entry.role == own;
            if !is_own || !self.is_wanted(&compile::entry(list, i), entry.when.as_ref(), context)? {
                continue;
            }
            let content = match (&entry.template, &entry.file, entry.content) {
                (Some(template), ..) => {
                    let text = self.templates()?.render(template, context)?;
                    written::file(&entry.path, &text).map_err(|e| self.wrong(template, e))?;
                    text.into_bytes()
                }
                (_, Some(file), _) => {
                    self.directory.get(file).unwrap_or_default().to_owned().into_bytes()
                }
                (.., Some(material)) => self.material(entry, material, node)?.into_bytes(),
                // A manifest was read, so one of the three is there.
                _ => Vec::new(),
            };
            let mode = entry.bits().unwrap_or(0o600);
            files.push(BundleFile { path: entry.path.clone(), mode, content });
        }
        Ok(())
    }

    /// A certificate or key, past every template.
    fn material(
        &self,
        entry: &FileEntry,
        material: Material,
        node: &NodePlan,
    ) -> Result<String, DriverError> {
        let given = &node.certificates;
        let key = |key: &Option<Secret<String>>| match key {
            Some(key) => Ok(context::pem(key.expose())),
            None => Err(self.fault(
                &entry.path,
                "a node was to be given this key, and it is not there".to_owned(),
            )),
        };
        match material {
            Material::Ca => Ok(context::pem(&given.ca)),
            Material::EtcdCa => Ok(context::pem(&given.etcd_ca)),
            Material::FrontProxyCa => Ok(context::pem(&given.front_proxy_ca)),
            Material::SaPub => Ok(context::pem(&given.service_account_public)),
            Material::CaKey => key(&given.ca_key),
            Material::FrontProxyCaKey => key(&given.front_proxy_ca_key),
            Material::SaKey => key(&given.service_account_key),
            Material::EtcdCaKey => key(&given.etcd_ca_key),
            Material::Bootstrap => {
                Ok(given.bootstrap.as_ref().map_or_else(String::new, |b| context::pem(&b.0)))
            }
            Material::BootstrapKey => key(&given.bootstrap.as_ref().map(|b| b.1.clone())),
        }
    }
}
