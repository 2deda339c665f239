//! The manifest: what a driver's `driver.yaml` may say, typed. `templates/README.md` explains
//! every word of it.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;

use super::expression::Expression;
use super::label::LabelSpec;
use super::parts::Lines;
use crate::model::certificate::Purpose;
use crate::model::cluster_template::{Coe, ServerType};

/// The file's name in its directory.
pub const FILE: &str = "driver.yaml";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub api: u32,
    pub name: String,
    pub version: String,
    pub description: String,
    /// Directories whose files are the driver's too. Taken out before a manifest is read.
    #[serde(default)]
    pub include: Vec<String>,
    /// Files of the directory that say more of the manifest.
    #[serde(default)]
    pub parts: Vec<Spanned<String>>,
    pub provides: Vec<Provides>,
    pub replaces: Option<String>,
    #[serde(default)]
    pub beta: bool,
    pub container_version: Option<String>,
    pub coe_version: Option<Expression>,
    pub network_drivers: Vec<String>,
    #[serde(default)]
    pub volume_drivers: Vec<String>,
    #[serde(default)]
    pub masters: Masters,
    #[serde(default = "yes")]
    pub nodegroups: bool,
    #[serde(default)]
    pub requires: Requires,
    #[serde(default)]
    pub labels_policy: LabelsPolicy,
    #[serde(default)]
    pub labels: Ordered<Spanned<LabelSpec>>,
    #[serde(default)]
    pub values: Vec<NamedValue>,
    #[serde(default)]
    pub refuse: Vec<Rule>,
    #[serde(default)]
    pub idle: Vec<Idle>,
    #[serde(default)]
    pub stack: StackFiles,
    pub user_data: UserData,
    #[serde(default)]
    pub files: Vec<FileEntry>,
    #[serde(default)]
    pub duties: Duties,
    #[serde(default)]
    pub certificates: Certificates,
    #[serde(default)]
    pub bootstrap: Bootstrap,
    #[serde(default)]
    pub secrets: Vec<SecretKind>,
    #[serde(default)]
    pub outputs: Outputs,
    pub health: Option<Health>,
    #[serde(default)]
    pub upgrade: Upgrade,
    #[serde(default)]
    pub rotate_ca: RotateCa,
    /// Where in the manifest and its parts a line is.
    #[serde(skip)]
    pub lines: Lines,
}

const fn yes() -> bool {
    true
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provides {
    #[serde(deserialize_with = "server_type")]
    pub server_type: ServerType,
    #[serde(deserialize_with = "coe")]
    pub coe: Coe,
    pub os: Vec<String>,
}

fn server_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ServerType, D::Error> {
    spelled(deserializer, ServerType::parse, ServerType::ALL.iter().map(|t| t.as_str()))
}

fn coe<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Coe, D::Error> {
    spelled(deserializer, Coe::parse, Coe::ALL.iter().map(|c| c.as_str()))
}

/// A word as Magnum spells it.
fn spelled<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Option<T>,
    known: impl Iterator<Item = &'static str>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        let known = known.collect::<Vec<_>>().join(", ");
        de::Error::custom(format!("{text} is none of {known}"))
    })
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Masters {
    pub min: u32,
    pub max: u32,
    pub odd: bool,
    pub without_load_balancer: bool,
}

