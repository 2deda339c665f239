//! Will nodes believe the services of OpenStack that they call?
//!
//! Controllers in clusters log in at the public Keystone and go where its catalogue leads; they
//! believe the authorities that they are given, or those of their image. The same is tried from
//! here, with the same authorities.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;

use super::{Judgement, Scene};
use crate::base::http::client::{HttpClient, HttpError, Outgoing};
use crate::base::http::tls::{self, TlsError, Trust};
use crate::openstack::Service;

const PATIENCE: Duration = Duration::from_secs(3);
/// What controllers on nodes call, beside Keystone.
const CALLED: [Service; 4] = [Service::Nova, Service::Neutron, Service::Octavia, Service::Cinder];

/// What was found at one address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Met {
    /// Somebody whom nodes believe.
    Believed,
    /// Somebody whom they do not believe, for this reason.
    Strange(String),
    /// Nobody; that is for other lines to judge.
    Nobody(String),
}

pub async fn look(scene: &Scene) -> Judgement {
    let file = scene.config.drivers.openstack_ca_file(&scene.config.clients);
    let shown = file.map(|path| path.display().to_string());
    let pem = match file.map(std::fs::read_to_string).transpose() {
        Ok(pem) => pem,
        Err(e) => return unusable(shown.as_deref().unwrap_or_default(), &e),
    };
    let authorities = match pem.as_deref().map(tls::authorities).transpose() {
        Ok(_) => pem.as_deref(),
        Err(e) => return unusable(shown.as_deref().unwrap_or_default(), &e),
    };
    let mut met = Vec::new();
    for (address, url) in addresses(scene).await {
        match meet(authorities, &url).await {
            Ok(found) => met.push((address, found)),
            Err(e) => return unusable(shown.as_deref().unwrap_or("the system's authorities"), &e),
        }
    }
    judge(shown.as_deref(), &met)
}

fn unusable(file: &str, reason: &dyn std::fmt::Display) -> Judgement {
    Judgement::fail(
        format!("nodes cannot be given the authorities in {file}: {reason}"),
        "set openstack_ca_file in [drivers] to a PEM file of certificates",
    )
}

/// A URL for each host and port of HTTPS that nodes are led to.
async fn addresses(scene: &Scene) -> BTreeMap<String, String> {
    let mut urls = vec![scene.driver_settings.auth_url.clone()];
    if let Ok(session) = scene.cloud.keystone().service().await {
        for service in CALLED {
            // What is not in the catalogue is not called.
            urls.extend(scene.cloud.public_url(service, &session.project_id).await.ok());
        }
    }
    let authority = |url: String| {
        let uri = url.parse::<hyper::Uri>().ok().filter(|u| u.scheme_str() == Some("https"))?;
        Some((uri.authority()?.to_string(), url))
    };
    urls.into_iter().filter_map(authority).collect()
}

/// Asks as a node would, and where that fails once more as somebody who believes anyone: so what
/// nobody answers is not taken for what is not believed.
async fn meet(authorities: Option<&str>, url: &str) -> Result<Met, TlsError> {
    let as_nodes = match authorities {
        Some(pem) => tls::pinned_client_config(pem)?,
        None => tls::client_config(&Trust::default())?,
    };
    let anyone = tls::client_config(&Trust { ca_files: Vec::new(), insecure: true })?;
    let ask = async |config| -> Result<(), HttpError> {
        let client = HttpClient::new(config, PATIENCE);
        client.send(Outgoing::new(Method::GET, url).deadline(PATIENCE)).await.map(drop)
    };
    Ok(match ask(as_nodes).await {
        Ok(()) => Met::Believed,
        Err(HttpError::Connect { reason, .. }) if ask(anyone).await.is_ok() => Met::Strange(reason),
        Err(e) => Met::Nobody(e.to_string()),
    })
}

fn judge(file: Option<&str>, met: &[(String, Met)]) -> Judgement {
    let of = |wanted: fn(&Met) -> Option<&str>| -> Vec<String> {
        let found = met.iter().filter_map(|(at, met)| Some((at, wanted(met)?)));
        found.map(|(at, reason)| format!("{at} ({reason})")).collect()
    };
    let strange = of(|met| match met {
        Met::Strange(reason) => Some(reason),
        _ => None,
    });
    let nobody = of(|met| match met {
        Met::Nobody(reason) => Some(reason),
        _ => None,
    });
    let whom = file.map_or_else(
        || "the authorities of their image, taken for those of this machine,".to_owned(),
        |file| format!("the authorities in {file}"),
    );
    if !strange.is_empty() {
        let sentence =
            format!("nodes, which believe {whom} would not believe {}", strange.join(", "));
        let cure = "set openstack_ca_file in [drivers] to the PEM file of the authority of \
                    OpenStack's public endpoints";
        return match file {
            Some(_) => Judgement::fail(sentence, cure),
            // An image may know more authorities than this machine.
            None => Judgement::warn(sentence, cure),
        };
    }
    if !nobody.is_empty() {
        return Judgement::unseen(
            format!("nobody answers where nodes are led: {}", nobody.join(", ")),
            "see that public_url in [keystone] and the public endpoints of the catalogue lead to \
             OpenStack",
        );
    }
    match (met.len(), file) {
        (0, None) => Judgement::ok("nodes reach OpenStack by plain HTTP"),
        (0, Some(file)) => {
            Judgement::ok(format!("nodes are given {file} and need none: plain HTTP"))
        }
        _ => Judgement::ok(format!("nodes believe OpenStack by {whom}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn whom_nodes_believe_and_whom_not() {
        let met = |found: Met| vec![("cloud.example:5000".to_owned(), found)];
        let strange = || met(Met::Strange("UnknownIssuer".to_owned()));
        let said = judge(Some("/ca.pem"), &strange());
        assert_eq!(said.verdict, Verdict::Fail);
        assert!(said.sentence.contains("/ca.pem"), "{}", said.sentence);
        assert!(said.sentence.ends_with("cloud.example:5000 (UnknownIssuer)"), "{}", said.sentence);
        assert!(said.cure.unwrap().contains("openstack_ca_file"));
        assert_eq!(judge(None, &strange()).verdict, Verdict::Warn, "the image may know it");
        let away = judge(Some("/ca.pem"), &met(Met::Nobody("refused".to_owned())));
        assert_eq!(away.verdict, Verdict::Warn);
        assert!(away.sentence.starts_with("not looked at"), "{}", away.sentence);
        assert_eq!(judge(Some("/ca.pem"), &met(Met::Believed)).verdict, Verdict::Ok);
        assert_eq!(judge(None, &[]), Judgement::ok("nodes reach OpenStack by plain HTTP"));
    }
}
