//! Every table and index of the state file, on one page.
//!
//! Keys are raw bytes so that ranges follow ownership: UUIDs as 16 bytes,
//! numbers big-endian, text followed by a NUL where something comes after it.
//! Values are `version byte · revision u64 LE · digest · bincode body`; an index holds
//! nothing but its keys, and each of those ends with the key of the record that it leads to.

use redb::TableDefinition;

/// Schema number, key check and high-water marks.
pub const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub const SCHEMA: &str = "schema";
pub const KEY_CHECK: &str = "key_check";
pub const SEQUENCE: &str = "sequence";
/// How many commits there were: what the mark beside the file is compared with.
pub const COMMITS: &str = "commits";
/// The name of this state, drawn when it was made; a restored one keeps it.
pub const INSTANCE: &str = "instance";

pub type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Records.
pub const CLUSTER_TEMPLATE: &str = "cluster_template";
pub const CLUSTER: &str = "cluster";
pub const NODEGROUP: &str = "nodegroup";
pub const CERTIFICATE: &str = "certificate";
pub const CREDENTIAL: &str = "credential";
pub const FACTS: &str = "facts";
pub const OPERATION: &str = "operation";
pub const DISCOVERY: &str = "discovery";
pub const NODE: &str = "node";
/// With which key a node speaks.
pub const NODE_KEY: &str = "node_key";
pub const DUTY: &str = "duty";
/// What nodes need to join, sealed.
pub const JOIN: &str = "join";
pub const ROLLOUT: &str = "rollout";
pub const NEXT_CERTIFICATE: &str = "next_certificate";
/// Since when nodes are waited for.
pub const NODE_WAIT: &str = "vigil";
/// Which update a stack has got last.
pub const STACK_REVISION: &str = "stack_revision";
pub const DRIVER: &str = "driver";
pub const CLUSTER_DRIVER: &str = "cluster_driver";
pub const SERVICE: &str = "service";
pub const QUOTA: &str = "quota";
/// Keys of the daemon itself, sealed.
pub const KEYRING: &str = "keyring";

/// Indexes; each names the record table it leads to.
pub const CLUSTER_BY_SEQUENCE: &str = "cluster_by_sequence";
pub const CLUSTER_BY_PROJECT: &str = "cluster_by_project";
pub const CLUSTER_BY_NAME: &str = "cluster_by_name";
pub const CLUSTER_BY_TEMPLATE: &str = "cluster_by_template";
pub const CLUSTER_BY_DRIVER: &str = "cluster_by_driver";
pub const TEMPLATE_BY_SEQUENCE: &str = "template_by_sequence";
pub const TEMPLATE_BY_PROJECT: &str = "template_by_project";
pub const TEMPLATE_BY_NAME: &str = "template_by_name";
pub const TEMPLATE_PUBLIC: &str = "template_public";
pub const OPERATION_BY_CLUSTER: &str = "operation_by_cluster";
pub const DISCOVERY_BY_CLUSTER: &str = "discovery_by_cluster";

/// Every index. Tables of records are listed with what they hold: [`super::record_kind::KINDS`].
pub const INDEXES: [&str; 11] = [
    CLUSTER_BY_SEQUENCE,
    CLUSTER_BY_PROJECT,
    CLUSTER_BY_NAME,
    CLUSTER_BY_TEMPLATE,
    CLUSTER_BY_DRIVER,
    TEMPLATE_BY_SEQUENCE,
    TEMPLATE_BY_PROJECT,
    TEMPLATE_BY_NAME,
    TEMPLATE_PUBLIC,
    OPERATION_BY_CLUSTER,
    DISCOVERY_BY_CLUSTER,
];

pub const fn definition(name: &'static str) -> Bytes {
    TableDefinition::new(name)
}