impl Default for Masters {
    fn default() -> Self {
        Self { min: 1, max: 7, odd: true, without_load_balancer: false }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Requires {
    pub image_properties: Vec<ImageProperty>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageProperty {
    OsDistro,
    KubeVersion,
}

/// What becomes of labels that a manifest does not declare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelsPolicy {
    /// Refused, whatever the operator says.
    Error,
    /// Refused where the operator wants that, else warned of.
    #[default]
    Warn,
    /// Free text for programs in the cluster.
    Ignore,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedValue {
    pub name: String,
    pub is: Expression,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub when: Expression,
    pub say: Spanned<String>,
}

/// What has no effect as things are; whoever gives it is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idle {
    /// Labels, and fields of the cluster template.
    pub of: Vec<Spanned<String>>,
    pub when: Expression,
    /// Ends the sentence "The label NAME has no effect WHY."
    pub why: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackFiles {
    #[serde(default = "stack_template")]
    pub template: String,
    #[serde(default)]
    pub files: Vec<StackFile>,
    #[serde(default)]
    pub parameters: BTreeMap<String, Expression>,
}

fn stack_template() -> String {
    "stack.yaml.tera".to_owned()
}

impl Default for StackFiles {
    fn default() -> Self {
        Self { template: stack_template(), files: Vec::new(), parameters: BTreeMap::new() }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StackFile {
    pub name: String,
    pub template: String,
    pub when: Option<Expression>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserData {
    pub master: String,
    pub worker: String,
    #[serde(default)]
    pub format: Format,
    #[serde(default = "largest_user_data")]
    pub max_bytes: usize,
}

const fn largest_user_data() -> usize {
    16 * 1024
}

/// What reads the user data on a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    CloudConfig,
    Ignition,
    Raw,
    /// By the image's `os_distro`.
    #[default]
    Auto,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Master,
    Worker,
    Any,
}

/// A file that a node fetches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub path: String,
    #[serde(default = "plain_mode")]
    pub mode: Spanned<String>,
    pub file: Option<String>,
    pub template: Option<String>,
    pub content: Option<Material>,
    #[serde(default = "any_role")]
    pub role: Role,
    pub when: Option<Expression>,
}

fn plain_mode() -> Spanned<String> {
    let nowhere = serde_saphyr::Location::UNKNOWN;
    Spanned::new("0644".to_owned(), nowhere, nowhere)
}

const fn any_role() -> Role {
    Role::Any
}

impl FileEntry {
    /// Permission bits; None where the text is no octal number.
    pub fn bits(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode.value, 8).ok().filter(|bits| *bits <= 0o777)
    }
}

/// Certificates and keys that go into a file as they are, past every template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Material {
    Ca,
    EtcdCa,
    FrontProxyCa,
    SaPub,
    CaKey,
    FrontProxyCaKey,
    SaKey,
    EtcdCaKey,
    /// A client certificate with which a kubelet may ask for its own; only inline.
    Bootstrap,
    BootstrapKey,
}

impl Material {
    pub const fn is_key(self) -> bool {
        !matches!(
            self,
            Self::Ca | Self::EtcdCa | Self::FrontProxyCa | Self::SaPub | Self::Bootstrap
        )
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Duties {
    pub every: Vec<FileEntry>,
    pub drain: Vec<FileEntry>,
    pub trust_authorities: Vec<FileEntry>,
    pub issue_leaves: Vec<FileEntry>,
    pub drop_authorities: Vec<FileEntry>,
    pub renew_credentials: Vec<FileEntry>,
    pub rejoin: Vec<FileEntry>,
}

impl Duties {
    pub fn all(&self) -> impl Iterator<Item = &FileEntry> {
        [
            &self.every,
            &self.drain,
            &self.trust_authorities,
            &self.issue_leaves,
            &self.drop_authorities,
            &self.renew_credentials,
            &self.rejoin,
        ]
        .into_iter()
        .flatten()
    }
}

/// For which purposes a node may have a certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificates {
    pub master: Vec<String>,
    pub worker: Vec<String>,
    /// Names and addresses by which a master's API is called, for purpose `kube-apiserver`.
    pub api_names: Option<Expression>,
}

impl Default for Certificates {
    fn default() -> Self {
        let names = |purposes: &[Purpose]| purposes.iter().map(Purpose::to_string).collect();
        Self {
            master: names(&[
                Purpose::Kubelet,
                Purpose::EtcdServer,
                Purpose::EtcdPeer,
                Purpose::EtcdClient,
                Purpose::FrontProxyClient,
            ]),
            worker: names(&[Purpose::Kubelet]),
            api_names: None,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bootstrap {
    pub wait: Wait,
    pub discovery: Option<Expression>,
    /// The first master hands over secrets with which the other nodes join.
    pub join_secrets: bool,
    pub deadlines: DeadlineSpec,
    /// Whether servers get their files with their user data and fetch nothing.
    pub inline: Option<Expression>,
    /// How long Heat waits for signals, in seconds; none where it does not.
    pub signals: Option<Expression>,
}

/// Seconds for which a creation waits for its nodes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlineSpec {
    /// From the complete stack to a node's first report.
    pub boot: Option<Expression>,
    /// In phase etcd without a word.
    pub etcd: Option<Expression>,
    /// From a node's first report until it is ready.
    pub ready: Option<Expression>,
}

/// What says that a cluster is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    #[default]
    Nodes,
    Stack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretKind {
    Trust,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outputs {
    pub api_address: ApiAddress,
    pub api_internal: Option<String>,
    pub api_public: Option<String>,
    pub master_addresses: Option<String>,
    pub worker_addresses: Option<String>,
    pub master_private: Option<String>,
}

impl Default for Outputs {
    fn default() -> Self {
        let some = |name: &str| Some(name.to_owned());
        Self {
            api_address: ApiAddress::default(),
            api_internal: some("api_internal"),
            api_public: some("api_public"),
            master_addresses: some("kube_masters"),
            worker_addresses: some("kube_minions"),
            master_private: some("kube_masters_private"),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiAddress {
    pub heat: String,
    #[serde(default = "api_url")]
    pub format: Spanned<String>,
}

fn api_url() -> Spanned<String> {
    let nowhere = serde_saphyr::Location::UNKNOWN;
    Spanned::new("https://{}:6443".to_owned(), nowhere, nowhere)
}

impl Default for ApiAddress {
    fn default() -> Self {
        Self { heat: "api_address".to_owned(), format: api_url() }
    }
}

/// How the health of a cluster is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Kubernetes,
    None,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Upgrade {
    pub strategy: UpgradeStrategy,
    pub keep: Vec<Spanned<String>>,
    pub refuse: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpgradeStrategy {
    Rebuild,
    #[default]
    None,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotateCa {
    pub strategy: RotateStrategy,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotateStrategy {
    ThreePhase,
    #[default]
    None,
}

pub fn line_of_span<T>(spanned: &Spanned<T>) -> Option<u32> {
    u32::try_from(spanned.referenced.line()).ok().filter(|line| *line > 0)
}

/// A map in the order in which it was written.
#[derive(Clone, Debug)]
pub struct Ordered<V>(pub Vec<(String, V)>);

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Ordered<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for InOrder<V> {
            type Value = Ordered<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
                Ok(Ordered(Vec::new()))
            }
        }

        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

/// A default of a label as its tenant would write it; None where it is no such thing.
pub fn as_written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<String>> = items.iter().map(as_written).collect();
            Some(items?.join(","))
        }
        _ => None,
    }
}
