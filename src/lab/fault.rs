//! What goes wrong on purpose.
//!
//! A fault is written as one line, `SERVICE:METHOD:PATH:WHAT`, so that it can be given on a
//! command line. `*` stands for anything inside METHOD and PATH; PATH has no version and no
//! project in front (`/stacks`, `/servers/*`). WHAT is one or more of
//!
//! - `status=500` the service answers this and does nothing,
//! - `drop` the connection breaks without an answer,
//! - `truncate` half of the answer's body arrives,
//! - `error=SENTENCE` the server is made and then fails (`nova:POST:/servers`), or Nova takes a
//!   resize and gives it up (`nova:POST:/servers/*/action`),
//! - `late=60s` no answer, and the call is carried out after this time, when the client may have
//!   gone on to others; `late` alone: when the faults are cleared,
//! - `delay=60s` first wait, by the wall's clock as the client's deadlines do,
//! - `after` perform the call first, then go wrong,
//! - `times=2` only twice, `after=3` only from the fourth such call on.
//!
//! `guest:NAME:PHASE:fail=SENTENCE`, `guest:NAME:PHASE:hang` and `guest:NAME:PHASE:delay=60s` (by
//! the lab's own clock) concern a booting node. What
//! befalls a running one lasts until the faults are cleared: `guest:NAME:api:dead` (a master's
//! API server accepts connections and never answers), `guest:NAME:api:refuse` (nobody listens),
//! `guest:NAME:api:forge` (its certificate is of another authority), `guest:NAME:node:not-ready`
//! and `guest:NAME:node:unknown` (what the API says of the node).

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

/// The parts of the cloud that can fail.
const SERVICES: &[&str] = &["keystone", "heat", "nova", "neutron", "glance", "octavia"];
const METHODS: &[&str] = &["*", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
const PHASES: &[&str] = &[
    "*",
    "booted",
    "network",
    "runtime",
    "certs",
    "etcd",
    "control-plane",
    "addons",
    "ready",
    "drain",
    "trust-authorities",
    "issue-leaves",
    "drop-authorities",
    "renew-credentials",
    "rejoin",
];
/// Longer waits than this are a slip of the pen.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);

/// One thing that goes wrong, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    place: Place,
    /// How often; None is always.
    times: Option<u32>,
    /// How many matching calls pass unharmed first.
    skip: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Call {
        service: String,
        method: String,
        path: String,
        harm: Harm,
    },
    Guest {
        name: String,
        phase: String,
        harm: GuestHarm,
    },
    Api {
        name: String,
        harm: ApiHarm,
    },
    /// What the API says of the node's readiness.
    Kubelet {
        name: String,
        condition: &'static str,
    },
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Harm {
    pub delay: Option<Duration>,
    /// The call is carried out before it goes wrong.
    pub performed: bool,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing but the delay.
    Normal,
    Status(u16),
    Drop,
    /// No answer; carried out after this time, or when the faults are cleared.
    Late(Option<Duration>),
    Truncate,
    /// The thing is made and then ends in error with this sentence.
    Error(String),
}

/// What happens to a node while it boots or does a duty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GuestHarm {
    Fail(String),
    Hang,
    /// It goes on after this time.
    Delay(Duration),
}

/// What happens to a master's API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiHarm {
    Dead,
    Refuse,
    Forge,
}

const API_HARMS: [(&str, ApiHarm); 3] =
    [("dead", ApiHarm::Dead), ("refuse", ApiHarm::Refuse), ("forge", ApiHarm::Forge)];
/// A word for each status of the condition `Ready` that is not `True`.
const CONDITIONS: [(&str, &str); 2] = [("not-ready", "False"), ("unknown", "Unknown")];

/// Why a line is not a fault; the sentence names the part and what is possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FaultError(String);

fn wrong<T>(sentence: String) -> Result<T, FaultError> {
    Err(FaultError(sentence))
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(line: &str) -> Result<Self, FaultError> {
        let (head, rest) = line.split_once(':').unwrap_or((line, ""));
        let (line, times, skip) = counts(line)?;
        if head == "guest" {
            let rest = line.get(head.len() + 1..).unwrap_or_default();
            let place = guest(rest)?;
            let lasts = matches!(place, Place::Api { .. } | Place::Kubelet { .. });
            if lasts && (times.is_some() || skip > 0) {
                return wrong(format!(
                    "fault: 'guest:{rest}' lasts until the faults are cleared; leave out times= \
                     and after="
                ));
            }
            return Ok(Self { place, times, skip });
        }
        if !SERVICES.contains(&head) && head != "*" {
            return wrong(format!(
                "fault: '{head}' is not a service of the lab; use one of {}, * or guest",
                SERVICES.join(", ")
            ));
        }
        let mut parts = line.splitn(4, ':').skip(1);
        let (Some(method), Some(path), Some(what)) = (parts.next(), parts.next(), parts.next())
        else {
            return wrong(format!(
                "fault: '{rest}' is incomplete; write {head}:METHOD:PATH:WHAT, \
                 such as {head}:POST:/stacks:status=500"
            ));
        };
        let method = method.to_ascii_uppercase();
        if !METHODS.contains(&method.as_str()) {
            return wrong(format!("fault: '{method}' is not a method; use {}", METHODS.join(", ")));
        }
        if path != "*" && !path.starts_with('/') {
            return wrong(format!("fault: the path '{path}' must be * or begin with /"));
        }
        let harm = harm(what)?;
        if matches!(harm.outcome, Outcome::Error(_)) && head != "nova" {
            return wrong(format!("fault: 'error=' concerns servers; write nova, not {head}"));
        }
        let (service, path) = (head.to_owned(), path.to_owned());
        Ok(Self { place: Place::Call { service, method, path, harm }, times, skip })
    }
}

