//! One target's time, its cases and what they came to.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::wire::{Answer, Sent};

/// Panics by the name of their thread: a target's daemon runs on threads that are named after
/// the target. The panic of a task ends nothing but the task, so they are noticed here.
static PANICS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Cases after which an answer that never came does not come.
const ENOUGH: u64 = 10_000;

fn panics() -> MutexGuard<'static, BTreeMap<String, String>> {
    PANICS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch_panics() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            panics().insert(thread, panic.to_string());
            before(panic);
        }));
    });
}

/// Runs a target on threads of its own, until its time is over and it has had every answer that
/// is `wanted`.
pub fn target<F: Future<Output = ()>>(
    name: &'static str,
    wanted: &'static [u16],
    work: impl FnOnce(Run) -> F,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work(Run::begin(name, wanted)));
    runtime.shutdown_timeout(Duration::from_secs(5));
}

/// A target at work.
pub struct Run {
    name: &'static str,
    first: u64,
    cases: u64,
    until: Instant,
    wanted: &'static [u16],
    /// How often each status came.
    statuses: BTreeMap<u16, u64>,
}

impl Run {
    pub fn begin(name: &'static str, wanted: &'static [u16]) -> Self {
        watch_panics();
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
        let seconds = number("MAGNUMD_FUZZ_SECONDS").unwrap_or(1);
        // Other cases every day, unless somebody wants one again.
        let first = number("MAGNUMD_FUZZ_SEED").unwrap_or_else(|| {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap();
            now.as_micros() as u64
        });
        Self {
            name,
            first,
            cases: 0,
            until: Instant::now() + Duration::from_secs(seconds),
            wanted,
            statuses: BTreeMap::new(),
        }
    }

    /// The dice of the next case, while there is time. A short run goes on until it has seen every
    /// answer that is wanted, for the dice may be slow to bring a rare one; not for ever.
    pub fn next(&mut self) -> Option<(u64, Dice)> {
        let unlucky = self.cases < ENOUGH && !self.missing().is_empty();
        let goes_on = Instant::now() < self.until || self.cases < 100 || unlucky;
        goes_on.then(|| {
            self.cases += 1;
            let seed = self.first.wrapping_add(self.cases - 1);
            (self.cases - 1, Dice::new(seed))
        })
    }

    /// The answers that are wanted and never came.
    fn missing(&self) -> Vec<u16> {
        self.wanted.iter().filter(|status| !self.statuses.contains_key(status)).copied().collect()
    }

    /// Fails with all that is needed to see it again.
    pub fn fail(&self, input: &str, why: &str) -> ! {
        let seed = self.first.wrapping_add(self.cases - 1);
        panic!(
            "{}: {why}\nagain with MAGNUMD_FUZZ_SEED={seed} (case {} of this run)\n{input}",
            self.name, self.cases
        );
    }

    /// What must hold of every answer.
    pub fn check(&mut self, sent: &Sent, answer: &Result<Answer, String>) -> Option<Answer> {
        // The writer and the key_generator have threads of their own.
        let panicked =
            [self.name, "store-writer", "key-key_generator"].map(|t| panics().get(t).cloned());
        if let Some(said) = panicked.into_iter().flatten().next() {
            self.fail(&shown(sent), &format!("a panic: {said}"));
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => self.fail(&shown(sent), why),
        };
        *self.statuses.entry(answer.status).or_default() += 1;
        if answer.status >= 500 && answer.status != 503 {
            self.fail(&shown(sent), &format!("answered {}", text(answer)));
        }
        let needs_json = answer.status >= 400 && sent.method != "HEAD" && !answer.is_not_ours();
        if needs_json && !answer.json().is_some_and(|body| body.is_object()) {
            self.fail(&shown(sent), &format!("an error without JSON: {}", text(answer)));
        }
        Some(answer.clone())
    }

    /// Says how far it came, and fails if it never got where it should.
    pub fn end(self) {
        let Self { name, cases, statuses, .. } = &self;
        eprintln!("{name}: {cases} cases, answers by status {statuses:?}");
        let missing = self.missing();
        assert!(missing.is_empty(), "{name} never came to {missing:?}: {statuses:?}");
    }
}

fn text(answer: &Answer) -> String {
    let body: String = String::from_utf8_lossy(&answer.body).chars().take(2000).collect();
    format!("{} {body}", answer.status)
}

/// A request as it can be read and sent again.
fn shown(sent: &Sent) -> String {
    let mut text = format!("{} {}\n", sent.method, sent.path.escape_debug());
    for (name, value) in &sent.headers {
        if *name != "x-auth-token" && *name != "authorization" {
            text += &format!("{name}: {}\n", value.escape_ascii());
        }
    }
    let body = String::from_utf8_lossy(&sent.body);
    match body.chars().count() {
        0..=20_000 => text + "\n" + &body,
        long => {
            let cut: String = body.chars().take(2000).collect();
            format!("{text}\n{cut}… ({long} characters)")
        }
    }
}
