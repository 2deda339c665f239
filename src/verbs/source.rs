//! Where a verb's configuration comes from: arguments that several verbs share.

use std::path::PathBuf;

use clap::Args;
use magnumd::config::{Config, ConfigError, DEFAULT_FILE, Layers, Loaded};

#[derive(Debug, Args)]
pub struct Source {
    /// The configuration; a name that ends with .conf is read as Magnum's own magnum.conf
    /// [default: /etc/magnumd/magnumd.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One option, over the environment (MAGNUMD_API_LISTEN and the like) and the file. May be
    /// repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err("must be KEY=VALUE, such as api.listen=127.0.0.1:9511".to_owned()),
    }
}

impl Source {
    pub fn layers(&self) -> Layers {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            // Names of ours are text; what is not text is another's.
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Layers {
            file: self.config.clone(),
            environment: std::env::vars_os().filter_map(text).collect(),
            flags: self.set.clone(),
        }
    }

    /// All of it, for a verb that needs nothing but the values. What was given and is not used
    /// is said on standard error.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let Loaded { config, warnings, .. } = self.layers().load()?;
        warnings.iter().for_each(|warning| super::complain(warning));
        Ok(config)
    }

    /// For messages.
    pub fn path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE))
    }
}
