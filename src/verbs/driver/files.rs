//! What `magnumd driver` writes to a folder: what a driver gives for a context, and the driver itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use magnumd::driver::lint;
use magnumd::driver::sample::Sample;
use serde_json::{Value, json};

use super::super::Output;
use super::{Failure, Place};

#[derive(Debug, Args)]
pub(super) struct Render {
    /// A driver's name, or its directory.
    driver: String,
    /// The context, written like the samples in a driver's tests.
    #[arg(long, value_name = "FILE")]
    context: PathBuf,
    /// Write the files below this folder, which must not exist or be empty.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// A driver's name, or its directory.
    driver: String,
    /// Write the files below this folder, which must not exist or be empty.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    place: Place,
}

impl Render {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let driver = self.place.driver(&self.driver)?;
        let text = std::fs::read_to_string(&self.context)
            .map_err(|e| format!("{}: {e}", self.context.display()))?;
        let sample = Sample::parse(&text).map_err(|(line, reason)| {
            let line = line.map_or_else(String::new, |line| format!(":{line}"));
            format!("{}{line}: {reason}", self.context.display())
        })?;
        let rendered = lint::render(&driver, &sample.plan(&driver)).map_err(|e| e.to_string())?;
        match &self.out {
            Some(out) => {
                let files = rendered.files.iter();
                write(out, files.map(|(path, f)| (path.as_str(), f.mode, f.content.as_slice())))?;
            }
            None if self.place.output == Output::Text => {
                let stack = rendered.files.get("stack.yaml");
                let stack = stack.map(|f| String::from_utf8_lossy(&f.content)).unwrap_or_default();
                super::super::say(&stack);
                return Ok(ExitCode::SUCCESS);
            }
            None => {}
        }
        match self.place.output {
            Output::Json => {
                let files = rendered.files.iter().map(|(path, file)| {
                    let text = String::from_utf8_lossy(&file.content);
                    (path.clone(), json!({"mode": format!("{:04o}", file.mode), "text": text}))
                });
                let files: serde_json::Map<String, Value> = files.collect();
                say!(
                    "{}",
                    json!({
                        "driver": driver.name(),
                        "resources": rendered.census.resources(),
                        "stack_bytes": rendered.census.bytes,
                        "user_data_bytes": rendered.user_data_bytes,
                        "files": files,
                    })
                );
            }
            Output::Text => say!(
                "{} files, {} resources, stack {} bytes, user data {} bytes",
                rendered.files.len(),
                rendered.census.resources(),
                rendered.census.bytes,
                rendered.user_data_bytes
            ),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Export {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let driver = self.place.driver(&self.driver)?;
        let directory = driver.directory();
        let files = directory.all().map(|(path, text)| (path, 0o644, text.as_bytes()));
        let count = write(&self.out, files)?;
        match self.place.output {
            Output::Json => say!(
                "{}",
                json!({"driver": driver.name(), "digest": directory.digest(), "files": count})
            ),
            Output::Text => say!(
                "{}: {count} files in {}. Give it a name of its own in driver.yaml, or \
                 replaces: {0}, before you put it into [drivers] dir.",
                driver.name(),
                self.out.display()
            ),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes files by their path, mode and content below a folder: how many.
fn write<'f>(
    out: &Path,
    files: impl Iterator<Item = (&'f str, u32, &'f [u8])>,
) -> Result<usize, Failure> {
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    let is_empty = |path: &Path| std::fs::read_dir(path).map(|mut d| d.next().is_none());
    if out.exists() && !is_empty(out).map_err(|e| failed(out, e))? {
        return Err(format!("{}: is there and not empty; choose another folder", out.display()));
    }
    let mut count = 0;
    for (path, mode, content) in files {
        let path = out.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let mut opened = options.open(&path).map_err(|e| failed(&path, e))?;
        std::io::Write::write_all(&mut opened, content).map_err(|e| failed(&path, e))?;
        count += 1;
    }
    Ok(count)
}