/// Takes `times=` and `after=` off the end of the line.
fn counts(line: &str) -> Result<(&str, Option<u32>, u32), FaultError> {
    let (mut line, mut times, mut skip) = (line, None, 0);
    while let Some((front, last)) = line.rsplit_once(':') {
        let Some((key @ ("times" | "after"), count)) = last.split_once('=') else { break };
        let Ok(count) = count.parse::<u32>() else {
            return wrong(format!("fault: '{last}' needs a whole number, such as {key}=1"));
        };
        match key {
            "times" => times = Some(count),
            _ => skip = count,
        }
        line = front;
    }
    Ok((line, times, skip))
}

fn guest(rest: &str) -> Result<Place, FaultError> {
    let mut parts = rest.splitn(3, ':');
    let (Some(name), Some(phase), Some(what)) = (parts.next(), parts.next(), parts.next()) else {
        return wrong(format!(
            "fault: 'guest:{rest}' is incomplete; write guest:NAME:PHASE:hang \
             or guest:NAME:PHASE:fail=SENTENCE"
        ));
    };
    if name.is_empty() {
        return wrong("fault: a guest's name may not be empty; * is any node".to_owned());
    }
    let running = |words: &[&str]| {
        let words = words.join(", ");
        wrong(format!("fault: '{what}' happens to no guest's {phase}; use {words}"))
    };
    if phase == "api" {
        return match API_HARMS.iter().find(|(word, _)| *word == what) {
            Some((_, harm)) => Ok(Place::Api { name: name.to_owned(), harm: *harm }),
            None => running(&API_HARMS.map(|(word, _)| word)),
        };
    }
    if phase == "node" {
        return match CONDITIONS.iter().find(|(word, _)| *word == what) {
            Some((_, condition)) => Ok(Place::Kubelet { name: name.to_owned(), condition }),
            None => running(&CONDITIONS.map(|(word, _)| word)),
        };
    }
    if !PHASES.contains(&phase) {
        let phases = PHASES.join(", ");
        return wrong(format!("fault: '{phase}' is not a phase; use {phases}, api or node"));
    }
    let harm = match what.split_once('=') {
        None if what == "hang" => GuestHarm::Hang,
        Some(("fail", sentence)) => GuestHarm::Fail(sentence.to_owned()),
        Some(("delay", length)) => GuestHarm::Delay(duration(length)?),
        _ => {
            return wrong(format!(
                "fault: '{what}' happens to no guest; use hang, delay=60s or fail=SENTENCE"
            ));
        }
    };
    Ok(Place::Guest { name: name.to_owned(), phase: phase.to_owned(), harm })
}

fn harm(what: &str) -> Result<Harm, FaultError> {
    let mut harm = Harm { delay: None, performed: false, outcome: Outcome::Normal };
    let mut rest = what;
    while !rest.is_empty() {
        // A sentence may hold colons: it takes all that is left.
        let word = match rest.strip_prefix("error=") {
            Some(_) => rest,
            None => rest.split(':').next().unwrap_or_default(),
        };
        rest = rest.get(word.len() + 1..).unwrap_or_default();
        let outcome = match word.split_once('=') {
            None if word == "after" => {
                harm.performed = true;
                continue;
            }
            Some(("delay", length)) => {
                harm.delay = Some(duration(length)?);
                continue;
            }
            None if word == "drop" => Outcome::Drop,
            None if word == "late" => Outcome::Late(None),
            Some(("late", length)) => Outcome::Late(Some(duration(length)?)),
            None if word == "truncate" => Outcome::Truncate,
            Some(("status", code)) => match code.parse() {
                Ok(code @ 400..=599) => Outcome::Status(code),
                _ => return wrong(format!("fault: 'status={code}' must lie in 400..599")),
            },
            Some(("error", sentence)) => Outcome::Error(sentence.to_owned()),
            _ => {
                return wrong(format!(
                    "fault: '{word}' is unknown; use status=CODE, drop, late, late=60s, truncate, \
                     error=SENTENCE, delay=60s, after, times=N or after=N"
                ));
            }
        };
        if harm.outcome != Outcome::Normal {
            return wrong(format!("fault: '{word}' comes second; a call goes wrong in one way"));
        }
        harm.outcome = outcome;
    }
    if harm.outcome == Outcome::Normal && harm.delay.is_none() {
        return wrong(format!("fault: '{what}' does nothing; add status=500, drop or delay=5s"));
    }
    Ok(harm)
}

