//! One program for all targets; `MAGNUMD_FUZZ_TARGET` says which. A panic is a finding.

#![no_main]

mod files;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use magnumd::{api, discovery, lab, openstack, pki, store};

type Target = fn(&[u8]);

/// Everything that reads what somebody else wrote.
const TARGETS: [(&str, Target); 15] = [
    ("policy", api::fuzzing::policy),
    ("patch", api::fuzzing::patch),
    ("body", api::fuzzing::body),
    ("literal", api::fuzzing::literal),
    ("microversion", api::fuzzing::microversion),
    ("csr", pki::fuzzing::csr),
    ("pem", pki::fuzzing::pem),
    ("enrolment", pki::fuzzing::enrolment),
    ("discovery-v2", discovery::fuzzing::v2),
    ("discovery-v3", discovery::fuzzing::v3),
    ("user-data", lab::fuzzing::user_data),
    ("openstack", openstack::fuzzing::answer),
    ("record", store::fuzzing::record),
    ("state", files::state),
    ("backup", files::backup),
];

static CHOSEN: OnceLock<Target> = OnceLock::new();

fn choose() {
    let name = std::env::var("MAGNUMD_FUZZ_TARGET").unwrap_or_default();
    let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("MAGNUMD_FUZZ_TARGET must be one of {}, not '{name}'", known.join(", "));
    };
    // A panic that is caught, as that of the database over a damaged page, is none; one that is
    // not ends the process, after this has said where.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    CHOSEN.get_or_init(|| *target);
}

fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(target) = CHOSEN.get() {
        target(data);
    }
});
