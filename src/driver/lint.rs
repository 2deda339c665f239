//! Everything that can be known of a driver without a cloud: its samples rendered, looked
//! through, and compared with what is expected. Pure; whoever has a shell may do more.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::count::Census;
use super::craft::Driver;
use super::sample::Sample;
use super::{Bundle, BundleFile, ClusterPlan, DriverError, compile, registry, written};
use crate::model::duty::DutyKind;
use crate::model::nodegroup::counts;

/// All that one sample gives, by the names that `driver render` writes it under.
#[derive(Debug)]
pub struct Rendered {
    pub files: BTreeMap<String, BundleFile>,
    pub census: Census,
    /// Of the largest server's.
    pub user_data_bytes: usize,
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    pub line: Option<u32>,
    pub reason: String,
}

/// What became of one sample.
#[derive(Debug)]
pub struct Tried {
    /// Its file.
    pub sample: String,
    /// The refusal that was expected, or what was rendered.
    pub result: Result<Rendered, String>,
}

/// What lint has found.
#[derive(Debug, Default)]
pub struct Report {
    pub errors: Vec<Finding>,
    pub warnings: Vec<Finding>,
    /// What is right and good to know.
    pub notes: Vec<Finding>,
    pub tried: Vec<Tried>,
}

/// Renders all that a plan's servers would ever get: the stack, user data, and the files and duties
/// of the first master, of the last one and of a worker.
pub fn render(driver: &Driver, plan: &ClusterPlan) -> Result<Rendered, DriverError> {
    let bundle = driver.bundle(plan)?;
    let census = Census::take(&bundle)
        .map_err(|e| driver.manifest().fault(None, format!("the stack is not YAML: {e}")))?;
    let mut files = BTreeMap::new();
    let mut put = |path: String, mode: u32, content: Vec<u8>| {
        files.insert(path.clone(), BundleFile { path, mode, content });
    };
    let Bundle { template, parameters, files: others } = bundle;
    put("stack.yaml".to_owned(), 0o644, template.into_bytes());
    let parameters = serde_json::to_string_pretty(&parameters).unwrap_or_default() + "\n";
    put("parameters.json".to_owned(), 0o600, parameters.into_bytes());
    let mut user_data_bytes = 0;
    for (name, text) in others {
        let of_stack = driver.manifest().stack.files.iter().any(|f| f.name == name);
        if of_stack {
            put(format!("files/{name}"), 0o644, text.into_bytes());
        } else {
            user_data_bytes = user_data_bytes.max(text.len());
            put(format!("user_data/{name}"), 0o600, text.into_bytes());
        }
    }
    let (masters, _) = counts(&plan.groups);
    let ends: BTreeSet<u32> =
        [0, masters.saturating_sub(1)].into_iter().filter(|i| *i < masters).collect();
    let nodes = ends.into_iter().map(|i| (format!("master-{i}"), Some(i)));
    for (name, index) in nodes.chain([("worker".to_owned(), None)]) {
        let node = Sample::node(plan, index);
        for file in driver.node_files(plan, &node)? {
            put(format!("node/{name}/{}", file.path), file.mode, file.content);
        }
        for kind in DutyKind::ALL {
            for file in driver.duty_files(plan, &node, &Sample::duty(plan, *kind))? {
                put(format!("duty/{kind}/{name}/{}", file.path), file.mode, file.content);
            }
        }
    }
    Ok(Rendered { files, census, user_data_bytes })
}

