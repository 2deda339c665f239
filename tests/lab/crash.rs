//! Stopped at each durable point in turn and restarted: the same end, nothing twice, nothing
//! left behind. The points are counted, not listed: a new step is covered the day it is written.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use magnumd::base::fail_points::FailPoints;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::{Lab, ONE_CLUSTER, PATIENCE, Running};

/// Labs that run side by side, beside other tests: more would keep two cores busier than the labs'
/// own clocks allow for.
const LANES: usize = 2;

/// Runs `work` for 0..count, a few at a time.
async fn in_turns<F>(count: u64, work: impl Fn(u64) -> F)
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

/// Waits until the conductor has been stopped, or has come to the end before that: two nodes that
/// report in the same moment are one commit, and a commit that came too late is tried again, so that
/// one run may pass fewer points than another.
async fn stopped_or_over(
    points: &FailPoints,
    daemon: &Running,
    (token, uuid): (&str, &str),
    is_over: impl Fn(StatusCode, &Value) -> bool,
) {
    let began = Instant::now();
    let path = format!("/v1/clusters/{uuid}");
    while !points.has_stopped() {
        let (code, cluster) = daemon.get(token, &path).await;
        if is_over(code, &cluster) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "never reached point {}", points.passed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn is_updated(_: StatusCode, cluster: &Value) -> bool {
    cluster["status"] == "UPDATE_COMPLETE"
}

fn is_created(_: StatusCode, cluster: &Value) -> bool {
    cluster["status"] == "CREATE_COMPLETE"
}

fn is_gone(code: StatusCode, _: &Value) -> bool {
    code == StatusCode::NOT_FOUND
}

/// A cluster that is there, and what a test wants to remember of it.
pub struct Ready {
    pub token: String,
    pub uuid: String,
    pub before: Value,
}

/// A complete cluster, as small as they are.
pub async fn built(lab: &Lab, daemon: &Running) -> Ready {
    let (token, uuid) = lab.built(daemon, "k1").await;
    Ready { token, uuid, before: Value::Null }
}

/// Something that is asked of a cluster that is there.
pub trait Order: Copy + Send + Sync + 'static {
    fn prepare(self, lab: &Lab, daemon: &Running) -> impl Future<Output = Ready> + Send {
        built(lab, daemon)
    }

    fn give(self, daemon: &Running, ready: &Ready) -> impl Future<Output = ()> + Send;

    /// Waits for the end; the cluster then.
    fn end(self, daemon: &Running, ready: &Ready) -> impl Future<Output = Value> + Send {
        daemon.settled(&ready.token, &ready.uuid)
    }

    /// What must be so at the end, wherever it was stopped.
    fn check(
        self,
        lab: &Lab,
        daemon: &Running,
        ready: &Ready,
        cluster: &Value,
    ) -> impl Future<Output = ()> + Send;
}

/// Says where a daemon had been stopped, if the test fails afterwards.
struct Stop(u64);

impl Drop for Stop {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it had been stopped at {}", self.0);
        }
    }
}

/// Stops an order at each of its points in turn and takes it up again; there are at least as many
/// points as `least` says.
pub async fn survives_a_stop_anywhere(order: impl Order, least: u64) {
    let counting = FailPoints::counting();
    let lab = Lab::new().await;
    let daemon = lab.daemon().await;
    let ready = order.prepare(&lab, &daemon).await;
    daemon.end().await;
    let daemon = lab.daemon_with(counting.clone()).await;
    order.give(&daemon, &ready).await;
    assert_eq!(order.end(&daemon, &ready).await["status"], "UPDATE_COMPLETE");
    daemon.end().await;
    let points = counting.passed();
    assert!(points >= least, "{points}");
    in_turns(points, move |stop| async move {
        let lab = Lab::new().await;
        let daemon = lab.daemon().await;
        let ready = order.prepare(&lab, &daemon).await;
        daemon.end().await;
        let halt = FailPoints::stopping_after(stop);
        let daemon = lab.daemon_with(halt.clone()).await;
        order.give(&daemon, &ready).await;
        stopped_or_over(&halt, &daemon, (&ready.token, &ready.uuid), is_updated).await;
        daemon.end().await;

        let _names_it = Stop(stop);
        let daemon = lab.daemon().await;
        let cluster = order.end(&daemon, &ready).await;
        assert_eq!(cluster["status"], "UPDATE_COMPLETE", "{cluster}");
        order.check(&lab, &daemon, &ready, &cluster).await;
        daemon.delete(&ready.token, &format!("/v1/clusters/{}", ready.uuid)).await;
        daemon.gone(&ready.token, &ready.uuid).await;
        assert_eq!(lab.cloud.leftovers(), Vec::<String>::new());
        daemon.end().await;
    })
    .await;
}

/// How many points a creation, or the deletion after it, passes.
async fn count(deleting: bool) -> u64 {
    let lab = Lab::new().await;
    let token = lab.token("demo").await;
    let creating = if deleting { FailPoints::none() } else { FailPoints::counting() };
    let daemon = lab.daemon_with(creating.clone()).await;
    let uuid = daemon.create(&token, "k1").await;
    assert_eq!(daemon.settled(&token, &uuid).await["status"], "CREATE_COMPLETE");
    daemon.end().await;
    if !deleting {
        return creating.passed();
    }
    let points = FailPoints::counting();
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
        let halt = FailPoints::stopping_after(stop);
        let daemon = lab.daemon_with(halt.clone()).await;
        let uuid = daemon.create(&token, "k1").await;
        stopped_or_over(&halt, &daemon, (&token, &uuid), is_created).await;
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

        let halt = FailPoints::stopping_after(stop);
        let daemon = lab.daemon_with(halt.clone()).await;
        daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
        stopped_or_over(&halt, &daemon, (&token, &uuid), is_gone).await;
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
        let halt = FailPoints::stopping_after(stop);
        let daemon = lab.daemon_with(halt.clone()).await;
        let uuid = daemon.create(&token, "k1").await;
        stopped_or_over(&halt, &daemon, (&token, &uuid), is_created).await;
        daemon.delete(&token, &format!("/v1/clusters/{uuid}")).await;
        daemon.end().await;

        let daemon = lab.daemon().await;
        daemon.gone(&token, &uuid).await;
        assert_eq!(lab.cloud.leftovers(), Vec::<String>::new(), "stopped at {stop}");
        daemon.end().await;
    })
    .await;
}
