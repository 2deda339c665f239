//! Row 5. Threat: long lists stand before everybody's other requests. Actor: a hostile member, or an
//! administrator's script, with as many and as large templates as may be. Target: with 200 templates
//! of the largest size and 8 lists at once another tenant's read takes less than 20 ms (p99).
//!
//! Asserted here is what holds at any speed: a quota of templates, pages that end by their bytes, and
//! reads that are answered while lists are made. `MAGNUMD_ATTACK_TEMPLATES` says how many there are;
//! `cargo bench --bench fair lists` measures against the target.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::process::Site;
use crate::records::stop;

const LISTS: usize = 8;
/// What one template may bring, nearly.
const LABEL_BYTES: usize = 63 << 10;
/// Where a page ends, the template with which it does, and what is around each in JSON.
const PAGE_BYTES: usize = (4 << 20) + (256 << 10);

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_lists_stand_before_nobody() {
    let mut site = Site::new().await;
    site.configure("[quota]", "max_templates_per_project = 2");
    let magnumd = Arc::new(site.start(site.command()).await);
    let (admin, alt) = (site.token_of("admin", "admin").await, site.token_of("alt", "alt").await);
    for (name, status) in [("a", 201), ("b", 201), ("c", 403)] {
        let answer = magnumd.add_template(&alt, name, &json!({})).await;
        assert_eq!(answer.status.as_u16(), status, "{:?}", answer.body);
    }
    // Administrators are exempt.
    let labels = json!({"long": "x".repeat(LABEL_BYTES)});
    let many = crate::size("MAGNUMD_ATTACK_TEMPLATES", 80);
    for n in 0..many {
        let answer = magnumd.add_template(&admin, &format!("t{n}"), &labels).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
    }
    let lists = 3;
    let under_way = Arc::new(AtomicUsize::new(LISTS));
    let mut asked = JoinSet::new();
    for n in 0..LISTS {
        let (magnumd, admin, under_way) =
            (Arc::clone(&magnumd), admin.clone(), Arc::clone(&under_way));
        asked.spawn(async move {
            let path = ["/v1/clustertemplates", "/v1/clustertemplates?sort_key=name"][n % 2];
            for _ in 0..lists {
                let (status, body) = magnumd.get(path, &admin).await;
                assert_eq!(status, 200);
                assert!(body.len() <= PAGE_BYTES, "a page of {} bytes", body.len());
                let page: Value = serde_json::from_str(&body).unwrap();
                let shown = page["clustertemplates"].as_array().unwrap().len();
                assert!(shown == many || page["next"].is_string(), "{shown} and no more");
            }
            under_way.fetch_sub(1, Ordering::Relaxed);
        });
    }
    let mut took = Vec::new();
    let began = Instant::now();
    while under_way.load(Ordering::Relaxed) > 0 {
        let asked = Instant::now();
        assert_eq!(magnumd.get("/v1/clustertemplates/a", &alt).await.0, 200);
        took.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    asked.join_all().await;
    took.sort_unstable();
    println!(
        "{many} templates, {} lists in {:?}; another tenant: {} reads, p99 {:?}",
        LISTS * lists,
        began.elapsed(),
        took.len(),
        took[(took.len() - 1) * 99 / 100],
    );
    // One after the other they would be as many as the lists of one client.
    assert!(took.len() > 2 * lists, "{took:?}");
    stop(Arc::into_inner(magnumd).unwrap()).await;
}
