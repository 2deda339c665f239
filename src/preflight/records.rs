//! What the state tells, through the magnumd that has it open or from its file.

use std::path::Path;
use std::time::Duration;

use crate::base::secret::Sealer;
use crate::config::Config;
use crate::ops::control::Client;
use crate::store::Store;
use crate::store::restore::STATE;
use crate::store::summary::Outline;

/// How long a running magnumd may take to tell.
const TELLING: Duration = Duration::from_secs(4);

/// The state, as far as it may be looked at.
pub enum State {
    /// There is none yet.
    New,
    Seen {
        outline: Outline,
        /// Whose records these are, for sentences.
        of: &'static str,
    },
    /// It does not open, or whoever holds it does not tell; why.
    Unseen(String),
}

impl State {
    pub async fn look(config: &Config) -> Self {
        match tokio::time::timeout(TELLING, ask(&config.storage.path)).await {
            Ok(Ok(Some(outline))) => Self::Seen { outline, of: "the running magnumd" },
            Ok(Ok(None)) => Self::read(config),
            Ok(Err(why)) => Self::Unseen(why),
            Err(_) => Self::Unseen(format!("the running magnumd told nothing for {TELLING:?}")),
        }
    }

    /// Lets go of the file at once: a daemon may want to start.
    fn read(config: &Config) -> Self {
        let directory = &config.storage.path;
        let file = directory.join(STATE);
        if !file.exists() {
            return Self::New;
        }
        let own = config.storage.sealing_key_file.clone();
        let key = own.unwrap_or_else(|| directory.join("sealing.key"));
        let bytes = match std::fs::read(&key) {
            Ok(bytes) => zeroize::Zeroizing::new(bytes),
            Err(e) => return Self::Unseen(format!("{}: {e}", key.display())),
        };
        let Ok(bytes) = <&[u8; Sealer::KEY_BYTES]>::try_from(bytes.as_slice()) else {
            return Self::Unseen(format!("{} is not a sealing key", key.display()));
        };
        match Store::open(&file, Sealer::new(bytes)) {
            Ok(store) => match store.outline() {
                Ok(outline) => Self::Seen { outline, of: "the state" },
                Err(e) => Self::Unseen(e.to_string()),
            },
            Err(e) => Self::Unseen(e.to_string()),
        }
    }
}

/// None when no magnumd has the state open.
async fn ask(directory: &Path) -> Result<Option<Outline>, String> {
    let client = Client::connect(directory).await.map_err(|e| e.to_string())?;
    let Some(mut client) = client else { return Ok(None) };
    client.get("/outline").await.map(Some).map_err(|e| e.to_string())
}
