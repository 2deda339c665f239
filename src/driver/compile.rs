//! From files to compiled templates: every expression gets a name, and every name and file that
//! is spoken of must be there.

use std::collections::{BTreeMap, BTreeSet};

use super::DriverError;
use super::directory::Directory;
use super::expression::{Expression, Form};
use super::label::{Default as LabelDefault, Label};
use super::manifest::{FILE, FileEntry, Manifest, Rule, line_of_span};
use super::names::{Known, Names, inherited};
use super::templates::Templates;
use super::upgrade::fields_of_drivers;
use crate::model::duty::DutyKind;

pub const DISCOVERY: &str = "bootstrap.discovery";
pub const API_NAMES: &str = "certificates.api_names";
/// The list of what has no effect.
pub const IDLE: &str = "idle";
pub const INLINE: &str = "bootstrap.inline";
pub const SIGNALS: &str = "bootstrap.signals";
pub const DEADLINE_BOOT: &str = "bootstrap.deadlines.boot";
pub const DEADLINE_ETCD: &str = "bootstrap.deadlines.etcd";
pub const DEADLINE_READY: &str = "bootstrap.deadlines.ready";
pub const COE_VERSION: &str = "coe_version";
pub const API_FORMAT: &str = "outputs.api_address.format";

pub fn label_default(label: &str, nested: bool) -> String {
    format!("label {label}, {}", if nested { "nested" } else { "default" })
}

pub fn value(name: &str) -> String {
    format!("values.{name}")
}

pub fn rule(list: &str, index: usize) -> String {
    format!("{list} {}", index + 1)
}

pub fn say(list: &str, index: usize) -> String {
    format!("{list} {}, say", index + 1)
}

pub fn parameter(name: &str) -> String {
    format!("stack.parameters.{name}")
}

/// When a file of the stack is there.
pub fn stack_file(name: &str) -> String {
    format!("stack.files {name}, when")
}

/// When an entry of a list of files is there.
pub fn entry(list: &str, index: usize) -> String {
    format!("{list} {}, when", index + 1)
}

/// A list of files by the name that its entries' expressions have.
pub fn duty_list(kind: DutyKind) -> String {
    format!("duties.{kind}")
}

/// Every list of files with its name.
pub fn lists(manifest: &Manifest) -> Vec<(String, &[FileEntry])> {
    let mut lists = vec![("files".to_owned(), manifest.files.as_slice())];
    lists.push(("duties.every".to_owned(), &manifest.duties.every));
    for kind in DutyKind::ALL {
        lists.push((duty_list(*kind), of_kind(manifest, *kind)));
    }
    lists
}

/// What a duty brings beside what every duty brings.
pub fn of_kind(manifest: &Manifest, kind: DutyKind) -> &[FileEntry] {
    match kind {
        DutyKind::Drain => &manifest.duties.drain,
        DutyKind::TrustAuthorities => &manifest.duties.trust_authorities,
        DutyKind::IssueLeaves => &manifest.duties.issue_leaves,
        DutyKind::DropAuthorities => &manifest.duties.drop_authorities,
        DutyKind::RenewCredentials => &manifest.duties.renew_credentials,
        DutyKind::Rejoin => &manifest.duties.rejoin,
    }
}

/// One expression and the values and labels that are known where it stands.
struct Placed {
    name: String,
    expression: Expression,
    labels: usize,
    values: usize,
}

