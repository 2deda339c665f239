//! What clients of upstream really sent: the material of every target.

use serde::Deserialize;
use serde_json::Value;

/// One recorded request.
#[derive(Clone, Debug)]
pub struct Sample {
    pub method: String,
    pub path: String,
    pub body: Value,
}

/// Every recorded request, and the words that occur in their bodies.
#[derive(Clone, Debug)]
pub struct Corpus {
    pub samples: Vec<Sample>,
    pub keys: Vec<String>,
    pub values: Vec<Value>,
}

/// What of the recording stands for what of the lab.
pub struct Names<'n> {
    pub template: &'n str,
    pub cluster: &'n str,
    pub project: &'n str,
}

#[derive(Deserialize)]
struct Exchange {
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    path: String,
    body: Option<Value>,
}

impl Corpus {
    /// The recording, with the lab's names in place of those that it knew.
    pub fn read(names: &Names<'_>) -> Self {
        let text = include_str!("../golden/api.jsonl")
            .replace("fedora-coreos", "ubuntu")
            .replace("k8s_fedora_coreos_v1", "k8s_kubeadm_v1")
            .replace("6df8f1a8-62dd-414b-ab77-11bacf35bfeb", names.template)
            .replace("b587466d-6b1b-45bf-9930-ef73517b02ca", names.template)
            .replace("e6150d1f-3cbe-4585-afcf-807ecfd32d7e", names.cluster);
        let mut corpus = Self { samples: Vec::new(), keys: Vec::new(), values: Vec::new() };
        for line in text.lines() {
            let Request { method, path, body } =
                serde_json::from_str::<Exchange>(line).unwrap().request;
            let body = body.unwrap_or_default();
            corpus.gather(&body);
            corpus.samples.push(Sample { method, path, body });
        }
        corpus.values.push(Value::from(names.project));
        corpus.keys.sort();
        corpus.keys.dedup();
        assert!(corpus.samples.len() > 300 && corpus.keys.len() > 50, "the recording is there");
        corpus
    }

    pub fn of(&self, methods: &[&str], has: impl Fn(&Sample) -> bool) -> Vec<Sample> {
        let wanted = |s: &&Sample| methods.contains(&s.method.as_str()) && has(s);
        let found: Vec<Sample> = self.samples.iter().filter(wanted).cloned().collect();
        assert!(!found.is_empty(), "nothing like it is in the recording");
        found
    }

    fn gather(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    self.keys.push(key.clone());
                    self.gather(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.gather(item)),
            leaf => self.values.push(leaf.clone()),
        }
    }
}
