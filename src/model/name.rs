//! The names we give to outside things, and which names we accept.

use uuid::Uuid;

use super::{ClusterId, NodeGroupId};

/// Whether `name` may name a cluster: `^[a-zA-Z][a-zA-Z0-9_.-]*$`, 1–242 characters.
pub fn is_cluster_name(name: &str) -> bool {
    name.len() <= 242
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// The Heat stack's name: up to 30 characters of the cluster's name, made safe for
/// host names, and the twelve letters derived from its UUID.
pub fn stack_name(cluster: &str, id: ClusterId) -> String {
    format!("{}-{}", host_part(cluster, 30), id.short())
}

/// Up to `most` characters of a name as a host name may have them.
fn host_part(name: &str, most: usize) -> String {
    name.chars()
        .take(most)
        .map(|c| if matches!(c, '_' | '.') { '-' } else { c })
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// The name of a further node group's stack: 20 characters of the cluster's name, 9 of the
/// group's, and the twelve letters derived from the group's UUID.
pub fn group_stack_name(cluster: &str, group: &str, id: NodeGroupId) -> String {
    format!("{}-{}-{}", host_part(cluster, 20), host_part(group, 9), id.short())
}

const GROUP_TAG: &str = "magnum-nodegroup-";
const STACK_TAG: &str = "magnum-cluster-";

/// The tag that finds a further node group's stack again, beside the cluster's own tag.
pub fn group_tag(id: NodeGroupId) -> String {
    format!("{GROUP_TAG}{id}")
}

/// The tag that finds a cluster's stacks again whatever they are called.
pub fn stack_tag(id: ClusterId) -> String {
    format!("{STACK_TAG}{id}")
}

/// The cluster whose tag is among a stack's.
pub fn tagged_cluster(tags: &[String]) -> Option<ClusterId> {
    tagged(tags, STACK_TAG).map(ClusterId::new)
}

/// The further node group whose tag is among a stack's.
pub fn tagged_group(tags: &[String]) -> Option<NodeGroupId> {
    tagged(tags, GROUP_TAG).map(NodeGroupId::new)
}

fn tagged(tags: &[String], prefix: &str) -> Option<Uuid> {
    tags.iter().find_map(|tag| Uuid::parse_str(tag.strip_prefix(prefix)?).ok())
}

/// The trustee user's name: `<cluster uuid>_<project id>`.
pub fn trustee_name(id: ClusterId, project: &str) -> String {
    format!("{id}_{project}")
}

/// The cluster and the project in a trustee's name.
pub fn trustee_of(name: &str) -> Option<(ClusterId, &str)> {
    let (cluster, project) = name.split_once('_')?;
    Some((ClusterId::new(Uuid::parse_str(cluster).ok()?), project))
}

/// The server name of master `index`, counted from 0.
pub fn master_node(stack: &str, index: u32) -> String {
    format!("{stack}-master-{index}")
}

/// What the server names of a stack's workers begin with; an index follows.
pub fn worker_node_prefix(stack: &str) -> String {
    format!("{stack}-node-")
}

/// An endpoint interface in Keystone's spelling, from that or from `publicURL` and the like.
pub fn endpoint_interface(text: &str) -> Option<&'static str> {
    match text.trim_end_matches("URL") {
        "public" => Some("public"),
        "internal" => Some("internal"),
        "admin" => Some("admin"),
        _ => None,
    }
}

/// A generated name: a Greek letter, a number from 1 to 24, and the kind of thing.
pub fn generated(kind: &str, drawn: [u8; 2]) -> String {
    const LETTERS: [&str; 24] = [
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
        "lambda", "mu", "nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi",
        "chi", "psi", "omega",
    ];
    format!("{}-{}-{kind}", LETTERS[usize::from(drawn[0]) % 24], drawn[1] % 24 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names() {
        for good in ["a", "k1", "My_cluster.v1-x", &"a".repeat(242)] {
            assert!(is_cluster_name(good), "{good}");
        }
        for bad in ["", "1a", "-a", "a b", "ä", "a\n", &"a".repeat(243)] {
            assert!(!is_cluster_name(bad), "{bad}");
        }
    }

    #[test]
    fn stack_names_are_host_names_and_stable() {
        let id = ClusterId::new(Uuid::from_u128(31));
        assert_eq!(stack_name("My_k8s.Prod", id), "my-k8s-prod-aaaaaaaaaaa7");
        let long = stack_name(&"x".repeat(200), id);
        assert!(master_node(&long, 6).len() <= 63, "a host name");
        let group = NodeGroupId::new(Uuid::from_u128(31));
        assert_eq!(group_stack_name("K_1", "gpu.large-nodes", group), "k-1-gpu-large-aaaaaaaaaaa7");
    }

    #[test]
    fn tags_and_trustees_lead_back() {
        let (cluster, group) =
            (ClusterId::new(Uuid::from_u128(1)), NodeGroupId::new(Uuid::from_u128(2)));
        let tags = ["other".to_owned(), stack_tag(cluster), group_tag(group)];
        assert_eq!((tagged_cluster(&tags), tagged_group(&tags)), (Some(cluster), Some(group)));
        assert_eq!(tagged_cluster(&["magnum-cluster-nonsense".to_owned()]), None);
        assert_eq!(trustee_of(&trustee_name(cluster, "p_1")), Some((cluster, "p_1")));
        assert_eq!(trustee_of("magnum_domain_admin"), None);
    }

    #[test]
    fn generated_names_are_cluster_names() {
        assert_eq!(generated("cluster", [0, 23]), "alpha-24-cluster");
        assert!(is_cluster_name(&generated("cluster", [255, 255])));
    }
}
