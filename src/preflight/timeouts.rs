//! Is the creation given the time that earlier ones took?

use std::time::Duration;

use super::records::State;
use super::{Judgement, Look, Scene};

pub async fn check(scene: &Scene) -> Look {
    let earlier = match &scene.state {
        State::Seen { outline, .. } => outline.creations.as_slice(),
        State::New => &[],
        State::Unseen(why) => {
            let cure = "run this as the user that magnumd runs as";
            return Err(Judgement::unseen(why, cure));
        }
    };
    Ok(judge(earlier.to_vec(), scene.create_timeout()))
}

fn judge(mut earlier: Vec<Duration>, timeout: Duration) -> Judgement {
    earlier.sort_unstable();
    let minutes = timeout.as_secs() / 60;
    let Some(median) = earlier.get(earlier.len() / 2) else {
        return Judgement::ok(format!("a creation may take {minutes} min; there was none yet"));
    };
    let took = median.as_secs().div_ceil(60);
    match timeout >= 2 * *median {
        true => Judgement::ok(format!(
            "a creation may take {minutes} min, and earlier ones took {took} at the median"
        )),
        false => Judgement::warn(
            format!(
                "a creation may take {minutes} min, but earlier ones took {took} at the median: \
                 less than twice that is too little"
            ),
            format!("ask with --timeout {}, or raise cluster.create_timeout_mins", 2 * took),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn twice_the_median_is_enough() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let earlier = vec![minutes(50), minutes(10), minutes(20)];
        assert_eq!(judge(earlier.clone(), minutes(40)).verdict, Verdict::Ok);
        let short = judge(earlier, minutes(30));
        assert_eq!(short.verdict, Verdict::Warn);
        assert!(short.sentence.contains("earlier ones took 20 at the median"));
        assert!(short.cure.unwrap().contains("--timeout 40"));
        assert_eq!(judge(Vec::new(), minutes(1)).verdict, Verdict::Ok);
    }
}