fn duration(text: &str) -> Result<Duration, FaultError> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let length = digits.parse::<u64>().ok().and_then(|count| {
        Some(match &text[digits.len()..] {
            "ms" => Duration::from_millis(count),
            "s" => Duration::from_secs(count),
            "m" => Duration::from_secs(count.checked_mul(60)?),
            _ => return None,
        })
    });
    match length {
        Some(length) if length <= LONGEST_DELAY => Ok(length),
        _ => wrong(format!("fault: 'delay={text}' is not a time; write 200ms, 60s or 5m")),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Call { service, method, path, harm } => {
                write!(f, "{service}:{method}:{path}")?;
                if let Some(delay) = harm.delay {
                    write!(f, ":delay={}ms", delay.as_millis())?;
                }
                if harm.performed {
                    f.write_str(":after")?;
                }
                match &harm.outcome {
                    Outcome::Normal => {}
                    Outcome::Status(code) => write!(f, ":status={code}")?,
                    Outcome::Drop => f.write_str(":drop")?,
                    Outcome::Late(None) => f.write_str(":late")?,
                    Outcome::Late(Some(length)) => write!(f, ":late={}ms", length.as_millis())?,
                    Outcome::Truncate => f.write_str(":truncate")?,
                    Outcome::Error(sentence) => write!(f, ":error={sentence}")?,
                }
            }
            Place::Guest { name, phase, harm } => match harm {
                GuestHarm::Fail(sentence) => write!(f, "guest:{name}:{phase}:fail={sentence}")?,
                GuestHarm::Hang => write!(f, "guest:{name}:{phase}:hang")?,
                GuestHarm::Delay(length) => {
                    write!(f, "guest:{name}:{phase}:delay={}ms", length.as_millis())?;
                }
            },
            Place::Api { name, harm } => {
                let word = API_HARMS.iter().find(|(_, h)| h == harm).map_or("", |(word, _)| word);
                write!(f, "guest:{name}:api:{word}")?;
            }
            Place::Kubelet { name, condition } => {
                let word = CONDITIONS.iter().find(|(_, c)| c == condition);
                write!(f, "guest:{name}:node:{}", word.map_or("", |(word, _)| word))?;
            }
        }
        if let Some(times) = self.times {
            write!(f, ":times={times}")?;
        }
        if self.skip > 0 {
            write!(f, ":after={}", self.skip)?;
        }
        Ok(())
    }
}

/// Whether `text` fits `pattern`, in which `*` is any run of characters.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(rest) = text.strip_prefix(pieces.next().unwrap_or_default()) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(end) = pieces.pop() else { return rest.is_empty() };
    let mut rest = rest;
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(end)
}

/// The faults in force, with their counts.
#[derive(Debug, Default)]
pub(super) struct Faults {
    all: Mutex<Vec<Fault>>,
    cleared: watch::Sender<()>,
}

impl Faults {
    pub fn inject(&self, fault: Fault) {
        self.all.lock().expect("no panic while holding faults").push(fault);
    }

    pub fn clear(&self) {
        self.all.lock().expect("no panic while holding faults").clear();
        self.cleared.send_replace(());
    }

    /// Changes when the faults are cleared.
    pub fn cleared(&self) -> watch::Receiver<()> {
        self.cleared.subscribe()
    }

    /// What happens to this call; counts it.
    pub fn of_call(&self, service: &str, method: &str, path: &str) -> Option<Harm> {
        self.find(|place| match place {
            Place::Call { service: s, method: m, path: p, harm }
                if fits(s, service) && fits(m, method) && fits(p, path) =>
            {
                Some(harm.clone())
            }
            _ => None,
        })
    }

    /// What happens to this node in this phase; counts it.
    pub fn of_guest(&self, name: &str, phase: &str) -> Option<GuestHarm> {
        self.find(|place| match place {
            Place::Guest { name: n, phase: p, harm } if fits(n, name) && fits(p, phase) => {
                Some(harm.clone())
            }
            _ => None,
        })
    }