/// Looks at a driver beside `others` and tries its samples.
pub fn lint<'d>(driver: &Driver, others: impl IntoIterator<Item = &'d Driver>) -> Report {
    let mut report = Report::default();
    let finding = |file: &str, line: Option<u32>, reason: String| Finding {
        file: file.to_owned(),
        line,
        reason,
    };
    let replaced = driver.manifest().replaces.as_deref();
    for other in others.into_iter().filter(|o| Some(o.name()) != replaced) {
        // A copy of a driver that is there already is linted as itself.
        let is_itself = other.name() == driver.name()
            && other.directory().digest() == driver.directory().digest();
        if let Some(reason) = registry::clash(other, driver).filter(|_| !is_itself) {
            report.errors.push(finding(super::manifest::FILE, None, reason));
        }
    }
    for (path, of) in driver.directory().beaten() {
        let winner = match driver.directory().origin(path) {
            Some(origin) => format!("it is the one of {origin}, which is named before {of}"),
            None => format!("it takes the place of the one of {of}"),
        };
        report.notes.push(finding(path, None, winner));
    }
    for path in compile::unused(driver.manifest(), driver.directory()) {
        report.warnings.push(finding(&path, None, "nothing speaks of this file".to_owned()));
    }
    for name in unread(driver) {
        let reason = format!("label {name} is declared and never read");
        report.warnings.push(finding(super::manifest::FILE, None, reason));
    }
    let mut samples = 0;
    for (path, text) in driver.directory().samples() {
        samples += 1;
        let sample = match Sample::parse(text) {
            Ok(sample) => sample,
            Err((line, reason)) => {
                report.errors.push(finding(path, line, reason));
                continue;
            }
        };
        let result = tried(driver, &sample);
        match result {
            Ok(Ok(rendered)) => {
                for reason in disappointments(&sample, &rendered) {
                    report.errors.push(finding(path, None, reason));
                }
                let result = Ok(rendered);
                report.tried.push(Tried { sample: path.to_owned(), result });
            }
            Ok(Err(refusal)) => {
                let result = Err(refusal);
                report.tried.push(Tried { sample: path.to_owned(), result });
            }
            Err(found) => {
                report.errors.push(Finding { reason: format!("{path}: {}", found.reason), ..found })
            }
        }
    }
    if samples == 0 {
        let reason = "there are no samples: nothing was rendered".to_owned();
        report.warnings.push(finding("tests", None, reason));
    }
    report
}

/// What a sample gives, or the refusal that it expects.
fn tried(driver: &Driver, sample: &Sample) -> Result<Result<Rendered, String>, Finding> {
    let plan = sample.plan(driver);
    let finding = |file: &str, line: Option<u32>, reason: String| Finding {
        file: file.to_owned(),
        line,
        reason,
    };
    match (render(driver, &plan), &sample.expect.refused) {
        (Ok(rendered), None) => Ok(Ok(rendered)),
        (Ok(_), Some(expected)) => {
            Err(finding("driver.yaml", None, format!("a refusal was expected: {expected}")))
        }
        (Err(DriverError::Unsuitable(said)), Some(expected)) if said.contains(expected) => {
            Ok(Err(said))
        }
        (Err(DriverError::Unsuitable(said)), Some(expected)) => Err(finding(
            "driver.yaml",
            None,
            format!("the refusal does not say '{expected}'; it says: {said}"),
        )),
        (Err(DriverError::Unsuitable(said)), None) => {
            Err(finding("driver.yaml", None, format!("refused: {said}")))
        }
        (Err(DriverError::Template { file, line, reason, .. }), _) => {
            Err(finding(&file, line, reason))
        }
    }
}

/// What is not as it must be, or not as the sample expects it.
fn disappointments(sample: &Sample, rendered: &Rendered) -> Vec<String> {
    let mut wrong = references(rendered);
    let expect = &sample.expect;
    let resources = rendered.census.resources();
    if let Some(expected) = expect.resources.filter(|expected| *expected != resources) {
        wrong.push(format!("the stack has {resources} resources, and {expected} were expected"));
    }
    let lists = [(&expect.has, true), (&expect.has_not, false)];
    for (files, is_wanted) in lists {
        for (name, parts) in files {
            let Some(file) = rendered.files.get(name) else {
                let near = rendered.files.keys().map(String::as_str).take(200);
                let near = near
                    .map(|known| (strsim::jaro_winkler(name, known), known))
                    .max_by(|(a, _), (b, _)| a.total_cmp(b))
                    .map_or("", |(_, known)| known);
                wrong.push(format!("there is no {name}; did you mean {near}?"));
                continue;
            };
            let text = String::from_utf8_lossy(&file.content);
            for part in parts.iter().filter(|part| text.contains(part.as_str()) != is_wanted) {
                let said = if is_wanted { "does not have" } else { "has" };
                wrong.push(format!("{name} {said}: {part}"));
            }
        }
    }
    wrong
}

