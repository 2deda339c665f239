//! The conductors that are alive; this process has one.

use serde::Serialize;

use super::super::context::Context;
use super::super::error::Outcome;
use super::super::reply::Reply;
use crate::base::clock::Timestamp;
use crate::model::service::Service;

#[derive(Serialize)]
struct ServiceView<'s> {
    host: &'s str,
    binary: &'static str,
    state: &'static str,
    id: u64,
    report_count: u64,
    disabled: bool,
    disabled_reason: Option<&'static str>,
    created_at: String,
    updated_at: String,
}

fn service_view(
    service: &Service,
    now: Timestamp,
    down_after: std::time::Duration,
) -> ServiceView<'_> {
    let is_up = now.since(service.last_seen_up) <= down_after;
    ServiceView {
        host: &service.host,
        binary: "magnum-conductor",
        state: if is_up { "up" } else { "down" },
        id: service.id,
        report_count: service.report_count,
        disabled: false,
        disabled_reason: None,
        created_at: service.created_at.to_string(),
        updated_at: service.last_seen_up.to_string(),
    }
}

#[derive(Serialize)]
struct Services<'s> {
    mservices: Vec<ServiceView<'s>>,
}

/// `GET /v1/mservices`
pub fn list(cx: &Context<'_>) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow("magnum-service:get_all")?;
    let services = cx.read(|view| Ok(view.services()?))?;
    let (now, down) = (cx.api.clock.now(), cx.api.settings.service_down_time);
    let mservices = services.iter().map(|s| service_view(s, now, down)).collect();
    Reply::shown(&Services { mservices })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_service_is_up_while_it_reports() {
        let service = Service {
            id: 1,
            host: "peer".to_owned(),
            report_count: 17,
            last_seen_up: Timestamp::EPOCH,
            created_at: Timestamp::EPOCH,
        };
        let at = |seconds: u64| {
            let now = Timestamp::EPOCH.plus(Duration::from_secs(seconds));
            service_view(&service, now, Duration::from_secs(180)).state
        };
        assert_eq!((at(180), at(181)), ("up", "down"));
        let shown = service_view(&service, Timestamp::EPOCH, Duration::ZERO);
        insta::assert_json_snapshot!(shown, @r#"
        {
          "host": "peer",
          "binary": "magnum-conductor",
          "state": "up",
          "id": 1,
          "report_count": 17,
          "disabled": false,
          "disabled_reason": null,
          "created_at": "1970-01-01T00:00:00.000000+00:00",
          "updated_at": "1970-01-01T00:00:00.000000+00:00"
        }
        "#);
    }
}
