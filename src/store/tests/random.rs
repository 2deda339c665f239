//! Random damage to a small state: an answer that changes is seen, and no start is silent.
//!
//! `MAGNUMD_DAMAGE_TRIALS` says how often; `tests/run --full` tries 10 000 times. A failure names
//! the trial, and `MAGNUMD_DAMAGE_SEED` repeats it alone.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::whole::{NOW, full};
use super::{Place, cluster};
use crate::base::secret::Sealer;
use crate::model::labels::Labels;
use crate::store::dump::Secrets;
use crate::store::verify::Finding;
use crate::store::{Change, Page, Scope, Store, StoreError, mark};

/// Longer than any trial takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(120);

/// SplitMix64: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }
}

/// A state as it lies on the disk: the file and its mark.
#[derive(Clone)]
struct Image {
    state: Vec<u8>,
    mark: Vec<u8>,
}

impl Image {
    fn of(path: &Path) -> Self {
        let mark = std::fs::read(mark::path_of(path)).unwrap();
        Self { state: std::fs::read(path).unwrap(), mark }
    }

    fn lay_down(&self, path: &Path) {
        std::fs::write(path, &self.state).unwrap();
        std::fs::write(mark::path_of(path), &self.mark).unwrap();
    }
}

/// A byte of a page that has something in it: most of a small state is room to grow.
fn place(image: &[u8], dice: &mut Dice) -> usize {
    const PAGE: usize = 4096;
    loop {
        let start = dice.below(image.len().div_ceil(PAGE)) * PAGE;
        let page = &image[start..image.len().min(start + PAGE)];
        if page.iter().any(|b| *b != 0) {
            return start + dice.below(page.len());
        }
    }
}

/// What is asked of a state, and what it says; errors are answers that nobody takes for others.
type Answers = BTreeMap<&'static str, Option<String>>;

/// What an undamaged state says.
struct Before {
    answers: Answers,
    findings: Vec<Finding>,
}

fn answers(store: &Store) -> Answers {
    fn shown<T: Debug>(answer: Result<T, StoreError>) -> Option<String> {
        answer.ok().map(|found| format!("{found:?}"))
    }
    let (p, q) = (Scope::Project("p"), Scope::Project("q"));
    let each = |scope| {
        let mut names = Vec::new();
        store.read(|v| v.each_cluster(scope, |c| names.push(c.clone())))?;
        let mut nodes = 0;
        store.read(|v| v.each_nodegroup(scope, |g| nodes += g.node_count))?;
        Ok((names, nodes))
    };
    let whole = |view: &crate::store::View| {
        let mut all = Vec::new();
        for cluster in view.clusters(Scope::Everyone, Page::ALL)? {
            let id = cluster.id;
            let rest = (view.operations_of(id)?, view.discovery_of(id)?, view.credential(id)?);
            all.push(format!(
                "{:?}{:?}{:?}{rest:?}",
                view.nodegroups(id)?,
                view.nodes(id)?,
                view.facts(id)?
            ));
        }
        Ok(all)
    };
    let mut export = Vec::new();
    let exported = store.export(Secrets::Plain, NOW, &mut export).map(|_| export);
    BTreeMap::from([
        ("all clusters", shown(store.read(|v| v.clusters(Scope::Everyone, Page::ALL)))),
        ("clusters of p", shown(store.read(|v| v.clusters(p, Page::ALL)))),
        ("clusters of q", shown(store.read(|v| v.clusters(q, Page::ALL)))),
        ("by name", shown(store.read(|v| v.clusters_named("k1", Scope::Everyone)))),
        ("count", shown(store.read(|v| Ok((v.count_clusters(p)?, v.count_clusters(q)?))))),
        ("each of p", shown(each(p))),
        ("each", shown(each(Scope::Everyone))),
        ("templates", shown(store.read(|v| v.templates(Scope::Everyone, Page::ALL)))),
        ("public", shown(store.read(|v| v.templates_for("", Page::ALL)))),
        ("operations", shown(store.read(|v| v.operations()))),
        ("quotas", shown(store.read(|v| v.quotas()))),
        ("keyring", shown(store.read(|v| v.keyring("enrolment")))),
        ("whole", shown(store.read(whole))),
        ("export", shown(exported)),
    ])
}

fn changed(before: &Answers, after: &Answers) -> Vec<&'static str> {
    let differs = |(name, answer): (&&'static str, &Option<String>)| {
        (answer.is_some() && before[*name] != *answer).then_some(*name)
    };
    after.iter().filter_map(differs).collect()
}

/// What was tried and what came of it.
#[derive(Debug, Default)]
struct Tally {
    refused: usize,
    told: usize,
    harmless: usize,
    fell: usize,
}