/// References of the stack and its members' templates that point at nothing.
pub fn references(rendered: &Rendered) -> Vec<String> {
    let mut wrong = Vec::new();
    let names: BTreeSet<&str> = rendered
        .files
        .keys()
        .filter_map(|path| path.strip_prefix("files/").or(path.strip_prefix("user_data/")))
        .collect();
    for (path, file) in &rendered.files {
        let is_template =
            path == "stack.yaml" || (path.starts_with("files/") && path.ends_with(".yaml"));
        if !is_template {
            continue;
        }
        match written::yaml(&String::from_utf8_lossy(&file.content)) {
            Ok(template) => {
                let mut missing = |what: String| wrong.push(format!("{path}: {what}"));
                dangling(&template, &names, &mut missing);
            }
            Err((_, reason)) => wrong.push(format!("{path}: {reason}")),
        }
    }
    wrong
}

fn dangling(template: &Value, files: &BTreeSet<&str>, missing: &mut dyn FnMut(String)) {
    let has = |section: &str, name: &str| template[section].get(name).is_some();
    let pseudo = |name: &str| name.starts_with("OS::");
    visit(template, &mut |key, value| {
        let names: Vec<&str> = match value {
            Value::String(name) => vec![name],
            Value::Array(items) if key == "depends_on" => {
                items.iter().filter_map(Value::as_str).collect()
            }
            Value::Array(items) => items.first().and_then(Value::as_str).into_iter().collect(),
            _ => Vec::new(),
        };
        for name in names {
            match key {
                "get_resource" | "get_attr" | "depends_on" if !has("resources", name) => {
                    missing(format!("{key}: there is no resource {name}"));
                }
                "get_param" if !has("parameters", name) && !pseudo(name) => {
                    missing(format!("get_param: there is no parameter {name}"));
                }
                "get_file" if !files.contains(name) => {
                    missing(format!("get_file: there is no file {name}"));
                }
                "type" if name.ends_with(".yaml") && !files.contains(name) => {
                    missing(format!("type: there is no file {name}"));
                }
                _ => {}
            }
        }
    });
}

fn visit(value: &Value, seen: &mut dyn FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            seen(key, value);
            visit(value, seen);
        }),
        Value::Array(items) => items.iter().for_each(|item| visit(item, seen)),
        _ => {}
    }
}

/// Labels that no template and no expression reads, and magnumd does not either.
fn unread(driver: &Driver) -> Vec<String> {
    /// What the engine itself, the conductor and health look at.
    const READ_HERE: &[&str] = &[
        "ready_threshold",
        "create_timeout",
        "fixed_subnet_cidr",
        "fixed_network_cidr",
        "min_node_count",
        "max_node_count",
    ];
    let directory = driver.directory();
    let texts: Vec<&str> = directory.files().map(|(_, text)| text).collect();
    let is_read = |name: &str| {
        let spoken = format!("labels.{name}");
        READ_HERE.contains(&name)
            || texts.iter().any(|text| {
                text.match_indices(&spoken).any(|(at, _)| {
                    !text[at + spoken.len()..]
                        .starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                })
            })
    };
    let declared = driver.labels().iter();
    // One whose only value is its default, or an empty text, promises nothing that could be read.
    let says_something = |l: &&super::label::Label| {
        l.spec.allowed.as_ref().is_none_or(|allowed| allowed.len() > 1) && l.spec.max != Some(0)
    };
    declared.filter(says_something).map(|l| l.name.clone()).filter(|name| !is_read(name)).collect()
}
