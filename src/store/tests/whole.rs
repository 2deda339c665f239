//! A state with a record of every kind.

use super::{Place, cluster};
use crate::base::clock::Timestamp;
use crate::model::certificate::{Certificate, CertificateKind, NextCertificate};
use crate::model::cluster::Cluster;
use crate::model::cluster_template::{ClusterTemplate, Coe};
use crate::model::credential::Credential;
use crate::model::discovery::DiscoveryToken;
use crate::model::driver::{ClusterDriver, StoredDriver};
use crate::model::duty::{Duty, DutyKind, DutyState};
use crate::model::facts::CloudFacts;
use crate::model::join::JoinSecrets;
use crate::model::node::{Node, Phase, PhaseState};
use crate::model::node_key::{Dispute, Holder, NodeKey};
use crate::model::node_wait::NodeWait;
use crate::model::nodegroup::{DEFAULT_MASTER, MASTER, NodeGroup, WORKER};
use crate::model::operation::{Delete, DeleteStep, Operation};
use crate::model::quota::Quota;
use crate::model::rollout::Rollout;
use crate::model::service::Service;
use crate::model::stack_revision::StackRevision;
use crate::model::status::Status;
use crate::model::{ClusterId, NodeGroupId, Sequence, TemplateId};
use crate::store::{Change, KeyringEntry, Store};
use uuid::Uuid;

pub const CLUSTER: u128 = 7;
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
pub const URL: &str = "http://192.0.2.1:9512/0123456789abcdef0123456789abcdef";
pub const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

pub fn id() -> ClusterId {
    ClusterId::new(Uuid::from_u128(CLUSTER))
}

pub fn template(store: &Store) -> ClusterTemplate {
    ClusterTemplate {
        sequence: store.next_sequence(),
        project_id: "p".to_owned(),
        user_id: "u".to_owned(),
        public: true,
        floating_ip_enabled: true,
        created_at: NOW,
        ..ClusterTemplate::plain(
            TemplateId::new(Uuid::from_u128(1)),
            "k8s",
            Coe::Kubernetes,
            "ubuntu",
        )
    }
}

fn group(store: &Store, cluster: &Cluster, number: u128, role: &'static str) -> NodeGroup {
    NodeGroup {
        id: NodeGroupId::new(Uuid::from_u128(number)),
        sequence: store.next_sequence(),
        status: Status::UpdateInProgress,
        ..NodeGroup::default_of(cluster, "ubuntu", role, 1)
    }
}