/// One trial; an error says what was not seen.
fn try_once(
    images: &[Image; 2],
    before: &Before,
    folder: &Path,
    seed: u64,
) -> Result<&'static str, String> {
    let mut dice = Dice(seed);
    let path = folder.join("magnumd.redb");
    let which = dice.below(2);
    let mut image = images[which].clone();
    let length = image.state.len();
    let way = dice.below(8);
    let said = match way {
        0..=3 => {
            let bit = place(&image.state, &mut dice) * 8 + dice.below(8);
            image.state[bit / 8] ^= 1 << (bit % 8);
            format!("bit {bit} turned")
        }
        // Where the database says what is valid.
        4 => {
            let bit = dice.below(320 * 8);
            image.state[bit / 8] ^= 1 << (bit % 8);
            format!("bit {bit} of the header turned")
        }
        5 => {
            let keep = dice.below(length);
            image.state.truncate(keep);
            format!("cut to {keep}")
        }
        6 => {
            let (at, width) = (place(&image.state, &mut dice), 1 + dice.below(600));
            for byte in image.state.iter_mut().skip(at).take(width) {
                *byte = dice.next() as u8;
            }
            format!("{width} bytes at {at} overwritten")
        }
        // While it is open.
        _ => {
            image.lay_down(&path);
            let bit = place(&image.state, &mut dice) * 8 + dice.below(8);
            return while_open(&path, before, bit, which, dice.below(2) == 0);
        }
    };
    image.lay_down(&path);
    let said = format!("image {which}, {said}");
    let Ok(store) = Store::open(&path, Sealer::new(&[1; 32])) else { return Ok("refused") };
    // As the daemon does when it starts.
    let looked = store.look_over();
    let after = answers(&store);
    let changed = changed(&before.answers, &after);
    if !store.damage().is_empty() || looked.is_err() {
        return Ok("told");
    }
    match changed.is_empty() && after.values().all(Option::is_some) {
        true => Ok("harmless"),
        false => Err(format!("{said}: started silently, and other answers: {changed:?}")),
    }
}

/// A bit turns on the disk after the file was found whole.
fn while_open(
    path: &Path,
    before: &Before,
    bit: usize,
    which: usize,
    writes: bool,
) -> Result<&'static str, String> {
    let store = Store::open(path, Sealer::new(&[1; 32])).map_err(|e| e.to_string())?;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let (at, mut byte) = ((bit / 8) as u64, [0]);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], at).unwrap();
    let after = answers(&store);
    let changed = changed(&before.answers, &after);
    if !store.damage().is_empty() || after.values().any(Option::is_none) {
        return Ok("told");
    }
    let verified = store.verify();
    let is_seen = verified.as_ref().map_or(true, |report| report.findings != before.findings);
    if writes {
        let made = cluster(&store, 900, "r", "late");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let written = runtime.block_on(store.commit(Change::new().put(&made)));
        if written.is_err() && store.has_fallen() {
            return Ok("fell");
        }
    }
    match (changed.is_empty(), is_seen) {
        (_, true) => Ok("told"),
        (true, false) => Ok("harmless"),
        (false, false) => {
            Err(format!("image {which}, bit {bit} turned while open: {changed:?} and nobody sees"))
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A state that was closed, and the same state of a process that was killed.
async fn images(place: &Place) -> ([Image; 2], Before) {
    let store = full(place).await;
    for n in 0..24_u32 {
        let project = if n % 3 == 0 { "q" } else { "p" };
        let mut made = cluster(&store, 100 + u128::from(n), project, &format!("cluster-{n}"));
        let labels = (0..n % 7).map(|i| (format!("label_{i}"), "value".repeat(n as usize + 1)));
        made.labels = Labels::from_iter(labels);
        store.commit(Change::new().put(&made)).await.unwrap();
    }
    let before = Before { answers: answers(&store), findings: store.verify().unwrap().findings };
    assert!(before.answers.values().all(Option::is_some));
    let killed = Image::of(&place.path);
    drop(store);
    ([Image::of(&place.path), killed], before)
}

#[tokio::test(flavor = "multi_thread")]
async fn random_damage_changes_no_answer_unseen_and_starts_nothing_silently() {
    let place = Place::new();
    let (images, before) = images(&place).await;
    let one = number("MAGNUMD_DAMAGE_SEED");
    let trials = number("MAGNUMD_DAMAGE_TRIALS").unwrap_or(150);
    let seeds = one.map_or(0..trials, |seed| seed..seed + 1);
    let folder: PathBuf = place.path.parent().unwrap().join("trial");
    std::fs::create_dir(&folder).unwrap();
    let began = std::time::Instant::now();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for seed in seeds {
            let outcome = try_once(&images, &before, &folder, seed);
            if tell.send((seed, outcome)).is_err() {
                return;
            }
        }
    });
    let (mut tally, mut unseen, mut last) = (Tally::default(), Vec::new(), None);
    loop {
        match told.recv_timeout(PATIENCE) {
            Ok((seed, outcome)) => {
                last = Some(seed);
                match outcome {
                    Ok("refused") => tally.refused += 1,
                    Ok("told") => tally.told += 1,
                    Ok("fell") => tally.fell += 1,
                    Ok(_) => tally.harmless += 1,
                    Err(said) => unseen.push(format!("seed {seed}: {said}")),
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the trial after {last:?} has no end"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let tried = tally.refused + tally.told + tally.harmless + tally.fell + unseen.len();
    eprintln!("{tried} trials in {:?}: {tally:?}, unseen {}", began.elapsed(), unseen.len());
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
    assert_eq!(tried as u64, one.map_or(trials, |_| 1), "a trial has panicked after {last:?}");
    assert!(one.is_some() || (tally.refused > trials as usize / 20 && tally.told > 0), "{tally:?}");
}
