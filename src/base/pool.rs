//! Threads for what computes or reads for long, so that whoever answers others does not: few, of
//! lower priority, and taken in turns.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tracing::debug;

use super::party::Party;
use super::turns::Turns;

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads, which end with its last clone.
#[derive(Clone)]
pub struct Pool {
    jobs: Sender<Job>,
    turns: Turns<Party>,
}

/// The work has panicked, or the threads have ended.
#[derive(Debug, thiserror::Error)]
#[error("the thread that worked on it has fallen")]
pub struct Fallen;

impl Pool {
    /// Starts `threads` threads, each `niceness` nicer than the process.
    pub fn start(name: &str, threads: usize, niceness: i32) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads {
            let waiting = Arc::clone(&waiting);
            spawn(name, niceness, move || serve(&waiting))?;
        }
        Ok(Self { jobs, turns: Turns::new(threads, threads) })
    }

    /// Has one of the threads do it when the party of the running task has its turn. Whoever
    /// stops waiting before that leaves it undone.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fallen> {
        let place = self.turns.take(Party::current()).await;
        let (told, done) = oneshot::channel();
        let job = move || {
            // Given up with the work, not with the waiting: there are no more jobs than threads.
            let _place = place;
            if !told.is_closed()
                && let Ok(done) = catch_unwind(AssertUnwindSafe(work))
            {
                let _unheard = told.send(done);
            }
        };
        self.jobs.send(Box::new(job)).map_err(|_| Fallen)?;
        done.await.map_err(|_| Fallen)
    }
}

/// Starts a thread of lower priority.
pub fn spawn(
    name: &str,
    niceness: i32,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // On Linux niceness belongs to the thread, whatever POSIX says of processes.
        if let Err(error) = rustix::process::nice(niceness) {
            debug!(%error, "a thread works at ordinary priority");
        }
        work();
    });
    started.map(drop)
}

fn serve(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_thread_outlives_work_that_panics_and_serves_the_parties_in_turns() {
        let pool = Pool::start("test", 1, 0).unwrap();
        assert!(pool.run(|| panic!("a fault")).await.is_err());
        let order = Arc::new(Mutex::new(Vec::new()));
        let (go, wait) = channel::<()>();
        let first = pool.run(move || wait.recv().is_ok());
        let work = |name: &'static str| {
            let order = Arc::clone(&order);
            pool.run(move || order.lock().unwrap().push(name))
        };
        let party = |name: &str| Party::Project(name.into());
        let all = async {
            tokio::join!(
                party("a").scope(work("a1")),
                party("a").scope(work("a2")),
                party("a").scope(work("a3")),
                party("b").scope(work("b1")),
                async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    go.send(()).unwrap();
                },
            )
        };
        let (held, _) = tokio::join!(first, all);
        assert!(held.unwrap());
        assert_eq!(*order.lock().unwrap(), ["a1", "b1", "a2", "a3"]);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_left_undone() {
        let pool = Pool::start("test", 1, 0).unwrap();
        let (go, wait) = channel::<()>();
        let busy = tokio::spawn({
            let pool = pool.clone();
            async move { pool.run(move || wait.recv().is_ok()).await }
        });
        tokio::task::yield_now().await;
        let soon = Duration::from_millis(20);
        let given_up = tokio::time::timeout(soon, pool.run(|| unreachable!("nobody waits"))).await;
        assert!(given_up.is_err());
        go.send(()).unwrap();
        assert!(busy.await.unwrap().unwrap());
        assert_eq!(pool.run(|| 7).await.unwrap(), 7);
    }
}