/// A state with a record of every kind, under key `[1; 32]`.
pub async fn full(place: &Place) -> Store {
    let store = place.open();
    let sealer = store.sealer();
    let mut made = cluster(&store, CLUSTER, "p", "k1");
    made.status = Status::UpdateInProgress;
    made.trustee_user_id = Some("trustee".to_owned());
    made.seal_discovery_url(sealer, URL);
    let groups = [group(&store, &made, 8, MASTER), group(&store, &made, 9, WORKER)];
    let mut change = Change::new().put(&template(&store)).put(&made);
    for group in &groups {
        change = change.put(group);
    }
    let certificate = |kind| {
        let key = sealer.seal(&Certificate::owner(id(), kind), b"PRIVATE KEY");
        Certificate { cluster_id: id(), kind, pem: "PEM".to_owned(), key }
    };
    for kind in CertificateKind::ALL {
        change = change.put(&certificate(kind));
    }
    for kind in CertificateKind::ROTATED {
        change = change.put(&NextCertificate(certificate(kind)));
    }
    change = change
        .put(&StoredDriver {
            digest: "d1".to_owned(),
            name: "k".to_owned(),
            version: "1".to_owned(),
            files: [("driver.yaml".to_owned(), "api: 1\n".to_owned())].into(),
        })
        .put(&ClusterDriver { cluster_id: id(), digest: "d1".to_owned() })
        .put(&Duty {
            cluster_id: id(),
            node: "k1-master-0".to_owned(),
            number: Sequence(3),
            operation: Sequence(2),
            kind: DutyKind::TrustAuthorities,
            targets: Vec::new(),
            state: DutyState::Given,
            message: String::new(),
            given_at: NOW,
        })
        .put(&Rollout {
            cluster_id: id(),
            nodegroup: groups[1].id,
            template_id: TemplateId::new(Uuid::from_u128(1)),
            image_id: "i2".to_owned(),
            kube_version: None,
            labels: Default::default(),
            max_batch_size: 1,
            masters: [(0, "i".to_owned())].into(),
            workers: Default::default(),
            flavors: Default::default(),
            master_flavors: Default::default(),
            worker_flavors: Default::default(),
            resizing: Default::default(),
            former: None,
            undone: vec!["nothing".to_owned()],
            failure: Some("no room".to_owned()),
        });
    let password = |text: &[u8]| sealer.seal(&Credential::owner(id()), text);
    change = change
        .put(&Credential {
            cluster_id: id(),
            trustee_name: format!("{}_p", id()),
            trustee_password: password(b"hunter2"),
            trustee_user_id: Some("trustee".to_owned()),
            trust_id: Some("trust".to_owned()),
            next_password: Some(password(b"hunter3")),
            next_trust: None,
            former_trust: None,
        })
        .put(&CloudFacts::plain(id(), "i", "ubuntu", "m"))
        .put(&Operation {
            sequence: store.next_sequence(),
            cluster_id: id(),
            began: NOW,
            deadline: None,
            token: Some(sealer.seal(&Operation::token_owner(id()), b"tenant-token")),
            roles: vec!["member".to_owned()],
            user_id: "u".to_owned(),
            request_id: "req-1".to_owned(),
            kind: Delete { step: DeleteStep::Stacks }.into(),
        })
        .put(&JoinSecrets {
            cluster_id: id(),
            master: sealer.seal(&JoinSecrets::owner(id(), "master"), b"join-master"),
            worker: sealer.seal(&JoinSecrets::owner(id(), "worker"), b"join-worker"),
            renewal: sealer.seal(&JoinSecrets::owner(id(), "renewal"), b"renewal"),
        })
        .put(&DiscoveryToken::issue(TOKEN, id(), 1, Vec::new(), None, NOW, NOW))
        .put(&Node {
            cluster_id: id(),
            name: "k1-master-0".to_owned(),
            nodegroup: DEFAULT_MASTER.to_owned(),
            role: MASTER.to_owned(),
            instance: None,
            phase: Phase::Ready,
            state: PhaseState::Done,
            message: String::new(),
            log_tail: String::new(),
            first_seen: NOW,
            last_seen: NOW,
        })
        .put(&NodeKey {
            cluster_id: id(),
            node: "k1-master-0".to_owned(),
            holder: Some(Holder {
                instance: Uuid::from_u128(5).to_string(),
                key: "ab".repeat(32),
                certificate: "PEM".to_owned(),
                since: NOW,
                address: "192.0.2.8".to_owned(),
            }),
            dispute: Some(Dispute {
                address: "192.0.2.9".to_owned(),
                instance: Uuid::from_u128(6).to_string(),
                at: NOW,
                times: 2,
            }),
            rebuilt_at: Some(NOW),
        })
        .put(&NodeWait { cluster_id: id(), since: NOW })
        .put(&StackRevision {
            cluster_id: id(),
            stack_id: "1b4b1d2f-8a4c-4a7e-b8f3-0f6f8a6d3c11".to_owned(),
            revision: "12-3".to_owned(),
        })
        .put(&Service {
            id: 1,
            host: "here".to_owned(),
            report_count: 3,
            last_seen_up: NOW,
            created_at: NOW,
        })
        .put(&Quota {
            sequence: store.next_sequence(),
            project_id: "p".to_owned(),
            hard_limit: 4,
            created_at: NOW,
            updated_at: None,
        })
        .put(&KeyringEntry {
            name: "enrolment".to_owned(),
            public: String::new(),
            private: sealer.seal(&KeyringEntry::owner("enrolment"), &[0, 255]),
        });
    store.commit(change).await.unwrap();
    store
}
