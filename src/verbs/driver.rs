//! `magnumd driver`: what drivers there are, what they offer, and whether one of your own is
//! right. Needs no cloud.

mod files;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Args, Subcommand};
use magnumd::config::folders;
use magnumd::driver::label::{Default as LabelDefault, Label};
use magnumd::driver::lint::{self, Finding, Rendered};
use magnumd::driver::{Directory, Driver, Drivers, Wishes};
use serde_json::{Value, json};

use self::files::{Export, Render};
use super::paint::{Colour, paint};
use super::{Output, complain};

#[derive(Debug, Args)]
pub struct DriverVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the drivers that come with magnumd, and your own.
    List(List),
    /// Show what a driver builds and every label it knows: type, default, meaning.
    Show(Show),
    /// Look at a driver's directory: manifest, templates, names, files, and its samples rendered.
    Lint(Lint),
    /// Render a driver for a context: stack, files, user data and the files of nodes.
    Render(Render),
    /// Write a driver's directory with all that it includes, to change it and to stand alone.
    Export(Export),
}

/// Where drivers are looked for.
#[derive(Debug, Args)]
struct Place {
    /// A folder with drivers of your own, as [drivers] dir.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Show {
    /// A driver's name, or its directory.
    driver: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Lint {
    /// The driver's directory.
    directory: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Why a verb has nothing to show.
type Failure = String;

impl DriverVerb {
    pub fn run(self) -> ExitCode {
        let done = match self.verb {
            Verb::List(list) => list.run(),
            Verb::Show(show) => show.run(),
            Verb::Lint(lint) => lint.run(),
            Verb::Render(render) => render.run(),
            Verb::Export(export) => export.run(),
        };
        done.unwrap_or_else(|failure| {
            complain(&failure);
            ExitCode::FAILURE
        })
    }
}

impl Place {
    /// Every driver, those in beta too.
    fn drivers(&self) -> Result<Drivers, Failure> {
        let mut own = Vec::new();
        if let Some(dir) = &self.dir {
            for folder in folders::read_all(dir).map_err(unreadable)? {
                own.push(whole(folder, dir)?);
            }
        }
        Drivers::load(own, Wishes::everything()).map_err(|e| e.to_string())
    }

    /// One driver, by its name or its directory.
    fn driver(&self, named: &str) -> Result<std::sync::Arc<Driver>, Failure> {
        if named.contains('/') || Path::new(named).join("driver.yaml").is_file() {
            return Ok(std::sync::Arc::new(of_directory(Path::new(named))?));
        }
        let all = self.drivers()?;
        all.by_name(named).ok_or_else(|| {
            let known: Vec<&str> = all.names().collect();
            format!("there is no driver {named}; choose from {}", known.join(", "))
        })
    }
}

fn unreadable((path, reason): folders::Fault) -> Failure {
    format!("{}: {reason}", path.display())
}

fn of_directory(path: &Path) -> Result<Driver, Failure> {
    let folder = folders::read(path).map_err(unreadable)?;
    let beside = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
    Driver::new(whole(folder, &beside.unwrap_or_default())?).map_err(|e| e.to_string())
}

/// A driver's directory with all that it includes from those beside it, or from magnumd's own.
fn whole(folder: folders::Folder, beside: &Path) -> Result<Directory, Failure> {
    let look = |included: &str| folders::included(beside, included);
    let directory = Directory::of_bytes(&folder.name, folder.files);
    directory.and_then(|directory| directory.resolve(&look)).map_err(|e| e.to_string())
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        let all = self.place.drivers()?;
        match self.place.output {
            Output::Json => {
                let all: Vec<Value> = all.iter().map(|driver| summary(driver)).collect();
                say!("{}", json!(all));
            }
            Output::Text => {
                for driver in all.iter() {
                    let manifest = driver.manifest();
                    let beta = if manifest.beta { " (beta)" } else { "" };
                    let (name, version) = (driver.name(), &manifest.version);
                    say!("{name} {version}{beta}: {}", manifest.description);
                    for p in &manifest.provides {
                        let os = p.os.join(", ");
                        say!(
                            "  {}",
                            paint(Colour::Dim, &format!("{} on {} × {os}", p.coe, p.server_type))
                        );
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn summary(driver: &Driver) -> Value {
    let manifest = driver.manifest();
    let provides = |p: &magnumd::driver::manifest::Provides| json!({"server_type": p.server_type.as_str(), "coe": p.coe.as_str(), "os": p.os});
    json!({
        "name": driver.name(),
        "version": manifest.version,
        "description": manifest.description,
        "beta": manifest.beta,
        "digest": driver.directory().digest(),
        "provides": manifest.provides.iter().map(provides).collect::<Vec<_>>(),
        "network_drivers": manifest.network_drivers,
        "volume_drivers": manifest.volume_drivers,
    })
}

impl Show {
    fn run(self) -> Result<ExitCode, Failure> {
        let driver = self.place.driver(&self.driver)?;
        let labels: Vec<Row> = driver.labels().iter().map(Row::of).collect();
        if self.place.output == Output::Json {
            let mut whole = summary(&driver);
            whole["labels"] = labels.iter().map(Row::json).collect();
            say!("{whole}");
            return Ok(ExitCode::SUCCESS);
        }
        let manifest = driver.manifest();
        say!("{} {}: {}", driver.name(), manifest.version, manifest.description);
        say!("network drivers: {}", manifest.network_drivers.join(", "));
        if !manifest.volume_drivers.is_empty() {
            say!("volume drivers: {}", manifest.volume_drivers.join(", "));
        }
        let width = |of: fn(&Row) -> &str, head: &str| {
            labels.iter().map(|row| of(row).chars().count()).chain([head.len()]).max().unwrap_or(0)
        };
        let name = width(|r| &r.name, "label");
        let kind = width(|r| &r.kind, "type");
        let default = width(|r| brief(&r.default), "default");
        let nested = width(|r| brief(&r.nested), "nested");
        let head = format!(
            "{:<name$}  {:<kind$}  {:<default$}  {:<nested$}  meaning",
            "label", "type", "default", "nested"
        );
        say!("\n{}", paint(Colour::Dim, &head));
        for row in &labels {
            let padded = format!("{:<name$}", row.name);
            say!(
                "{}  {:<kind$}  {:<default$}  {:<nested$}  {}",
                paint(Colour::Green, &padded),
                row.kind,
                brief(&row.default),
                brief(&row.nested),
                row.meaning
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A value that leaves room for its meaning; `--output json` has all of it.
fn brief(value: &str) -> &str {
    match value.chars().count() {
        0..=40 => value,
        _ => "(computed)",
    }
}

/// One label as the table shows it.
struct Row {
    name: String,
    kind: String,
    default: String,
    nested: String,
    meaning: String,
    wanted: String,
}

impl Row {
    fn of(label: &Label) -> Self {
        let shown = |default: &LabelDefault| match default {
            LabelDefault::Value(Value::Null) => String::new(),
            LabelDefault::Value(Value::Array(items)) if items.is_empty() => String::new(),
            LabelDefault::Value(_) if label.spec.secret => "(secret)".to_owned(),
            LabelDefault::Value(Value::String(text)) => text.clone(),
            LabelDefault::Value(value) => value.to_string(),
            LabelDefault::Computed(expression) => format!("= {}", expression.text),
        };
        let mut meaning = label.spec.doc.clone();
        if let Some(unit) = &label.spec.unit {
            meaning = format!("{meaning} ({unit})");
        }
        if label.spec.kind.as_str() == "enum" {
            meaning = format!("{meaning}: {}", label.wanted());
        }
        if !label.spec.also.is_empty() {
            meaning = format!("{meaning}; also {}", label.spec.also.join(", "));
        }
        if let Some(instead) = &label.spec.deprecated {
            meaning = format!("{meaning}; deprecated: {instead}");
        }
        Self {
            name: label.name.clone(),
            kind: label.spec.kind.as_str().to_owned(),
            default: shown(&label.default),
            nested: label.nested.as_ref().map(shown).unwrap_or_default(),
            meaning,
            wanted: label.wanted(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "label": self.name,
            "type": self.kind,
            "default": self.default,
            "nested": self.nested,
            "must_be": self.wanted,
            "meaning": self.meaning,
        })
    }
}

impl Lint {
    fn run(self) -> Result<ExitCode, Failure> {
        let driver = match of_directory(&self.directory) {
            Ok(driver) => driver,
            Err(reason) => {
                match self.place.output {
                    Output::Text => say!("{} {reason}", paint(Colour::Red, "error:")),
                    Output::Json => say!("{}", json!({"errors": [{"reason": reason}]})),
                }
                return Ok(ExitCode::FAILURE);
            }
        };
        let others = self.place.drivers()?;
        let mut report = lint::lint(&driver, others.iter().map(AsRef::as_ref));
        if !bash_is_here() {
            let reason = "bash was not found: scripts were not read by it".to_owned();
            report.warnings.push(Finding { file: "tests".to_owned(), line: None, reason });
        }
        for tried in &report.tried {
            let Ok(rendered) = &tried.result else { continue };
            report.errors.extend(unreadable_scripts(&tried.sample, rendered));
        }
        let is_right = report.errors.is_empty();
        match self.place.output {
            Output::Json => say!("{}", self.json(&driver, &report)),
            Output::Text => self.text(&driver, &report),
        }
        Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn text(&self, driver: &Driver, report: &lint::Report) {
        for tried in &report.tried {
            match &tried.result {
                Ok(rendered) => say!(
                    "{} {}: {} resources, stack {} bytes, user data {} bytes, {} files",
                    paint(Colour::Green, "drawn"),
                    tried.sample,
                    rendered.census.resources(),
                    rendered.census.bytes,
                    rendered.user_data_bytes,
                    rendered.files.len()
                ),
                Err(refusal) => {
                    say!("{} {}: {refusal}", paint(Colour::Green, "refused"), tried.sample);
                }
            }
        }
        for note in &report.notes {
            say!("{} {}", paint(Colour::Dim, "note:"), shown(note));
        }
        for warning in &report.warnings {
            say!("{} {}", paint(Colour::Yellow, "warning:"), shown(warning));
        }
        for error in &report.errors {
            say!("{} {}", paint(Colour::Red, "error:"), shown(error));
        }
        let count = |n: usize, what: &str| match n {
            1 => format!("1 {what}"),
            n => format!("{n} {what}s"),
        };
        say!(
            "{}: {}, {}, {}",
            driver.name(),
            count(report.tried.len(), "sample"),
            count(report.errors.len(), "error"),
            count(report.warnings.len(), "warning")
        );
    }

    fn json(&self, driver: &Driver, report: &lint::Report) -> Value {
        let finding = |f: &Finding| json!({"file": f.file, "line": f.line, "reason": f.reason});
        let tried = |tried: &lint::Tried| match &tried.result {
            Ok(rendered) => json!({
                "sample": tried.sample,
                "resources": rendered.census.resources(),
                "stack_bytes": rendered.census.bytes,
                "user_data_bytes": rendered.user_data_bytes,
                "files": rendered.files.len(),
            }),
            Err(refusal) => json!({"sample": tried.sample, "refused": refusal}),
        };
        json!({
            "driver": driver.name(),
            "digest": driver.directory().digest(),
            "samples": report.tried.iter().map(tried).collect::<Vec<_>>(),
            "errors": report.errors.iter().map(finding).collect::<Vec<_>>(),
            "warnings": report.warnings.iter().map(finding).collect::<Vec<_>>(),
            "notes": report.notes.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

fn shown(finding: &Finding) -> String {
    match finding.line {
        Some(line) => format!("{}:{line}: {}", finding.file, finding.reason),
        None => format!("{}: {}", finding.file, finding.reason),
    }
}

fn bash_is_here() -> bool {
    Command::new("bash").arg("--version").output().is_ok()
}

/// Scripts that bash itself cannot read.
fn unreadable_scripts(sample: &str, rendered: &Rendered) -> Vec<Finding> {
    use std::io::Write;
    use std::process::Stdio;
    let is_script = |path: &str, text: &[u8]| {
        path.ends_with(".sh")
            || text.starts_with(b"#!/bin/bash")
            || text.starts_with(b"#!/usr/bin/env bash")
            || text.starts_with(b"#!/bin/sh")
    };
    let mut wrong = Vec::new();
    for (path, file) in rendered.files.iter().filter(|(path, f)| is_script(path, &f.content)) {
        let child = Command::new("bash")
            .arg("-n")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else { return wrong };
        if let Some(mut stdin) = child.stdin.take() {
            // What bash does not read to its end it has already complained of.
            let _ = stdin.write_all(&file.content);
        }
        let Ok(done) = child.wait_with_output() else { return wrong };
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).trim().replace('\n', "; ");
            let reason = format!("{path}: bash cannot read it: {said}");
            wrong.push(Finding { file: sample.to_owned(), line: None, reason });
        }
    }
    wrong
}
