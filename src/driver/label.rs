//! Labels as a manifest declares them: tenants' text becomes typed values, or is refused with a
//! sentence that names label, value and cure.

use std::net::IpAddr;

use regex_lite::Regex;
use serde::Deserialize;
use serde_json::{Value, json};
use serde_saphyr::Spanned;

use super::DriverError;
use super::expression::{Expression, Scalar};
use super::manifest::{Manifest, as_written, line_of_span};
use super::network::Cidr;
use super::version::KubeVersion;
use crate::model::labels::Labels;

/// One entry below `labels:`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSpec {
    #[serde(rename = "type")]
    pub kind: Kind,
    pub min: Option<u64>,
    pub max: Option<u64>,
    pub allowed: Option<Vec<Scalar>>,
    pub pattern: Option<String>,
    pub default: Option<Spanned<Value>>,
    pub nested: Option<Spanned<Value>>,
    pub unit: Option<String>,
    pub doc: String,
    #[serde(default)]
    pub also: Vec<String>,
    pub cure: Option<String>,
    #[serde(default)]
    pub secret: bool,
    pub deprecated: Option<String>,
    /// The label without which this one has no effect.
    pub needs: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Int,
    Bool,
    Enum,
    Cidr,
    CidrList,
    Duration,
    Version,
    Tag,
    ImagePrefix,
    HostList,
    List,
    String,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Int => "int",
            Self::Bool => "bool",
            Self::Enum => "enum",
            Self::Cidr => "cidr",
            Self::CidrList => "cidr_list",
            Self::Duration => "duration",
            Self::Version => "version",
            Self::Tag => "tag",
            Self::ImagePrefix => "image_prefix",
            Self::HostList => "host_list",
            Self::List => "list",
            Self::String => "string",
        }
    }
}

/// What a label is when its tenant does not say.
#[derive(Clone, Debug)]
pub enum Default {
    Value(Value),
    /// A template over what is known before.
    Computed(Expression),
}

/// A declared label, ready to read.
#[derive(Clone, Debug)]
pub struct Label {
    pub name: String,
    pub spec: LabelSpec,
    pub default: Default,
    /// In a nested cloud, where that is something else.
    pub nested: Option<Default>,
    pattern: Option<Regex>,
}

impl Label {
    /// Every label of a manifest, its defaults checked.
    pub fn all(manifest: &Manifest) -> Result<Vec<Self>, DriverError> {
        let declared = &manifest.labels.0;
        for (name, spec) in declared {
            let needed = spec.value.needs.as_ref();
            if let Some(needed) = needed.filter(|n| !declared.iter().any(|(known, _)| known == *n))
            {
                let reason = format!("label {name}: needs: there is no label {needed}");
                return Err(manifest.fault(line_of_span(spec), reason));
            }
        }
        declared.iter().map(|(name, spec)| Self::new(manifest, name, spec)).collect()
    }

    fn new(
        manifest: &Manifest,
        name: &str,
        spanned: &Spanned<LabelSpec>,
    ) -> Result<Self, DriverError> {
        let spec = &spanned.value;
        let line = line_of_span(spanned);
        let fault = |line, reason: &str| manifest.fault(line, format!("label {name}: {reason}"));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.len() > 255 || !name.chars().all(plain) {
            return Err(fault(line, "a name has letters, digits and '_' only"));
        }
        if spec.kind == Kind::Enum && spec.allowed.as_ref().is_none_or(Vec::is_empty) {
            return Err(fault(line, "an enum needs allowed: with at least one value"));
        }
        if let (Some(min), Some(max)) = (spec.min, spec.max)
            && min > max
        {
            return Err(fault(line, "min is greater than max"));
        }
        let pattern = match &spec.pattern {
            Some(pattern) => Some(
                Regex::new(&format!("^(?:{pattern})$"))
                    .map_err(|e| fault(line, &format!("pattern: {e}")))?,
            ),
            None => None,
        };
        let mut label = Self {
            name: name.to_owned(),
            spec: spec.clone(),
            default: Default::Value(Value::Null),
            nested: None,
            pattern,
        };
        let read = |given: &Spanned<Value>, what: &str| {
            let at = line_of_span(given).or(line);
            let wrong = |reason: &str| fault(at, &format!("{what}: {reason}"));
            if given.value.is_null() {
                return Ok(Default::Value(label.typed(None)));
            }
            let text = as_written(&given.value)
                .ok_or_else(|| wrong("write it as a tenant would write the label"))?;
            if text.trim().is_empty() {
                return Ok(Default::Value(label.typed(None)));
            }
            if text.contains("{{") || text.contains("{%") {
                let line = at.unwrap_or_default();
                return Ok(Default::Computed(Expression::written(&text, line)));
            }
            label.parse(&text).map(Default::Value).ok_or_else(|| {
                wrong(&format!("'{text}' does not fit; it must be {}", label.wanted()))
            })
        };
        let default = spec.default.as_ref().map(|given| read(given, "default")).transpose()?;
        let nested = spec.nested.as_ref().map(|given| read(given, "nested")).transpose()?;
        label.default = default.unwrap_or_else(|| Default::Value(label.typed(None)));
        label.nested = nested;
        Ok(label)
    }

