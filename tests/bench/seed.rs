//! A state file with many finished clusters in it.

use std::path::Path;
use std::time::Duration;

use magnumd::base::clock::{Clock, Timestamp};
use magnumd::base::id::Entropy;
use magnumd::base::secret::Sealer;
use magnumd::model::certificate::{Certificate, CertificateKind, KeyAlgorithm};
use magnumd::model::cluster::Cluster;
use magnumd::model::cluster_template::{ClusterTemplate, Coe};
use magnumd::model::credential::Credential;
use magnumd::model::labels::Labels;
use magnumd::model::nodegroup::{MASTER, NodeGroup, WORKER};
use magnumd::model::status::Status;
use magnumd::model::{ClusterId, NodeGroupId, TemplateId};
use magnumd::pki::key_generator::{KeyGenerator, Keys};
use magnumd::pki::material;
use magnumd::store::{Change, Store};
use rcgen::KeyPair;

/// Clusters that travel in one commit.
const TOGETHER: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    None,
    Seeded,
}

/// What a seeded state file has in it.
pub struct Seeded {
    /// In order of making.
    pub clusters: Vec<ClusterId>,
    /// One of the clusters, whole.
    pub one: Cluster,
}

/// Writes `count` clusters of one project. The first two have authorities: RSA, as magnumd
/// draws them, and P-256. With credentials magnumd asks the cloud about each of them.
pub async fn clusters(
    place: &Path,
    count: usize,
    project: &str,
    user: &str,
    credentials: Credentials,
) -> Seeded {
    let entropy = Entropy::new();
    let key: [u8; Sealer::KEY_BYTES] = entropy.bytes();
    std::fs::write(place.join("sealing.key"), key).unwrap();
    let store = Store::open(&place.join("magnumd.redb"), Sealer::new(&key)).unwrap();
    let now = Clock::real().now();
    let template = template(&store, &entropy, project, user, now);
    store.commit(Change::new().put(&template)).await.unwrap();
    let (mut ids, mut one) = (Vec::with_capacity(count), None);
    while ids.len() < count {
        let mut change = Change::new();
        for _ in 0..TOGETHER.min(count - ids.len()) {
            let cluster = cluster(&store, &entropy, &template, ids.len(), now);
            let groups = [MASTER, WORKER].map(|role| group(&store, &entropy, &cluster, role, now));
            change = change.put(&cluster).put(&groups[0]).put(&groups[1]);
            if credentials == Credentials::Seeded {
                change = with_secrets(change, &store, &cluster);
            }
            ids.push(cluster.id);
            one = Some(cluster);
        }
        store.commit(change).await.unwrap();
    }
    let rsa: Vec<KeyPair> = KeyGenerator::start(2, Keys::plain(KeyAlgorithm::Rsa))
        .unwrap()
        .draw(&CertificateKind::ALL)
        .await
        .unwrap();
    let elliptic: Vec<KeyPair> =
        (0..material::KEYS).map(|_| KeyPair::generate().unwrap()).collect();
    for (id, keys) in ids.iter().zip([rsa, elliptic]) {
        let year = Duration::from_secs(31_536_000);
        let mut change = Change::new();
        for (kind, pair) in
            material::assemble("k", &CertificateKind::ALL, &keys, year, now, &entropy).unwrap()
        {
            let owner = Certificate::owner(*id, kind);
            let key = store.sealer().seal(&owner, pair.key.expose().as_bytes());
            change = change.put(&Certificate { cluster_id: *id, kind, pem: pair.pem, key });
        }
        store.commit(change).await.unwrap();
    }
    Seeded { clusters: ids, one: one.unwrap() }
}

/// Keys and certificates of their usual sizes, and the trustee's credential.
fn with_secrets(mut change: Change, store: &Store, cluster: &Cluster) -> Change {
    let id = cluster.id;
    for kind in CertificateKind::ALL {
        let key = store.sealer().seal(&Certificate::owner(id, kind), &[b'k'; 1704]);
        change = change.put(&Certificate { cluster_id: id, kind, pem: "c".repeat(1172), key });
    }
    let password = store.sealer().seal(&Credential::owner(id), &[b'p'; 32]);
    change.put(&Credential {
        cluster_id: id,
        trustee_name: format!("{id}_{}", cluster.project_id),
        trustee_password: password,
        trustee_user_id: cluster.trustee_user_id.clone(),
        trust_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
        next_password: None,
        next_trust: None,
        former_trust: None,
    })
}

fn template(
    store: &Store,
    entropy: &Entropy,
    project: &str,
    user: &str,
    now: Timestamp,
) -> ClusterTemplate {
    ClusterTemplate {
        sequence: store.next_sequence(),
        project_id: project.to_owned(),
        user_id: user.to_owned(),
        cluster_distro: Some("ubuntu".to_owned()),
        flavor_id: Some("m1.small".to_owned()),
        master_flavor_id: Some("m1.small".to_owned()),
        keypair_id: Some("default".to_owned()),
        external_network_id: Some("public".to_owned()),
        network_driver: Some("flannel".to_owned()),
        floating_ip_enabled: true,
        labels: Labels::from_iter([("kube_tag", "v1.34.2"), ("boot_volume_size", "20")]),
        created_at: now,
        ..ClusterTemplate::plain(
            TemplateId::new(entropy.record_id(now)),
            "seeded",
            Coe::Kubernetes,
            "ubuntu",
        )
    }
}

fn cluster(
    store: &Store,
    entropy: &Entropy,
    template: &ClusterTemplate,
    number: usize,
    now: Timestamp,
) -> Cluster {
    let made = now.plus(Duration::from_millis(number as u64));
    Cluster {
        sequence: store.next_sequence(),
        project_id: template.project_id.clone(),
        user_id: template.user_id.clone(),
        keypair: template.keypair_id.clone(),
        labels: template.labels.clone(),
        master_flavor_id: template.master_flavor_id.clone(),
        flavor_id: template.flavor_id.clone(),
        floating_ip_enabled: true,
        create_timeout: 60,
        api_address: Some("https://192.0.2.7:6443".to_owned()),
        coe_version: Some("v1.34.2".to_owned()),
        stack_id: Some(entropy.uuid().to_string()),
        status: Status::CreateComplete,
        status_reason: Some("Stack CREATE completed successfully".to_owned()),
        driver: "k8s_kubeadm_v1".to_owned(),
        trustee_user_id: Some(entropy.hex_token()),
        created_at: now,
        updated_at: Some(now),
        ..Cluster::plain(
            ClusterId::new(entropy.record_id(made)),
            &format!("k{number}"),
            template.id,
        )
    }
}

fn group(
    store: &Store,
    entropy: &Entropy,
    cluster: &Cluster,
    role: &'static str,
    now: Timestamp,
) -> NodeGroup {
    NodeGroup {
        id: NodeGroupId::new(entropy.record_id(now)),
        sequence: store.next_sequence(),
        stack_id: cluster.stack_id.clone(),
        status: Status::CreateComplete,
        status_reason: cluster.status_reason.clone(),
        node_addresses: vec!["192.0.2.7".to_owned()],
        version: cluster.coe_version.clone(),
        updated_at: Some(now),
        ..NodeGroup::default_of(cluster, "ubuntu", role, 1)
    }
}
