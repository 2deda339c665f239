//! Bundle: what is handed to Heat, and the files nodes fetch.

use std::collections::BTreeMap;

use serde_json::Value;

/// A stack to be made.
#[derive(Clone, PartialEq)]
pub struct Bundle {
    /// HOT, as YAML text.
    pub template: String,
    pub parameters: BTreeMap<String, Value>,
    /// What `get_file` finds, by the name the template uses.
    pub files: BTreeMap<String, String>,
}

impl std::fmt::Debug for Bundle {
    /// The files are user data, and that contains enrolment tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<(&String, usize)> = self.files.iter().map(|(k, v)| (k, v.len())).collect();
        f.debug_struct("Bundle")
            .field("template_bytes", &self.template.len())
            .field("parameters", &self.parameters)
            .field("file_bytes", &files)
            .finish()
    }
}

/// One file of a node's bundle.
#[derive(Clone, PartialEq, Eq)]
pub struct BundleFile {
    /// Relative to the bundle's root.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    pub content: Vec<u8>,
}

impl std::fmt::Debug for BundleFile {
    /// The content may be a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BundleFile")
            .field("path", &self.path)
            .field("mode", &self.mode)
            .field("bytes", &self.content.len())
            .finish()
    }
}