    /// What is not given: nothing, which for a list is an empty one.
    fn typed(&self, value: Option<Value>) -> Value {
        match (value, self.spec.kind) {
            (Some(value), _) => value,
            (None, Kind::List | Kind::CidrList | Kind::HostList) => json!([]),
            (None, _) => Value::Null,
        }
    }

    pub fn default_in(&self, nested: bool) -> &Default {
        self.nested.as_ref().filter(|_| nested).unwrap_or(&self.default)
    }

    /// Its names, the older ones last.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.spec.also.iter().map(String::as_str))
    }

    /// What a tenant has given, typed; an empty text counts as none.
    pub fn given(&self, labels: &Labels) -> Result<Option<Value>, DriverError> {
        let given = self.names().find_map(|name| {
            let text = labels.get(name)?.trim();
            (!text.is_empty()).then_some((name, text))
        });
        let Some((name, text)) = given else { return Ok(None) };
        self.parse(text).map(Some).ok_or_else(|| self.refusal(name, text))
    }

    /// Reads what a computed default came to.
    pub fn computed(&self, text: &str) -> Result<Value, DriverError> {
        match text.trim() {
            "" => Ok(self.typed(None)),
            text => self.parse(text).ok_or_else(|| self.refusal(&self.name, text)),
        }
    }

    fn refusal(&self, name: &str, text: &str) -> DriverError {
        let cure = self.spec.cure.clone().unwrap_or_else(|| self.wanted());
        invalid(name, if self.spec.secret { "(secret)" } else { text }, &cure)
    }

    fn parse(&self, text: &str) -> Option<Value> {
        let spec = &self.spec;
        let (min, max) = (spec.min.unwrap_or(0), spec.max.unwrap_or(u64::from(u32::MAX)));
        let fits = |text: &str| self.pattern.as_ref().is_none_or(|p| p.is_match(text));
        match spec.kind {
            Kind::Int => whole(text, min, max).map(Value::from),
            Kind::Bool => flag(text).filter(|v| self.allows(&v.to_string())).map(Value::from),
            Kind::Enum => self.allows(text).then(|| text.into()),
            Kind::Cidr => {
                let cidr = text.parse::<Cidr>().ok()?;
                let bounds = min..=spec.max.unwrap_or(32);
                bounds.contains(&u64::from(cidr.prefix)).then(|| cidr.to_string().into())
            }
            Kind::CidrList => listed(text)
                .map(|item| item.parse::<Cidr>().ok().map(|cidr| cidr.to_string()))
                .collect::<Option<Vec<String>>>()
                .map(Value::from),
            Kind::Duration => seconds(text, min, max).map(Value::from),
            Kind::Version => text.parse::<KubeVersion>().ok().map(|v| v.as_str().into()),
            Kind::Tag => is_tag(text).then(|| text.into()),
            Kind::ImagePrefix => is_image_prefix(text).then(|| text.into()),
            Kind::HostList => {
                let hosts: Vec<&str> = listed(text).collect();
                hosts.iter().all(|host| is_host(host)).then(|| hosts.into())
            }
            Kind::List => {
                let items: Vec<&str> = listed(text).collect();
                let good = |item: &&str| is_plain(item, 255) && fits(item) && self.allows(item);
                items.iter().all(good).then(|| items.into())
            }
            Kind::String => {
                let longest = usize::try_from(spec.max.unwrap_or(255)).unwrap_or(usize::MAX);
                (is_plain(text, longest) && fits(text) && self.allows(text)).then(|| text.into())
            }
        }
    }

    fn allows(&self, text: &str) -> bool {
        self.spec.allowed.as_ref().is_none_or(|all| all.iter().any(|Scalar(a)| a == text))
    }

    /// What a value must be, to end a sentence with.
    pub fn wanted(&self) -> String {
        let spec = &self.spec;
        let (min, max) = (spec.min.unwrap_or(0), spec.max.unwrap_or(u64::from(u32::MAX)));
        let choice = |all: &[Scalar]| {
            let all: Vec<&str> = all.iter().map(|Scalar(text)| text.as_str()).collect();
            match all.as_slice() {
                [one] => (*one).to_owned(),
                several => format!("one of {}", several.join(", ")),
            }
        };
        match (spec.kind, spec.allowed.as_deref()) {
            (Kind::Bool | Kind::Enum | Kind::String, Some(all)) => choice(all),
            (Kind::Bool, None) => "true or false".to_owned(),
            (Kind::Int, _) => format!("a whole number from {min} to {max}"),
            (Kind::Cidr, _) if spec.min.is_some() || spec.max.is_some() => {
                let max = spec.max.unwrap_or(32);
                format!("an IPv4 network with a prefix from /{min} to /{max}")
            }
            (Kind::Cidr, _) => {
                "an IPv4 network such as 10.0.0.0/24, without bits set after the prefix".to_owned()
            }
            (Kind::CidrList, _) => {
                "a comma list of IPv4 networks such as 192.0.2.0/24,10.0.0.0/8".to_owned()
            }
            (Kind::Duration, _) => {
                format!("a time such as 90s or 4m, from {min} s to {max} s")
            }
            (Kind::Version, _) => "a Kubernetes version such as v1.31.4".to_owned(),
            (Kind::Tag, _) => {
                "the tag of a container image: letters, digits, '.', '_', '-'".to_owned()
            }
            (Kind::ImagePrefix, _) => {
                "a registry and path in lower case that ends with '/', without http:// and with \
                 no part left empty, such as registry.example.org:5000/magnum/"
                    .to_owned()
            }
            (Kind::HostList, _) => {
                "a comma list of DNS names in small letters and of addresses, such \
                                    as api.example.org,*.example.net,192.0.2.7"
                    .to_owned()
            }
            (Kind::List, Some(all)) => format!("a comma list, each {}", choice(all)),
            (Kind::List, None) => match &spec.pattern {
                Some(pattern) => format!("a comma list, each of the form {pattern}"),
                None => "a comma list without control characters".to_owned(),
            },
            (Kind::Enum | Kind::String, None) => match &spec.pattern {
                Some(pattern) => format!("of the form {pattern}"),
                None => format!(
                    "at most {} characters, none of them a control character",
                    spec.max.unwrap_or(255)
                ),
            },
        }
    }
}

