//! A judgement: how bad it is, in one sentence, and what cures it.

use crate::openstack::{CloudError, Service};

/// How a check came out, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Verdict {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    pub sentence: String,
    /// What to do about it; nothing when all is well.
    pub cure: Option<String>,
}

impl Judgement {
    pub fn ok(sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, sentence: sentence.into(), cure: None }
    }

    pub fn warn(sentence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, sentence: sentence.into(), cure: Some(cure.into()) }
    }

    pub fn fail(sentence: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, sentence: sentence.into(), cure: Some(cure.into()) }
    }

    /// Nothing was seen, so nothing is said to be well.
    pub fn unseen(why: impl std::fmt::Display, cure: impl Into<String>) -> Self {
        Self::warn(format!("not looked at, because {why}"), cure)
    }

    /// The worst of several, with the sentences of all that are as bad.
    pub fn worst(several: Vec<Self>) -> Self {
        let verdict = several.iter().map(|j| j.verdict).max().unwrap_or(Verdict::Ok);
        let worst: Vec<Self> = several.into_iter().filter(|j| j.verdict == verdict).collect();
        let sentences: Vec<&str> = worst.iter().map(|j| j.sentence.as_str()).collect();
        let mut cures: Vec<&str> = worst.iter().filter_map(|j| j.cure.as_deref()).collect();
        cures.dedup();
        let cure = (!cures.is_empty()).then(|| cures.join("; "));
        Self { verdict, sentence: sentences.join("; "), cure }
    }
}

/// A service that did not answer as a check needed it.
impl From<CloudError> for Judgement {
    fn from(error: CloudError) -> Self {
        let service = match &error {
            CloudError::Missing { service, .. }
            | CloudError::Refused { service, .. }
            | CloudError::Unknown { service, .. }
            | CloudError::Busy { service, .. }
            | CloudError::Unclear { service, .. } => *service,
        };
        match &error {
            CloudError::Unclear { .. } => Self::unseen(error, "see the line catalogue"),
            // Its own lines say what is wrong there; the others only could not see.
            _ if service == Service::Keystone => Self::unseen(error, "see the line keystone"),
            CloudError::Refused { status: 401 | 403, .. } => Self::unseen(
                error,
                "give the service account the role admin in its project, or set OS_CLOUD to a \
                 tenant's credentials",
            ),
            CloudError::Refused { status: 0, .. } => Self::fail(
                error.to_string(),
                "look at: openstack catalog list; then set region and interface in \
                 [clients.default], or add the endpoint",
            ),
            _ => Self::fail(
                error.to_string(),
                format!("see that {service} runs and answers where the catalogue says"),
            ),
        }
    }
}

/// `1 server`, `2 servers`.
pub fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_speaks_for_all() {
        let both = Judgement::worst(vec![
            Judgement::ok("fine"),
            Judgement::fail("no ports", "raise the quota"),
            Judgement::fail("no cores", "raise the quota"),
            Judgement::warn("hm", "well"),
        ]);
        assert_eq!(both, Judgement::fail("no ports; no cores", "raise the quota"));
        assert_eq!(Judgement::worst(vec![Judgement::ok("a")]), Judgement::ok("a"));
    }

    #[test]
    fn a_service_in_the_way() {
        let of = |service, status| {
            Judgement::from(CloudError::Refused { service, status, reason: "no".to_owned() })
        };
        assert_eq!(of(Service::Keystone, 401).verdict, Verdict::Warn);
        let forbidden = of(Service::Nova, 403);
        assert!(forbidden.sentence.starts_with("not looked at, because Nova refused"));
        assert_eq!(of(Service::Nova, 0).verdict, Verdict::Fail);
    }
}
