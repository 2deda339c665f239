//! The bundle as a node unpacks it, and what of it makes an API server.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Component;

use serde::Deserialize;

use super::kubernetes;

/// Files by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Bundle(BTreeMap<String, Vec<u8>>);

/// What kubeadm would be told about the API server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kubeadm {
    /// Names and addresses that its certificate must hold.
    pub names: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    #[serde(rename = "localAPIEndpoint")]
    endpoint: Option<Endpoint>,
    api_server: Option<ApiServer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    advertise_address: String,
}

#[derive(Deserialize)]
struct ApiServer {
    #[serde(rename = "certSANs", default)]
    names: Vec<String>,
}

impl Bundle {
    /// A tar of relative paths.
    pub fn unpack(tar: &[u8]) -> Result<Self, String> {
        let broken = |e: std::io::Error| format!("the bundle is no tar: {e}");
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(tar).entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let path = entry.path().map_err(broken)?.into_owned();
            let leads_out =
                path.components().any(|c| !matches!(c, Component::Normal(_) | Component::CurDir));
            if leads_out {
                return Err(format!("the bundle's '{}' leads out of it", path.display()));
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(broken)?;
            files.insert(path.display().to_string(), content);
        }
        Ok(Self(files))
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn text(&self, path: &str) -> Result<&str, String> {
        let content = self.0.get(path).ok_or_else(|| format!("the bundle lacks {path}"))?;
        std::str::from_utf8(content).map_err(|_| format!("the bundle's {path} is not text"))
    }

    /// Puts a file in the place of the one that was there.
    pub fn put(&mut self, path: &str, content: &str) {
        self.0.insert(path.to_owned(), content.as_bytes().to_vec());
    }

    /// Of Kubernetes.
    pub fn version(&self) -> String {
        kubernetes::version(self.text("env").unwrap_or_default())
    }

    /// The newest of the configurations that are offered.
    pub fn kubeadm(&self) -> Result<Kubeadm, String> {
        let offered = |path: &&String| path.starts_with("kubeadm/");
        let newest = self.0.keys().rfind(offered).ok_or("the bundle lacks kubeadm's settings")?;
        let documents: Vec<Document> = serde_saphyr::from_multiple(self.text(newest)?)
            .map_err(|e| format!("the bundle's {newest} is not valid YAML: {e}"))?;
        let mut names = Vec::new();
        for document in documents {
            names.extend(document.endpoint.map(|e| e.advertise_address));
            names.extend(document.api_server.into_iter().flat_map(|a| a.names));
        }
        match names.is_empty() {
            true => Err(format!("the bundle's {newest} gives the API server no name")),
            false => Ok(Kubeadm { names }),
        }
    }
}

#[cfg(test)]
pub(in crate::lab) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_settings_name_the_api_server() {
        let old = "apiServer:\n  certSANs: [old]\n";
        let new = "kind: InitConfiguration\nlocalAPIEndpoint:\n  advertiseAddress: \"10.0.0.5\"\n\
            ---\napiServer:\n  certSANs: [\"127.9.0.4\", k1]\nversion: '@V@'\n---\nkind: Other\n";
        let files = [("kubeadm/v1beta3.yaml", old), ("kubeadm/v1beta4.yaml", new), ("env", "")];
        let bundle = Bundle::unpack(&tar(&files)).unwrap();
        assert_eq!(bundle.count(), 3);
        assert_eq!(bundle.kubeadm().unwrap().names, ["10.0.0.5", "127.9.0.4", "k1"]);
        assert!(bundle.text("pki/ca.key").unwrap_err().contains("pki/ca.key"));
    }

    #[test]
    fn a_broken_bundle_is_told_from_a_whole_one() {
        assert!(Bundle::unpack(b"no tar at all").unwrap_err().contains("no tar"));
        let nameless = Bundle::unpack(&tar(&[("kubeadm/v1beta4.yaml", "kind: x")])).unwrap();
        assert!(nameless.kubeadm().unwrap_err().contains("no name"));
        let broken = Bundle::unpack(&tar(&[("kubeadm/v1beta4.yaml", "[")])).unwrap();
        assert!(broken.kubeadm().unwrap_err().contains("not valid"));
        assert!(Bundle::unpack(&tar(&[])).unwrap().kubeadm().is_err());
    }
}
