//! Do tokens live as long as a creation may take?

use std::time::Duration;

use super::{Judgement, Look, Scene};

pub async fn check(scene: &Scene) -> Look {
    let now = scene.clock.now();
    let left = match scene.guest().await? {
        Some(guest) => guest.session.expires_at.since(now),
        None => scene.cloud.keystone().service().await?.expires_at.since(now),
    };
    Ok(judge(left, scene.create_timeout()))
}

/// We act through trusts of our own, which renew themselves; Heat goes on with the tenant's
/// token, unless it was told to log in again.
fn judge(life: Duration, timeout: Duration) -> Judgement {
    let (life, timeout) = (minutes(life), minutes(timeout));
    match life >= timeout {
        true => {
            Judgement::ok(format!("tokens live {life} min, and a creation may take {timeout} min"))
        }
        false => Judgement::warn(
            format!(
                "tokens live {life} min, but a creation may take {timeout} min: Heat may find its \
                 token expired in the middle"
            ),
            "set expiration in [token] of keystone.conf to more, or reauthentication_auth_method = \
             trusts in heat.conf, or a shorter create_timeout",
        ),
    }
}

/// A token got a moment ago counts whole.
fn minutes(length: Duration) -> u64 {
    (length.as_secs() + 30) / 60
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn an_hour_is_enough_for_an_hour() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert_eq!(judge(minutes(60) - Duration::from_secs(1), minutes(60)).verdict, Verdict::Ok);
        let short = judge(minutes(20), minutes(240));
        assert_eq!(short.verdict, Verdict::Warn);
        assert!(short.sentence.starts_with("tokens live 20 min, but a creation may take 240 min"));
    }
}
