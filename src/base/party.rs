//! For whom a task works: what is shared is then taken in turns.

use std::sync::Arc;

use uuid::Uuid;

/// Who waits for what is shared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Party {
    /// magnumd itself, and callers who are nobody yet.
    #[default]
    Own,
    /// A project: its requests, and the operations on its clusters.
    Project(Arc<str>),
    /// The nodes of a cluster, by its UUID.
    Guests(Uuid),
}

tokio::task_local! {
    static PARTY: Party;
}

impl Party {
    /// Whoever the running task works for.
    pub fn current() -> Self {
        PARTY.try_with(Self::clone).unwrap_or_default()
    }

    /// Has `work` done for this party. What it spawns is magnumd's own again.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        PARTY.scope(self, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_knows_for_whom_it_works() {
        let party = Party::Project("p1".into());
        let within = party.clone().scope(async { Party::current() }).await;
        assert_eq!((within, Party::current()), (party, Party::Own));
    }
}
