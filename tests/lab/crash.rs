//! Stopped at each durable point in turn and restarted: the same end, nothing twice, nothing
//! left behind. The points are counted, not listed: a new step is covered the day it is written.

use std::time::{Duration, Instant};

use magnumd::base::points::Points;
use tokio::task::JoinSet;

use crate::harness::{Lab, ONE_CLUSTER, PATIENCE};

/// Labs that run side by side.
const LANES: usize = 4;

/// Runs `work` for 0..count, a few at a time.
pub async fn in_turns<F>(count: u64, work: impl Fn(u64) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in 0..count {
        if running.len() >= LANES {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(work(number));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// Waits until the conductor has been stopped.
pub async fn stopped(points: &Points) {
    let began = Instant::now();
    while !points.has_stopped() {
        assert!(began.elapsed() < PATIENCE, "never reached point {}", points.passed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How many points a creation, or the deletion after it, passes.
async fn count(deleting: bool) -> u64 {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    let creating = if deleting { Points::none() } else { Points::counting() };
    let daemon = lab.daemon_with(creating.clone()).await;
    let uuid = daemon.create(&token, "k1").await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    daemon.end().await;
    if !deleting {
        return creating.passed();
    }
    let points = Points::counting();
    let daemon = lab.daemon_with(points.clone()).await;
    daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
    daemon.gone(&token, &uuid).await;
    daemon.end().await;
    points.passed()
}

#[tokio::test(flavor = "multi_thread")]
async fn create_survives_a_stop_anywhere() {
    let points = count(false).await;
    assert!(points >= 14, "every step commits and some act: {points}");
    in_turns(points, |stop| async move {
        let lab = Lab::new().await;
        let token = lab.token("demo").await;
        let halt = Points::stopping_after(stop);
        let daemon = lab.daemon_with(halt.clone()).await;
        let uuid = daemon.create(&token, "k1").await;
        stopped(&halt).await;
        daemon.end().await;

        let daemon = lab.daemon().await;
        let cluster = daemon.settled(&token, &uuid).await;
        assert_eq!(cluster["status"], "CREATE_COMPLETE", "stopped at {stop}: {cluster}");
        for (kind, count) in ONE_CLUSTER {
            assert_eq!(lab.cloud.count(kind), count, "{kind}, stopped at {stop}");
        }
        daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
        daemon.gone(&token, &uuid).await;
        assert_eq!(lab.cloud.leftovers(), Vec::<String>::new(), "stopped at {stop}");
        daemon.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_survives_a_stop_anywhere() {
    let points = count(true).await;
    assert!(points >= 10, "every step commits and some act: {points}");
    in_turns(points, |stop| async move {
        let lab = Lab::new().await;
        let token = lab.token("demo").await;
        let daemon = lab.daemon().await;
        let uuid = daemon.create(&token, "k1").await;
        assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
        daemon.end().await;

        let halt = Points::stopping_after(stop);
        let daemon = lab.daemon_with(halt.clone()).await;
        daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
        stopped(&halt).await;
        daemon.end().await;

        let daemon = lab.daemon().await;
        daemon.gone(&token, &uuid).await;
        assert_eq!(lab.cloud.leftovers(), Vec::<String>::new(), "stopped at {stop}");
        daemon.end().await;
    })
    .await;
}

/// The owner changes their mind while the creation stands at any point.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_overtakes_a_creation_anywhere() {
    let points = count(false).await;
    in_turns(points, |stop| async move {
        let lab = Lab::new().await;
        let token = lab.token("demo").await;
        let halt = Points::stopping_after(stop);
        let daemon = lab.daemon_with(halt.clone()).await;
        let uuid = daemon.create(&token, "k1").await;
        stopped(&halt).await;
        daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
        daemon.end().await;

        let daemon = lab.daemon().await;
        daemon.gone(&token, &uuid).await;
        assert_eq!(lab.cloud.leftovers(), Vec::<String>::new(), "stopped at {stop}");
        daemon.end().await;
    })
    .await;
}