/// The indexes that lead to records of a table.
pub fn indexes_to(table: &str) -> &'static [&'static str] {
    match table {
        CLUSTER => &[CLUSTER_BY_SEQUENCE, CLUSTER_BY_PROJECT, CLUSTER_BY_NAME, CLUSTER_BY_TEMPLATE],
        CLUSTER_TEMPLATE => {
            &[TEMPLATE_BY_SEQUENCE, TEMPLATE_BY_PROJECT, TEMPLATE_BY_NAME, TEMPLATE_PUBLIC]
        }
        CLUSTER_DRIVER => &[CLUSTER_BY_DRIVER],
        OPERATION => &[OPERATION_BY_CLUSTER],
        DISCOVERY => &[DISCOVERY_BY_CLUSTER],
        _ => &[],
    }
}

/// A key as an administrator reads it: its UUIDs, texts and numbers. Of a discovery token, which
/// opens a cluster's etcd to whoever knows it, no more than a log may know.
pub fn shown(table: &str, key: &[u8]) -> String {
    let is_secret = matches!(table, DISCOVERY | DISCOVERY_BY_CLUSTER);
    joined(key, |text| match is_secret {
        true => format!("{}…", text.get(..8).unwrap_or_default()),
        false => text.to_owned(),
    })
}

/// A key as anybody may read it: its UUIDs and numbers, and no word of a tenant's.
pub fn anonymous(key: &[u8]) -> String {
    joined(key, |_| "…".to_owned())
}

fn joined(key: &[u8], word: impl Fn(&str) -> String) -> String {
    let mut parts = Vec::new();
    let mut rest = key;
    loop {
        let text = rest.iter().position(|b| *b == 0).and_then(|end| {
            let text = std::str::from_utf8(&rest[..end]).ok()?;
            text.bytes().all(|b| (0x20..0x7f).contains(&b)).then_some((text, end + 1))
        });
        let (part, used) = match (text, rest.len()) {
            (_, 0) => break parts.join("/"),
            (Some((text, used)), _) if used > 1 => (word(text), used),
            (_, 8) => (u64::from_be_bytes(rest.try_into().expect("8 bytes")).to_string(), 8),
            (_, 1) => (rest[0].to_string(), 1),
            (_, 16..) => {
                let id: [u8; 16] = rest[..16].try_into().expect("16 bytes");
                (uuid::Uuid::from_bytes(id).to_string(), 16)
            }
            (_, all) => (rest.iter().map(|b| format!("{b:02x}")).collect(), all),
        };
        parts.push(part);
        rest = &rest[used..];
    }
}

/// A key built from parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub Vec<u8>);

impl Key {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn uuid(mut self, id: uuid::Uuid) -> Self {
        self.0.extend_from_slice(id.as_bytes());
        self
    }

    pub fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// Text and a NUL, so that no text is a prefix of another.
    pub fn text(mut self, text: &str) -> Self {
        self.0.extend(text.bytes().filter(|b| *b != 0));
        self.0.push(0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_by_their_parts() {
        let id = uuid::Uuid::from_u128(0xfedc << 112 | 1);
        let table = [
            (Key::new().uuid(id), "fedc0000-0000-0000-0000-000000000001"),
            (Key::new().uuid(id).byte(4), "fedc0000-0000-0000-0000-000000000001/4"),
            (Key::new().uuid(id).text("m-0"), "fedc0000-0000-0000-0000-000000000001/m-0"),
            (Key::new().number(77), "77"),
            (Key::new().text("project"), "project"),
            (Key(vec![0xff, 0xee]), "ffee"),
            (Key::new(), ""),
        ];
        for (key, wanted) in table {
            assert_eq!(shown(CLUSTER, &key.0), wanted);
        }
        let token = Key::new().uuid(id).text("0123456789abcdef0123456789abcdef");
        assert!(shown(DISCOVERY_BY_CLUSTER, &token.0).ends_with("0001/01234567…"));
        assert!(anonymous(&Key::new().uuid(id).text("m-0").0).ends_with("0001/…"));
    }
}
