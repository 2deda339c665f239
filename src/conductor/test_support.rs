//! A conductor whose cloud answers nothing, for the tests of listeners: what it accepts is
//! durable, and nothing more happens.

use std::collections::HashMap;
use std::time::Duration;

use super::{Conductor, Parts, Settings};
use crate::base::clock::Clock;
use crate::base::fail_points::FailPoints;
use crate::base::http::tls::Trust;
use crate::base::id::Entropy;
use crate::base::secret::Secret;
use crate::driver::{Drivers, plan};
use crate::model::certificate::KeyAlgorithm;
use crate::model::first_contact::Rules;
use crate::model::labels::UnknownLabels;
use crate::openstack::{
    Accounts, Cloud, CloudSettings, Identity, Service, ServiceSettings, Tokens,
};
use crate::pki::enrolment::EnrolmentKey;
use crate::pki::key_generator::{KeyGenerator, Keys};
use crate::store::Store;

/// The conductor over `store`, and the token cache of its cloud.
pub(crate) fn conductor(store: Store) -> (Conductor, Tokens) {
    conductor_with(store, |_| {})
}

/// One whose operator has decided some things otherwise.
pub(crate) fn conductor_with(
    store: Store,
    decide: impl FnOnce(&mut Settings),
) -> (Conductor, Tokens) {
    let nobody = Identity { id: None, name: None, domain_id: None, domain_name: None };
    let accounts = Accounts {
        // Port 1 refuses at once.
        auth_url: "http://127.0.0.1:1/v3".to_owned(),
        service_user: nobody.clone(),
        service_password: Secret::new(String::new()),
        service_project: nobody.clone(),
        trustee_domain_id: None,
        trustee_domain_name: None,
        domain_admin: nobody,
        domain_admin_password: Secret::new(String::new()),
    };
    let service = ServiceSettings {
        region: None,
        interface: "public".to_owned(),
        trust: Trust { ca_files: Vec::new(), insecure: false },
    };
    let cloud = CloudSettings {
        accounts,
        services: Service::ALL.map(|s| (s, service.clone())).into_iter().collect::<HashMap<_, _>>(),
        concurrency: 1,
        connect_timeout: Duration::from_secs(1),
        deadline: Duration::from_secs(1),
        remember_tokens: Duration::from_secs(60),
        remember_lookups: Duration::from_secs(60),
    };
    let cloud = Cloud::new(cloud, Clock::real()).expect("no certificate to read");
    let tokens = cloud.tokens();
    let mut settings = Settings {
        driver: plan::Settings {
            auth_url: String::new(),
            region: None,
            bootstrap_url: String::new(),
            bootstrap_ca: String::new(),
            magnum_url: String::new(),
            discovery_base: String::new(),
            openstack_ca: String::new(),
            default_network_driver: "flannel".to_owned(),
            create_timeout: 60,
            nested: false,
        },
        host: "peer".to_owned(),
        lanes: 1,
        look_interval: Duration::from_secs(1),
        sync_interval: Duration::from_secs(60),
        health_interval: None,
        health_timeout: Duration::from_secs(10),
        max_clusters_per_project: 20,
        trust_roles: Vec::new(),
        certificate_validity: Duration::from_secs(86_400),
        boot_volume_size: 0,
        allowed_network_drivers: Vec::new(),
        default_driver: None,
        discovery_url: String::new(),
        heat_reauthenticates: false,
        lb_delete_timeout: Duration::from_secs(60),
        unknown_labels: UnknownLabels::Warn,
        health_allow_loopback: true,
        own_addresses: Vec::new(),
        first_contact: Rules::default(),
    };
    decide(&mut settings);
    let conductor = Conductor::new(Parts {
        store,
        cloud,
        drivers: Drivers::default(),
        settings,
        clock: Clock::real(),
        entropy: Entropy::new(),
        enrolment: EnrolmentKey::new(&[1; EnrolmentKey::BYTES]),
        key_generator: KeyGenerator::start(1, Keys::plain(KeyAlgorithm::EcdsaP256))
            .expect("a size that is allowed"),
        points: FailPoints::default(),
    });
    (conductor, tokens)
}
