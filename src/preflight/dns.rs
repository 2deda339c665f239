//! Does the name server that nodes are given answer, or is it one of the internet's in a lab
//! without internet?

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::{Judgement, Look, Scene};

const PATIENCE: Duration = Duration::from_secs(2);
/// "Who serves the root?", which every resolver can answer: identifier 1, recursion wanted.
const QUESTION: [u8; 17] = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];

pub async fn check(scene: &Scene) -> Look {
    let template = scene.template().expect("asked about one");
    let Some(list) = template.dns_nameserver.as_deref().filter(|list| !list.trim().is_empty())
    else {
        return Ok(Judgement::ok("nodes use the name servers of their subnet"));
    };
    let mut all = Vec::new();
    for name in list.split(',').map(str::trim) {
        let Ok(address) = name.parse::<IpAddr>() else {
            return Ok(Judgement::fail(
                format!("dns_nameserver {name} is not an IP address"),
                "set dns_nameserver in the cluster template to an address, or leave it away",
            ));
        };
        let answers = is_public(address) && answers(address).await;
        all.push(judge(address, answers, scene.driver_settings.nested));
    }
    Ok(Judgement::worst(all))
}

async fn answers(resolver: IpAddr) -> bool {
    let here: SocketAddr = match resolver {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let ask = async {
        let socket = UdpSocket::bind(here).await?;
        socket.connect((resolver, 53)).await?;
        socket.send(&QUESTION).await?;
        socket.recv(&mut [0; 512]).await
    };
    matches!(tokio::time::timeout(PATIENCE, ask).await, Ok(Ok(length)) if length >= 12)
}

/// Whether an address is one of the internet's.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation()
                || v4.is_unspecified())
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unspecified() || v6.segments()[0] & 0xfe00 == 0xfc00)
        }
    }
}

fn judge(resolver: IpAddr, answers: bool, nested: bool) -> Judgement {
    match (is_public(resolver), answers) {
        (false, _) => Judgement::ok(format!("nodes ask {resolver}, of this site")),
        (true, true) if !nested => Judgement::ok(format!("nodes ask {resolver}, which answers")),
        (true, true) => Judgement::warn(
            format!("{resolver} is a resolver of the internet, which a nested lab may not reach"),
            "set dns_nameserver in the cluster template to a resolver of this site",
        ),
        (true, false) => Judgement::warn(
            format!("{resolver} is a resolver of the internet and does not answer from here"),
            "set dns_nameserver in the cluster template to a resolver of this site, or leave it \
             away",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn a_public_resolver_must_answer() {
        let of = |address: &str, answers, nested| judge(address.parse().unwrap(), answers, nested);
        assert_eq!(of("10.0.0.53", false, true).verdict, Verdict::Ok);
        assert_eq!(of("8.8.8.8", true, false).verdict, Verdict::Ok);
        assert!(of("8.8.8.8", true, true).sentence.contains("nested lab may not reach"));
        let silent = of("8.8.8.8", false, false);
        assert_eq!(silent.verdict, Verdict::Warn);
        assert!(silent.sentence.contains("does not answer from here"));
        assert_eq!(of("fd00::53", false, true).verdict, Verdict::Ok);
    }
}
