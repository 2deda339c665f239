//! Are the API's own certificate and key usable, does anybody accept every certificate, and will
//! nodes believe OpenStack's?

use std::path::Path;

use x509_parser::pem::Pem;

use super::{Judgement, Look, Scene, node_trust};
use crate::base::clock::Timestamp;
use crate::base::http::tls;

const SOON_DAYS: i64 = 30;

pub async fn check(scene: &Scene) -> Look {
    let config = &scene.config;
    let insecure: Vec<&str> = config
        .clients
        .each()
        .into_iter()
        .filter(|(_, client)| client.insecure == Some(true))
        .map(|(name, _)| name)
        .collect();
    let files = match (&config.api.tls.cert, &config.api.tls.key) {
        (Some(cert), Some(key)) => Some(look(cert, key)),
        _ => None,
    };
    let own = judge(files.as_ref(), scene.clock.now(), &insecure);
    Ok(Judgement::worst(vec![own, node_trust::look(scene).await]))
}

/// The files' names and when the certificate ends, or what is wrong with them.
struct Files {
    cert: String,
    end: Result<Timestamp, String>,
}

fn look(cert: &Path, key: &Path) -> Files {
    let end = tls::server_config_from_files(cert, key).map_err(|e| e.to_string()).and_then(|_| {
        let text = std::fs::read_to_string(cert).map_err(|e| e.to_string())?;
        end_of(&text).ok_or_else(|| "it cannot be read".to_owned())
    });
    Files { cert: cert.display().to_string(), end }
}

/// When the first certificate of a PEM text ends.
pub fn end_of(pem: &str) -> Option<Timestamp> {
    let pem = Pem::iter_from_buffer(pem.as_bytes()).next()?.ok()?;
    let certificate = pem.parse_x509().ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    Some(Timestamp::from_micros(seconds.saturating_mul(1_000_000)))
}

fn judge(files: Option<&Files>, now: Timestamp, insecure: &[&str]) -> Judgement {
    let mut all = Vec::new();
    match files {
        None => all.push(Judgement::ok("the API speaks plain HTTP, as configured")),
        Some(Files { cert, end: Err(reason) }) => all.push(Judgement::fail(
            format!("api.tls.cert {cert} is not usable: {reason}"),
            "give a PEM chain, leaf first, and its key",
        )),
        Some(Files { cert, end: Ok(end) }) => {
            let days = (end.micros() - now.micros()).div_euclid(86_400_000_000);
            all.push(match days {
                ..0 => Judgement::fail(format!("{cert} has expired"), "renew it"),
                0..SOON_DAYS => Judgement::warn(format!("{cert} ends in {days} days"), "renew it"),
                _ => Judgement::ok(format!("{cert} is good for {days} days")),
            });
        }
    }
    if !insecure.is_empty() {
        all.push(Judgement::warn(
            format!("clients.{} accepts any certificate", insecure.join(" and clients.")),
            "set ca_file instead of insecure",
        ));
    }
    Judgement::worst(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn expired_expiring_and_careless() {
        let now = Timestamp::parse("2026-11-24T00:00:00Z").unwrap();
        let with = |end: &str| {
            let end = Timestamp::parse(end).ok_or_else(|| end.to_owned());
            judge(Some(&Files { cert: "c.pem".to_owned(), end }), now, &[])
        };
        assert_eq!(with("2027-11-24T00:00:00Z"), Judgement::ok("c.pem is good for 365 days"));
        assert_eq!(with("2026-12-01T00:00:00Z").sentence, "c.pem ends in 7 days");
        assert_eq!(with("2026-11-01T00:00:00Z").sentence, "c.pem has expired");
        assert!(with("no such file").sentence.contains("not usable: no such file"));
        let careless = judge(None, now, &["default"]);
        assert_eq!(careless.verdict, Verdict::Warn);
        assert_eq!(careless.sentence, "clients.default accepts any certificate");
    }
}
