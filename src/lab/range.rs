//! The addresses by which a lab is reached from outside: its public network is a part of
//! 127.0.0.0/8.
//!
//! The system takes all of that for itself, so a floating address that the cloud shows is one
//! that every program on this machine can call: magnumd, `kubectl`, a browser. No program needs
//! to know that it is in a lab. Each lab takes a part of its own, so that several can run.

use std::net::{Ipv4Addr, TcpListener};

use crate::base::id::Entropy;

/// Where the API of a cluster listens.
pub(super) const API_PORT: u16 = 6443;
/// What a lab falls back on where loopback has one address only: nobody can call these.
const UNREACHABLE: &str = "172.24.0.0/16";
/// The parts that are given; the first holds addresses that other programs use.
const PARTS: std::ops::RangeInclusive<u8> = 1..=254;

/// A part of 127.0.0.0/8 that belongs to one lab as long as this lives.
#[derive(Debug)]
pub(super) struct Range {
    /// In CIDR notation.
    pub cidr: String,
    /// On the gateway's address, which no guest is given.
    _lease: Option<TcpListener>,
}

impl Range {
    pub fn take(entropy: &Entropy) -> Self {
        let mut reason = None;
        // From a drawn one on: labs that start at the same time seldom meet.
        let [first] = entropy.bytes();
        for part in PARTS.map(|part: u8| part.wrapping_add(first)).filter(|p| PARTS.contains(p)) {
            match TcpListener::bind((Ipv4Addr::new(127, part, 0, 1), API_PORT)) {
                Ok(lease) => {
                    return Self { cidr: format!("127.{part}.0.0/16"), _lease: Some(lease) };
                }
                Err(error) => reason = Some(error),
            }
        }
        let reason = reason.map(|e| e.to_string());
        tracing::warn!(
            reason,
            "no part of 127.0.0.0/8 is free at port {API_PORT}: the APIs of this lab's clusters \
             cannot be reached, and their health will be UNHEALTHY"
        );
        Self { cidr: UNREACHABLE.to_owned(), _lease: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::cidr::Cidr;

    #[test]
    fn every_lab_has_addresses_of_its_own_on_this_machine() {
        let entropy = Entropy::new();
        let ranges: Vec<Range> = (0..20).map(|_| Range::take(&entropy)).collect();
        let cidrs: Vec<Cidr> = ranges.iter().map(|r| r.cidr.parse().unwrap()).collect();
        for (number, one) in cidrs.iter().enumerate() {
            let (first, last) = one.hosts();
            assert!(first.is_loopback() && last.is_loopback(), "{one}");
            assert!(!cidrs[..number].iter().any(|other| other.overlaps(*one)), "{one}");
            TcpListener::bind((last, 0)).unwrap();
        }
    }
}