/// The sentence for a label that cannot be honoured.
pub fn invalid(label: &str, value: &str, cure: &str) -> DriverError {
    DriverError::Unsuitable(format!(
        "Invalid input for label {label}. Value: '{value}'. It must be {cure}."
    ))
}

/// The spellings that OpenStack takes for true and false.
pub fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A comma list without its blanks.
pub fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn whole(text: &str, min: u64, max: u64) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && (min..=max).contains(n))
}

/// Such as `90s`, `4m` or `1h`, in seconds.
fn seconds(text: &str, min: u64, max: u64) -> Option<u64> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|n| (min..=max).contains(n))
}

fn is_plain(text: &str, longest: usize) -> bool {
    text.chars().count() <= longest && !text.contains(|c: char| c.is_control())
}

fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// What may stand before the name of a container image, as runtimes read a reference: a registry,
/// perhaps with its port, and parts of a path, all in lower case and closed by a slash.
fn is_image_prefix(text: &str) -> bool {
    let small = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_part = |part: &str| {
        let ends = part.bytes().next().zip(part.bytes().last());
        ends.is_some_and(|(first, last)| small(first) && small(last))
            && part.bytes().all(|b| small(b) || b"._-".contains(&b))
            && !part.contains("..")
    };
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let Some(path) = text.strip_suffix('/').filter(|_| text.len() <= 255) else { return false };
    let (registry, parts) = path.split_once('/').unwrap_or((path, "x"));
    let (host, port) = registry.split_once(':').unwrap_or((registry, "443"));
    is_part(host) && is_port(port) && parts.split('/').all(is_part)
}

