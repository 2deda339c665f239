//! Labels: free text that drivers read as typed settings.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use serde::{Deserialize, Serialize};

/// Most labels of one thing, and most bytes of all their names and values together. Magnum's
/// database holds as many bytes; drivers know some hundred labels.
pub const MOST_LABELS: usize = 512;
pub const MOST_LABEL_BYTES: usize = 64 << 10;

/// A map of label names to text values, sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels(BTreeMap<String, String>);

/// What becomes of labels that no driver reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownLabels {
    /// They are taken, and the cluster's status says that they have no effect.
    #[default]
    Warn,
    Refuse,
}

impl UnknownLabels {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Refuse => "refuse",
        }
    }
}

/// What a set of labels changes of its parent's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelDiff {
    /// Set in both with another value; the value shown is the parent's.
    pub overridden: Labels,
    /// Not set in the parent.
    pub added: Labels,
    /// Set in the parent only.
    pub skipped: Labels,
}

impl Labels {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub fn iter(&self) -> Iter<'_, String, String> {
        self.0.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are, and the bytes of all names and values.
    pub fn size(&self) -> (usize, usize) {
        (self.0.len(), self.0.iter().map(|(name, value)| name.len() + value.len()).sum())
    }

    /// Why they are too many or too long to be kept: how much there is, how much may be.
    pub fn check_size(&self) -> Result<(), String> {
        match self.size() {
            (count, _) if count > MOST_LABELS => {
                Err(format!("{count} entries are given, and at most {MOST_LABELS} are kept."))
            }
            (_, bytes) if bytes > MOST_LABEL_BYTES => Err(format!(
                "Names and values have {bytes} bytes together, and at most {MOST_LABEL_BYTES} are \
                 kept."
            )),
            _ => Ok(()),
        }
    }

    /// These labels laid over `parent`'s.
    pub fn over(&self, parent: &Self) -> Self {
        let mut merged = parent.0.clone();
        merged.extend(self.0.clone());
        Self(merged)
    }

    pub fn diff(&self, parent: &Self) -> LabelDiff {
        let mut diff = LabelDiff::default();
        for (name, value) in &self.0 {
            match parent.get(name) {
                None => diff.added.insert(name, value),
                Some(theirs) if theirs != value => diff.overridden.insert(name, theirs),
                Some(_) => {}
            }
        }
        for (name, value) in parent.iter().filter(|(name, _)| self.get(name).is_none()) {
            diff.skipped.insert(name, value);
        }
        diff
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_told_with_the_limit() {
        let many = |count: usize| Labels::from_iter((0..count).map(|n| (n.to_string(), "x")));
        assert_eq!(many(MOST_LABELS).check_size(), Ok(()));
        let refused = many(MOST_LABELS + 1).check_size().unwrap_err();
        assert_eq!(refused, "513 entries are given, and at most 512 are kept.");
        let long = |bytes: usize| Labels::from_iter([("name", "x".repeat(bytes - 4))]);
        assert_eq!(long(MOST_LABEL_BYTES).check_size(), Ok(()));
        let refused = long(MOST_LABEL_BYTES + 1).check_size().unwrap_err();
        assert!(refused.contains("65537 bytes together, and at most 65536"), "{refused}");
    }

    #[test]
    fn the_difference_names_what_changed() {
        let parent = Labels::from_iter([("kube_tag", "v1.30"), ("a", "1"), ("same", "x")]);
        let own = Labels::from_iter([("kube_tag", "v1.31"), ("b", "2"), ("same", "x")]);
        let diff = own.diff(&parent);
        assert_eq!(diff.overridden, Labels::from_iter([("kube_tag", "v1.30")]));
        assert_eq!(diff.added, Labels::from_iter([("b", "2")]));
        assert_eq!(diff.skipped, Labels::from_iter([("a", "1")]));
        assert_eq!(own.over(&parent).iter().count(), 4);
    }
}
