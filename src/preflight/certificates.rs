//! Which clusters' certificates end soon?

use std::collections::BTreeMap;

use super::judgement::count;
use super::records::State;
use super::tls_files::end_of;
use super::{Judgement, Look, Scene};
use crate::base::clock::Timestamp;
use crate::store::summary::Dated;

/// A rotation wants a calm week, and somebody has to notice.
const SOON_DAYS: i64 = 60;

pub async fn check(scene: &Scene) -> Look {
    match &scene.state {
        State::New => Ok(Judgement::ok("there is no cluster yet")),
        State::Seen { outline, .. } => Ok(judge(&outline.certificates, scene.clock.now())),
        State::Unseen(why) => Err(Judgement::unseen(
            why,
            "run this as the user that magnumd runs as; or look at openstack coe ca show",
        )),
    }
}

fn judge(all: &[Dated], now: Timestamp) -> Judgement {
    let mut soonest: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
    for one in all {
        let Some(end) = end_of(&one.pem) else {
            return Judgement::fail(
                format!(
                    "cluster {}: its certificate {} is unreadable",
                    one.cluster,
                    one.kind.as_str()
                ),
                "the state is damaged: restore it from a backup",
            );
        };
        let days = (end.micros() - now.micros()).div_euclid(86_400_000_000);
        let entry = soonest.entry(&one.cluster).or_insert((days, one.kind.as_str()));
        if days < entry.0 {
            *entry = (days, one.kind.as_str());
        }
    }
    let clusters = soonest.len() as u64;
    let mut ending: Vec<(&str, (i64, &str))> =
        soonest.into_iter().filter(|(_, (days, _))| *days < SOON_DAYS).collect();
    ending.sort_by_key(|(_, (days, _))| *days);
    let cure = "openstack coe ca rotate CLUSTER";
    let (Some(first), last) = (ending.first(), ending.len()) else {
        return Judgement::ok(format!(
            "no certificate of {} ends soon",
            count(clusters, "cluster")
        ));
    };
    let (cluster, (days, kind)) = first;
    let others = match last {
        1 => String::new(),
        n => format!(", and {} more", n - 1),
    };
    match *days < 0 {
        true => Judgement::fail(
            format!(
                "certificate {kind} of cluster {cluster} ended {} ago{others}",
                count(days.unsigned_abs(), "day")
            ),
            cure,
        ),
        false => Judgement::warn(
            format!(
                "certificate {kind} of cluster {cluster} ends in {}{others}",
                count(days.unsigned_abs(), "day")
            ),
            cure,
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::id::Entropy;
    use crate::model::certificate::CertificateKind;
    use crate::pki::listener;
    use crate::preflight::Verdict;

    #[test]
    fn the_next_to_end_is_named() {
        let began = Timestamp::parse("2026-01-01T00:00:00Z").unwrap();
        let pem = listener::authority(began, &Entropy::new()).unwrap().pem;
        let dated = |cluster: &str| Dated {
            cluster: cluster.to_owned(),
            kind: CertificateKind::Etcd,
            pem: pem.clone(),
        };
        let all = [dated("k1"), dated("k2")];
        // It lives thirty years of 365 days.
        let after = |days: u64| began.plus(Duration::from_secs(days * 86_400));
        assert_eq!(judge(&all, after(0)), Judgement::ok("no certificate of 2 clusters ends soon"));
        let soon = judge(&all, after(30 * 365 - 10));
        assert_eq!(soon.sentence, "certificate etcd of cluster k1 ends in 10 days, and 1 more");
        let over = judge(&all[..1], after(30 * 365 + 3));
        assert_eq!(over.verdict, Verdict::Fail);
        assert!(over.sentence.ends_with("ended 3 days ago"), "{}", over.sentence);
        let broken = Dated { pem: "no certificate".to_owned(), ..dated("k1") };
        assert!(judge(&[broken], began).sentence.contains("unreadable"));
        assert_eq!(judge(&[], began).verdict, Verdict::Ok);
    }
}