    /// What is wrong with this master's API server.
    pub fn of_api(&self, name: &str) -> Option<ApiHarm> {
        self.find(|place| match place {
            Place::Api { name: n, harm } if fits(n, name) => Some(*harm),
            _ => None,
        })
    }

    /// What the API says of this node's readiness, unless it is `True`.
    pub fn of_kubelet(&self, name: &str) -> Option<&'static str> {
        self.find(|place| match place {
            Place::Kubelet { name: n, condition } if fits(n, name) => Some(*condition),
            _ => None,
        })
    }

    fn find<T>(&self, fits: impl Fn(&Place) -> Option<T>) -> Option<T> {
        let mut faults = self.all.lock().expect("no panic while holding faults");
        for fault in faults.iter_mut() {
            let Some(found) = fits(&fault.place) else { continue };
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            match &mut fault.times {
                None => return Some(found),
                Some(0) => {}
                Some(times) => {
                    *times -= 1;
                    return Some(found);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Fault {
        line.parse().unwrap()
    }

    #[test]
    fn the_lines_people_write_are_understood() {
        for line in [
            "heat:POST:/stacks:status=500",
            "keystone:*:*:delay=60s:times=1",
            "heat:GET:*:truncate",
            "heat:POST:/stacks:after:drop",
            "heat:PATCH:/stacks/*:late=5s:times=1",
            "heat:PATCH:/stacks/*:late",
            "nova:POST:/servers:status=409:after=2:times=1",
            "nova:POST:/servers:error=No valid host was found: none.",
            "guest:*-master-0:etcd:fail=disk: full:times=1",
            "guest:*:ready:hang",
            "guest:*-master-0:api:dead",
            "guest:*:api:refuse",
            "guest:*:api:forge",
            "guest:*-node-1:node:not-ready",
            "guest:*:node:unknown",
        ] {
            let fault = parse(line);
            assert_eq!(parse(&fault.to_string()), fault, "{line}");
        }
    }

    #[test]
    fn a_wrong_line_is_answered_with_a_cure() {
        for (line, part) in [
            ("", "not a service"),
            ("cinder:GET:*:drop", "keystone, heat"),
            ("heat:GET", "incomplete"),
            ("heat:FETCH:*:drop", "not a method"),
            ("heat:GET:stacks:drop", "begin with /"),
            ("heat:GET:*:explode", "'explode' is unknown"),
            ("heat:GET:*:status=200", "400..599"),
            ("heat:GET:*:delay=soon", "60s"),
            ("heat:GET:*:late=soon", "60s"),
            ("heat:GET:*:delay=99999999999999999999m", "60s"),
            ("heat:GET:*:after", "does nothing"),
            ("heat:GET:*:drop:truncate", "one way"),
            ("heat:GET:*:drop:times=often", "whole number"),
            ("heat:POST:*:error=x", "write nova"),
            ("guest:x:lunch:hang", "not a phase"),
            ("guest:x:etcd:sing", "no guest"),
            ("guest:x:api:sing", "dead, refuse, forge"),
            ("guest:x:node:ready", "not-ready, unknown"),
            ("guest:x:api:dead:times=1", "leave out times="),
            ("guest:x:node:unknown:after=2", "leave out times="),
        ] {
            let sentence = line.parse::<Fault>().unwrap_err().to_string();
            assert!(sentence.contains(part), "{line}: {sentence}");
        }
    }

    #[test]
    fn a_fault_spares_the_first_and_ends_after_its_times() {
        let faults = Faults::default();
        faults.inject(parse("heat:POST:/stacks:status=500:after=1:times=2"));
        let struck: Vec<bool> =
            (0..5).map(|_| faults.of_call("heat", "POST", "/stacks").is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert!(faults.of_call("heat", "GET", "/stacks").is_none());
    }

    #[test]
    fn stars_stand_for_anything() {
        assert!(
            fits("*", "") && fits("/stacks/*", "/stacks/a/b") && fits("*-master-*", "x-master-0")
        );
        assert!(!fits("/stacks", "/stacks/a") && !fits("a*b", "ac") && !fits("aa*aa", "aaa"));
    }

    proptest! {
        #[test]
        fn no_line_panics_and_what_parses_prints_and_parses_again(
            line in "(heat|nova|guest|\\*)?:?[A-Z*]{0,4}:?[/a-z*]{0,6}:?((after|drop|late|late=1s|hang|api|node|dead|forge|unknown|delay=[0-9]{1,3}s|status=[0-9]{3}|times=[0-9]|error=.{0,5}|fail=.{0,5}):?){0,3}"
        ) {
            if let Ok(fault) = line.parse::<Fault>() {
                prop_assert_eq!(fault.to_string().parse::<Fault>().unwrap(), fault);
            }
        }

        #[test]
        fn any_text_is_answered(line in ".{0,40}") {
            let _ = line.parse::<Fault>();
        }
    }
}