/// What a certificate may name: an address, or a DNS name, perhaps with `*` for its first part.
fn is_host(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&part.len())
            && part.bytes().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    let name = text.strip_prefix("*.").unwrap_or(text);
    text.parse::<IpAddr>().is_ok()
        || (text.len() <= 253
            && name.split('.').all(part)
            // Four numbers are meant as an address, and this is none.
            && !name.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

#[cfg(test)]
mod tests {
    use super::super::Directory;
    use super::*;

    fn label(name: &str, spec: &str) -> Result<Label, DriverError> {
        let text = format!(
            "api: 1\nname: test\nversion: '1'\ndescription: d\n\
             provides: [{{server_type: vm, coe: kubernetes, os: [ubuntu]}}]\n\
             network_drivers: [flannel]\nuser_data: {{master: u, worker: u}}\n\
             labels:\n  {name}: {{doc: d, {spec}}}\n"
        );
        let directory = Directory::new("test", [("driver.yaml".to_owned(), text)])?;
        Ok(Label::all(&Manifest::read(&directory)?)?.remove(0))
    }

    #[test]
    fn every_type_takes_what_fits_and_names_the_cure_for_the_rest() {
        for (spec, good, typed, bad, cure) in [
            ("type: int, min: 1, max: 50", "12", json!(12), "99", "a whole number from 1 to 50"),
            ("type: int", "0", json!(0), "+5", "a whole number from 0 to 4294967295"),
            ("type: bool", "True", json!(true), "maybe", "true or false"),
            ("type: bool, allowed: [true]", "on", json!(true), "off", "true"),
            ("type: enum, allowed: [a, b]", "b", json!("b"), "c", "one of a, b"),
            ("type: cidr", "10.1.0.0/16", json!("10.1.0.0/16"), "10.1.0.1/16", "IPv4 network"),
            (
                "type: cidr, min: 12, max: 28",
                "10.0.0.0/28",
                json!("10.0.0.0/28"),
                "10.0.0.0/30",
                "a prefix from /12 to /28",
            ),
            (
                "type: cidr_list",
                "10.0.0.0/8, 192.0.2.0/24",
                json!(["10.0.0.0/8", "192.0.2.0/24"]),
                "10.0.0.0/8,all",
                "comma list of IPv4 networks",
            ),
            ("type: duration, min: 60, max: 3600", "4m", json!(240), "5", "from 60 s to 3600 s"),
            ("type: version", "v1.31.4-x", json!("v1.31.4-x"), "1.31.4", "v1.31.4"),
            ("type: tag", "v1.9_x", json!("v1.9_x"), "a b", "tag of a container image"),
            (
                "type: image_prefix",
                "r.example.org:5000/m/",
                json!("r.example.org:5000/m/"),
                "r.example.org",
                "ends with '/'",
            ),
            (
                "type: host_list",
                "api.example.org, *.example.net,192.0.2.7,2001:db8::7",
                json!(["api.example.org", "*.example.net", "192.0.2.7", "2001:db8::7"]),
                "api.example.org,https://api.example.org",
                "comma list of DNS names",
            ),
            ("type: list, allowed: [a, b]", "a, b", json!(["a", "b"]), "a,c", "each one of a, b"),
            ("type: string, pattern: '[a-z]+'", "abc", json!("abc"), "abc1", "the form [a-z]+"),
            ("type: string", "ä \"", json!("ä \""), "a\nb", "at most 255 characters"),
        ] {
            let label = label("x", spec).unwrap();
            let labels = Labels::from_iter([("x", good)]);
            assert_eq!(label.given(&labels), Ok(Some(typed)), "{spec}");
            let sentence = label.given(&Labels::from_iter([("x", bad)])).unwrap_err().to_string();
            let start = format!("Invalid input for label x. Value: '{bad}'. It must be ");
            assert!(sentence.starts_with(&start) && sentence.contains(cure), "{sentence}");
            assert_eq!(label.given(&Labels::from_iter([("x", "  ")])), Ok(None));
        }
    }

    /// What no container runtime takes for the beginning of a reference would fail on every node.
    #[test]
    fn an_image_prefix_is_what_container_runtimes_read() {
        for good in [
            "r.example.org/",
            "localhost:5000/",
            "10.0.0.5:5000/a/b-c/d_e/f.g/",
            "docker.io/openstackmagnum/",
            "magnum/",
        ] {
            assert!(is_image_prefix(good), "{good}");
        }
        let long = format!("r/{}/", "a".repeat(260));
        for bad in [
            "https://r.example.org/",
            "http://r.example.org:5000/magnum/",
            "docker://r/",
            "Registry.example.org/",
            "r.example.org/Magnum/",
            "r.example.org//magnum/",
            "r.example.org/magnum//",
            "//",
            "/",
            "",
            "r.example.org",
            "r.example.org:/",
            "r.example.org:port/",
            "r.example.org:0/",
            "r.example.org:+80/",
            "r.example.org:70000/",
            "r.example.org/a:5000/",
            "-r/",
            "r./",
            "r/a..b/",
            "r/-a/",
            "r/a b/",
            long.as_str(),
        ] {
            assert!(!is_image_prefix(bad), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        let name = format!("{}.example", "a".repeat(63));
        for good in ["a", "a-1.b", "*.a", "10.0.0.1", "::1", "1a.2", name.as_str()] {
            assert!(is_host(good), "{good}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            "*",
            "a.*",
            "*a.b",
            "A.example",
            "a_b",
            "-a",
            "a-",
            "a..b",
            "10.0.0.256",
            "1.2.3",
            "a:b",
            ":::",
            &long,
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn defaults_are_read_like_labels() {
        let value = |default: &Default| match default {
            Default::Value(value) => value.clone(),
            Default::Computed(e) => json!({"computed": e.text}),
        };
        let both = label("x", "type: duration, default: 4m, nested: 1200").unwrap();
        assert_eq!(value(both.default_in(false)), json!(240));
        assert_eq!(value(both.default_in(true)), json!(1200));
        let list = label("x", "type: list, default: [a, b]").unwrap();
        assert_eq!(value(list.default_in(true)), json!(["a", "b"]));
        let none = label("x", "type: cidr_list").unwrap();
        assert_eq!(value(none.default_in(false)), json!([]));
        let computed = label("x", "type: int, default: '{{ 10 * labels.y }}'").unwrap();
        assert_eq!(value(computed.default_in(false)), json!({"computed": "10 * labels.y"}));
        assert_eq!(computed.computed(" 7\n"), Ok(json!(7)));
    }

    #[test]
    fn an_older_name_counts_where_the_first_is_not_given() {
        let label = label("x", "type: int, also: [y]").unwrap();
        assert_eq!(label.given(&Labels::from_iter([("y", "3")])), Ok(Some(json!(3))));
        assert_eq!(label.given(&Labels::from_iter([("y", "3"), ("x", "4")])), Ok(Some(json!(4))));
        let said = label.given(&Labels::from_iter([("y", "z")])).unwrap_err().to_string();
        assert!(said.contains("label y"), "{said}");
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let label = label("x", "type: int, secret: true").unwrap();
        let said = label.given(&Labels::from_iter([("x", "hunter2")])).unwrap_err().to_string();
        assert!(!said.contains("hunter2"), "{said}");
    }

    #[test]
    fn declarations_that_make_no_sense() {
        for (spec, reason) in [
            ("type: enum", "needs allowed"),
            ("type: int, min: 5, max: 4", "min is greater"),
            ("type: int, default: many", "'many' does not fit"),
            ("type: int, default: {a: b}", "as a tenant would write"),
            ("type: string, pattern: '['", "pattern"),
            ("type: nothing", "unknown"),
            ("type: int, defalt: 5", "did you mean default?"),
        ] {
            let said = label("x", spec).unwrap_err().to_string();
            assert!(said.starts_with("driver test: driver.yaml:9: "), "{said}");
            assert!(said.contains(reason), "{spec}: {said}");
        }
        assert!(label("a-b", "type: int").is_err());
    }
}
