//! Reading one page of `GET /api/v1/nodes`. Pure.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// A node as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// Its condition `Ready` is `True`; `Unknown`, or none at all, is not.
    pub is_ready: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub nodes: Vec<Node>,
    /// What to ask for next, ready for a URL; None at the end.
    pub next: Option<String>,
}

/// As long as Kubernetes lets an object's name be.
const LONGEST_NAME: usize = 253;
/// Tokens hold a version and the last key.
const LONGEST_TOKEN: usize = 2048;

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    metadata: ListMeta,
    items: Vec<Item>,
}

#[derive(Default, Deserialize)]
struct ListMeta {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    metadata: ItemMeta,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct ItemMeta {
    name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// The nodes in one answer, or why it is none.
pub(super) fn read(body: &[u8]) -> Result<Page, String> {
    let list: List = serde_json::from_slice(body).map_err(|e| format!("not a node list: {e}"))?;
    let nodes = list.items.into_iter().map(node).collect::<Result<_, _>>()?;
    let next = list.metadata.next.filter(|token| !token.is_empty());
    if next.as_ref().is_some_and(|token| token.len() > LONGEST_TOKEN) {
        return Err(format!("a continue token of more than {LONGEST_TOKEN} bytes"));
    }
    let next = next.map(|token| utf8_percent_encode(&token, NON_ALPHANUMERIC).to_string());
    Ok(Page { nodes, next })
}

fn node(item: Item) -> Result<Node, String> {
    let name = item.metadata.name;
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(fits) {
        return Err("a node whose name Kubernetes does not allow".to_owned());
    }
    let conditions = item.status.conditions.unwrap_or_default();
    let mut said = conditions.iter().filter(|c| c.kind == "Ready").peekable();
    let is_ready = said.peek().is_some() && said.all(|c| c.status == "True");
    Ok(Node { name, is_ready })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn list(items: &serde_json::Value) -> Result<Vec<(String, bool)>, String> {
        let body =
            json!({"kind": "NodeList", "metadata": {"resourceVersion": "7"}, "items": items});
        let page = read(body.to_string().as_bytes())?;
        Ok(page.nodes.into_iter().map(|n| (n.name, n.is_ready)).collect())
    }

    #[test]
    fn only_a_node_that_says_true_is_ready() {
        let with = |conditions: serde_json::Value| {
            let items = json!([{"metadata": {"name": "n"}, "status": {"conditions": conditions}}]);
            list(&items).unwrap()[0].1
        };
        let ready = |status: &str| json!({"type": "Ready", "status": status});
        assert!(with(json!([{"type": "DiskPressure", "status": "False"}, ready("True")])));
        for not in [
            json!([ready("False")]),
            json!([ready("Unknown")]),
            json!([ready("true")]),
            json!([{"type": "DiskPressure", "status": "True"}]),
            json!([]),
            json!(null),
            // Whoever says both says nothing.
            json!([ready("True"), ready("False")]),
        ] {
            assert!(!with(not.clone()), "{not}");
        }
        assert_eq!(list(&json!([{"metadata": {"name": "n"}}])).unwrap(), [("n".to_owned(), false)]);
        assert_eq!(list(&json!([])).unwrap(), []);
    }

    #[test]
    fn the_next_page_is_asked_for_as_it_was_told() {
        let with = |token: serde_json::Value| {
            let body = json!({"metadata": {"continue": token}, "items": []});
            read(body.to_string().as_bytes()).map(|page| page.next)
        };
        assert_eq!(with(json!("eyJ2IjoibWV0YSJ9==")), Ok(Some("eyJ2IjoibWV0YSJ9%3D%3D".into())));
        assert_eq!(with(json!("a&limit=0\r\n")), Ok(Some("a%26limit%3D0%0D%0A".into())));
        assert_eq!(with(json!("")), Ok(None));
        assert_eq!(with(json!(null)), Ok(None));
        assert!(with(json!("x".repeat(3000))).is_err());
    }

    #[test]
    fn hostile_answers_are_refused_in_words() {
        let deep = format!("{{\"items\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let named = |name: String| json!({"items": [{"metadata": {"name": name}}]}).to_string();
        for body in [
            "",
            "ok",
            "[]",
            "{}",
            "\u{0}",
            r#"{"kind":"Status","status":"Failure","message":"no"}"#,
            r#"{"items":null}"#,
            r#"{"items":[null]}"#,
            r#"{"items":[{}]}"#,
            r#"{"items":[{"metadata":{"name":7}}]}"#,
            r#"{"items":[{"metadata":{"name":"n"},"status":{"conditions":[{"type":"Ready"}]}}]}"#,
            r#"{"items":[{"metadata":{"name":"n"},"status":{"conditions":{"Ready":"True"}}}]}"#,
            &deep,
            &named(String::new()),
            &named("a b".to_owned()),
            &named("<script>".to_owned()),
            &named("n".repeat(254)),
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body:.80}");
        }
        assert!(read(&[0xff, 0xfe]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&body);
        }

        #[test]
        fn what_is_like_a_list_gives_names_that_are_names(
            body in r#"\{"items":\[(\{"metadata":\{"name":"[a-zA-Z .<]{0,4}"\},?("status":\{"conditions":(null|\[\])\})?\},?){0,3}\]\}"#
        ) {
            if let Ok(page) = read(body.as_bytes()) {
                for node in page.nodes {
                    prop_assert!(!node.name.is_empty() && !node.name.contains([' ', '<']));
                    prop_assert!(!node.is_ready);
                }
            }
        }
    }
}