/// Compiles all that a directory has, or says what is wrong with it.
pub fn compile(
    manifest: &Manifest,
    labels: &[Label],
    directory: &Directory,
) -> Result<Templates, DriverError> {
    let placed = expressions(manifest, labels);
    let named = placed.iter().map(|p| (p.name.clone(), &p.expression));
    let templates = Templates::new(&manifest.name, &manifest.lines, directory, named)?;
    let known = Known {
        labels: labels.iter().map(|l| l.name.as_str()).collect(),
        values: manifest.values.iter().map(|v| v.name.as_str()).collect(),
    };
    for place in &placed {
        let known = Known {
            labels: known.labels[..place.labels].to_vec(),
            values: known.values[..place.values].to_vec(),
        };
        let names = match place.expression.form {
            Form::Bare => Names::of_expression(&place.expression.text, 1),
            Form::Template => Names::of_template(&place.expression.text),
        };
        if let Some(unknown) = names.unknown(&known, &BTreeSet::new()) {
            return Err(templates.error(&place.name, Some(unknown.line), unknown.reason));
        }
    }
    let mut all = BTreeMap::new();
    for (path, text) in directory.files().filter(|(path, _)| path.ends_with(".tera")) {
        all.insert(path.to_owned(), Names::of_template(text));
    }
    let around = inherited(&all);
    let nothing = BTreeSet::new();
    // What is included may be for other drivers, who give it the names that it wants.
    let used = used(manifest, directory);
    for (path, names) in all.iter().filter(|(path, _)| used.contains(*path)) {
        let around = around.get(path).unwrap_or(&nothing);
        if let Some(unknown) = names.unknown(&known, around) {
            return Err(templates.error(path, Some(unknown.line), unknown.reason));
        }
        if let Some(file) = names.files.iter().find(|file| directory.get(file).is_none()) {
            let reason = format!("the directory has no file {file}");
            return Err(templates.error(path, None, reason));
        }
    }
    spoken_of(manifest, directory)?;
    Ok(templates)
}

fn expressions(manifest: &Manifest, labels: &[Label]) -> Vec<Placed> {
    let (every_label, every_value) = (labels.len(), manifest.values.len());
    let mut all = Vec::new();
    let mut put = |name: String, expression: &Expression, labels: usize, values: usize| {
        all.push(Placed { name, expression: expression.clone(), labels, values });
    };
    for (i, label) in labels.iter().enumerate() {
        for (default, nested) in [(Some(&label.default), false), (label.nested.as_ref(), true)] {
            if let Some(LabelDefault::Computed(expression)) = default {
                put(label_default(&label.name, nested), expression, i, 0);
            }
        }
    }
    for (i, named) in manifest.values.iter().enumerate() {
        put(value(&named.name), &named.is, every_label, i);
    }
    let mut whole = |name: String, expression: &Expression| {
        put(name, expression, every_label, every_value);
    };
    let rules = [("refuse", &manifest.refuse), ("upgrade.refuse", &manifest.upgrade.refuse)];
    for (list, rules) in rules {
        for (i, Rule { when, say: sentence }) in rules.iter().enumerate() {
            whole(rule(list, i), when);
            let line = line_of_span(sentence).unwrap_or_default();
            let text = sentence.value.trim().to_owned();
            whole(say(list, i), &Expression { text, form: Form::Template, line });
        }
    }
    for (i, idle) in manifest.idle.iter().enumerate() {
        whole(rule(IDLE, i), &idle.when);
    }
    for (name, expression) in &manifest.stack.parameters {
        whole(parameter(name), expression);
    }
    for file in &manifest.stack.files {
        file.when.iter().for_each(|when| whole(stack_file(&file.name), when));
    }
    for (list, entries) in lists(manifest) {
        for (i, file) in entries.iter().enumerate() {
            file.when.iter().for_each(|when| whole(entry(&list, i), when));
        }
    }
    let bootstrap = &manifest.bootstrap;
    for (name, expression) in [
        (API_NAMES, &manifest.certificates.api_names),
        (DISCOVERY, &bootstrap.discovery),
        (INLINE, &bootstrap.inline),
        (SIGNALS, &bootstrap.signals),
        (DEADLINE_BOOT, &bootstrap.deadlines.boot),
        (DEADLINE_ETCD, &bootstrap.deadlines.etcd),
        (DEADLINE_READY, &bootstrap.deadlines.ready),
    ] {
        expression.iter().for_each(|expression| whole(name.to_owned(), expression));
    }
    manifest.coe_version.iter().for_each(|version| whole(COE_VERSION.to_owned(), version));
    let format = &manifest.outputs.api_address.format;
    let line = line_of_span(format).unwrap_or_default();
    let text = format.value.clone();
    whole(API_FORMAT.to_owned(), &Expression { text, form: Form::Template, line });
    all
}

