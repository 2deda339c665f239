//! Versions of Kubernetes, as labels and images write them.

use std::str::FromStr;

/// A Kubernetes version: `v1.`, two numbers, perhaps a distributor's suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeVersion {
    pub minor: u32,
    pub patch: u32,
    text: String,
}

impl KubeVersion {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Without the suffix: equal for all that are made of the same release.
    pub fn release(&self) -> String {
        format!("v1.{}.{}", self.minor, self.patch)
    }
}

impl FromStr for KubeVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (minor, rest) = text.strip_prefix("v1.").and_then(|t| t.split_once('.')).ok_or(())?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (patch, suffix) = rest.split_at(end);
        let plain = suffix.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b));
        if !plain || text.len() > 64 || minor.starts_with('+') {
            return Err(());
        }
        let number = |digits: &str| digits.parse().map_err(|_| ());
        Ok(Self { minor: number(minor)?, patch: number(patch)?, text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let v: KubeVersion = "v1.31.4".parse().unwrap();
        assert_eq!((v.minor, v.patch), (31, 4));
        assert_eq!("v1.31.4-vendor1".parse::<KubeVersion>().unwrap().release(), v.release());
        for bad in ["1.31.4", "v1.31", "v2.0.0", "v1.31.x", "v1.31.4$(x)", "v1.+1.2", "v1..", ""] {
            assert!(bad.parse::<KubeVersion>().is_err(), "{bad}");
        }
    }
}
