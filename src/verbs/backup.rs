//! `magnumd backup`: one moment of the state in one file, while magnumd runs or not.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use magnumd::base::clock::Clock;
use magnumd::store::backup::{Header, Proven, Watched};
use serde_json::json;

use super::Output;
use super::state::{self, Failure, Place, Reader, bytes_passing, megabytes};

#[derive(Debug, Args)]
pub struct Backup {
    /// The file to write.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

impl Backup {
    pub fn run(self) -> ExitCode {
        state::run(self.back_up())
    }

    async fn back_up(self) -> Result<ExitCode, Failure> {
        let began = Instant::now();
        let reader = self.place.reader().await?;
        let draft = Draft::begin(&self.file, self.force)?;
        let bar = bytes_passing("backup");
        let passed = |bytes: usize| bar.inc(bytes as u64);
        let mut out = BufWriter::with_capacity(1 << 18, Watched::new(&draft.file));
        match reader {
            Reader::Daemon(mut client) => client.fetch("/backup", &mut out, &passed).await?,
            Reader::File(store) => {
                store
                    .backup(Clock::real().now(), &mut Counted { out: &mut out, passed: &passed })?;
            }
        }
        let written =
            out.into_inner().map_err(|e| Failure::File(draft.path.clone(), e.into_error()))?;
        let Proven { header, length: bytes, .. } = written.end(&draft.path)?;
        draft.finish(bytes)?;
        bar.finish_and_clear();
        self.report(&header, bytes, began);
        Ok(ExitCode::SUCCESS)
    }

    fn report(&self, header: &Header, bytes: u64, began: Instant) {
        let file = self.file.display();
        let took = began.elapsed().as_millis();
        let Header { clusters, records, key_id, .. } = header;
        match self.place.output {
            Output::Text => say!(
                "{file}: {clusters} clusters, {records} records, {} in {took} ms; its secrets \
                 need the sealing key {key_id}",
                megabytes(bytes)
            ),
            Output::Json => say!(
                "{}",
                json!({"file": file.to_string(), "bytes": bytes, "ms": took, "backup": header})
            ),
        }
    }
}

/// Counts what is written.
struct Counted<'o> {
    out: &'o mut dyn Write,
    passed: &'o dyn Fn(usize),
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        (self.passed)(written);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// The backup until it is whole; then it takes its name, and before that nobody finds it.
struct Draft {
    file: File,
    path: PathBuf,
    target: PathBuf,
    /// Whether the name was taken by us, to be given back if nothing comes of it.
    reserved: bool,
}

impl Draft {
    fn begin(target: &Path, force: bool) -> Result<Self, Failure> {
        let mut own = OpenOptions::new();
        own.write(true).create_new(true).mode(0o600);
        let reserved = match own.open(target) {
            Ok(_) => true,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && !target.is_dir() => {
                if !force {
                    return Err(Failure::Other(format!(
                        "{} is there already; take another name, or give --force to replace it",
                        target.display()
                    )));
                }
                false
            }
            Err(e) => return Err(Failure::File(target.to_owned(), e)),
        };
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(name);
        let opened = own.open(&path).map_err(|e| Failure::File(path.clone(), e));
        match opened {
            Ok(file) => Ok(Self { file, path, target: target.to_owned(), reserved }),
            Err(e) => {
                if reserved {
                    remove(target);
                }
                Err(e)
            }
        }
    }

    /// Puts what was seen to be a backup of so many bytes in place, once the disk has it.
    fn finish(mut self, bytes: u64) -> Result<(), Failure> {
        let io = |e| Failure::File(self.path.clone(), e);
        self.file.sync_all().map_err(io)?;
        let found = self.file.metadata().map_err(io)?.len();
        if found != bytes {
            let sentence = format!("{bytes} bytes were written, but it has {found}");
            return Err(io(std::io::Error::other(sentence)));
        }
        std::fs::rename(&self.path, &self.target).map_err(io)?;
        self.reserved = false;
        let folder = match self.target.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        File::open(folder).and_then(|d| d.sync_all()).map_err(io)?;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        remove(&self.path);
        if self.reserved {
            remove(&self.target);
        }
    }
}

fn remove(path: &Path) {
    if let Err(e) = std::fs::remove_file(path)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        super::complain(&format_args!("{} is left behind: {e}", path.display()));
    }
}