/// Files that the manifest names.
fn spoken_of(manifest: &Manifest, directory: &Directory) -> Result<(), DriverError> {
    let missing = |line: Option<u32>, path: &str, of: &str| {
        Err(manifest.fault(line, format!("{of}: the directory has no file {path}")))
    };
    let template = |line: Option<u32>, path: &str, of: &str| match directory.get(path) {
        None => missing(line, path, of),
        Some(_) if !path.ends_with(".tera") => {
            let reason = format!("{of}: {path} is no template; a template's name ends in .tera");
            Err(manifest.fault(line, reason))
        }
        Some(_) => Ok(()),
    };
    template(None, &manifest.stack.template, "stack")?;
    template(None, &manifest.user_data.master, "user_data: master")?;
    template(None, &manifest.user_data.worker, "user_data: worker")?;
    for file in &manifest.stack.files {
        template(None, &file.template, &format!("stack: file {}", file.name))?;
    }
    for entry in lists(manifest).into_iter().flat_map(|(_, entries)| entries) {
        let (line, of) = (line_of_span(&entry.mode), format!("file {}", entry.path));
        match (&entry.template, &entry.file) {
            (Some(path), _) => template(line, path, &of)?,
            (_, Some(path)) if directory.get(path).is_none() => return missing(line, path, &of),
            _ => {}
        }
    }
    let is_label = |name: &str| manifest.labels.0.iter().any(|(n, _)| n == name);
    let is_field = |name: &str| fields_of_drivers().any(|field| field == name);
    let mut idle = manifest.idle.iter().flat_map(|idle| &idle.of);
    if let Some(unknown) = idle.find(|name| !is_label(&name.value) && !is_field(&name.value)) {
        let reason = format!(
            "idle: of: {} is neither a declared label nor a field of templates",
            unknown.value
        );
        return Err(manifest.fault(line_of_span(unknown), reason));
    }
    let kept = &manifest.upgrade.keep;
    let is_known = |name: &str| name == "network_driver" || is_label(name);
    match kept.iter().find(|kept| !is_known(&kept.value)) {
        Some(unknown) => {
            let reason = format!(
                "upgrade: keep: {} is neither network_driver nor a declared label",
                unknown.value
            );
            Err(manifest.fault(line_of_span(unknown), reason))
        }
        None => Ok(()),
    }
}

/// Files of the driver's own that nothing speaks of; what is included is there for whoever needs it.
pub fn unused(manifest: &Manifest, directory: &Directory) -> Vec<String> {
    let used = used(manifest, directory);
    let own = directory.files().map(|(path, _)| path).filter(|p| directory.origin(p).is_none());
    own.filter(|path| !used.contains(*path)).map(str::to_owned).collect()
}

/// Files that the manifest or a template speaks of.
fn used(manifest: &Manifest, directory: &Directory) -> BTreeSet<String> {
    let mut used: BTreeSet<String> = BTreeSet::from([
        FILE.to_owned(),
        manifest.stack.template.clone(),
        manifest.user_data.master.clone(),
        manifest.user_data.worker.clone(),
    ]);
    used.extend(manifest.parts.iter().map(|part| part.value.clone()));
    used.extend(manifest.stack.files.iter().map(|f| f.template.clone()));
    for entry in lists(manifest).into_iter().flat_map(|(_, entries)| entries) {
        used.extend(entry.template.iter().chain(&entry.file).cloned());
    }
    for (_, text) in directory.files().filter(|(path, _)| path.ends_with(".tera")) {
        let names = Names::of_template(text);
        used.extend(names.includes);
        used.extend(names.files);
    }
    used
}
