//! Is it the same time here and at Keystone?

use std::time::Duration;

use super::{Judgement, Look, Scene};
use crate::base::clock::Timestamp;

/// A date has whole seconds, and certificates are back-dated by more than this.
const NOTICED: Duration = Duration::from_secs(5);
/// Tokens and certificates become unusable.
const HARMFUL: Duration = Duration::from_secs(60);

pub async fn check(scene: &Scene) -> Look {
    let before = scene.clock.now();
    let (before, theirs) = match scene.cloud.time_of_keystone().await? {
        Some(theirs) => (before, theirs),
        // Some servers date no answers, but every token is dated.
        None => (scene.clock.now(), scene.cloud.keystone().time().await?),
    };
    Ok(judge(before, scene.clock.now(), theirs))
}

/// Their date was true at some moment between ours before and after the call.
fn judge(before: Timestamp, after: Timestamp, theirs: Timestamp) -> Judgement {
    let second = Duration::from_secs(1);
    let (ahead, behind) = (theirs.since(after), before.since(theirs.plus(second)));
    let skew = ahead.max(behind);
    let way = if ahead > behind { "behind" } else { "ahead of" };
    let sentence = format!("this machine's clock is {} s {way} Keystone's", skew.as_secs());
    let cure = "run chrony or another time service on every machine of the cloud, and here";
    match skew {
        skew if skew >= HARMFUL => Judgement::fail(sentence, cure),
        skew if skew >= NOTICED => Judgement::warn(sentence, cure),
        _ => Judgement::ok("this machine's clock agrees with Keystone's"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn seconds_are_noticed_and_minutes_harm() {
        let now = Timestamp::parse("2026-11-24T15:00:00Z").unwrap();
        let later = |seconds| now.plus(Duration::from_secs(seconds));
        assert_eq!(judge(now, later(1), now).verdict, Verdict::Ok);
        let behind = judge(now, now, later(90));
        assert_eq!(behind.verdict, Verdict::Fail);
        assert_eq!(behind.sentence, "this machine's clock is 90 s behind Keystone's");
        let ahead = judge(later(11), later(11), now);
        assert_eq!(ahead.sentence, "this machine's clock is 10 s ahead of Keystone's");
        assert_eq!(ahead.verdict, Verdict::Warn);
    }
}
