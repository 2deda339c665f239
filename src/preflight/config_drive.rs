//! Do servers learn who they are: from a config drive, or from the metadata service?

use serde_json::Value;

use super::{Judgement, Look, Scene};

pub async fn check(scene: &Scene) -> Look {
    let drawing = scene.drawing_or_unseen().await?;
    let texts = std::iter::once(&drawing.bundle.template).chain(drawing.bundle.files.values());
    let templates = texts.filter_map(|text| serde_saphyr::from_str::<Value>(text).ok());
    let without = templates.flat_map(|t| without_drive(&t["resources"])).collect::<Vec<_>>();
    Ok(judge(&without))
}

/// Names of the servers that get none.
fn without_drive(resources: &Value) -> Vec<String> {
    let all = resources.as_object().into_iter().flatten();
    all.filter(|(_, resource)| {
        let definition = &resource["properties"]["resource_def"];
        let server = if definition.is_object() { definition } else { *resource };
        server["type"] == "OS::Nova::Server" && server["properties"]["config_drive"] != true
    })
    .map(|(name, _)| name.clone())
    .collect()
}

fn judge(without: &[String]) -> Judgement {
    match without.is_empty() {
        true => Judgement::ok(
            "every server gets a config drive, so none needs the metadata service; --deep boots \
             one to prove it",
        ),
        false => Judgement::warn(
            format!("{} get no config drive and need the metadata service", without.join(", ")),
            "see that a metadata agent runs: openstack network agent list; or use a driver that \
             sets config_drive",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;
    use serde_json::json;

    #[test]
    fn servers_without_a_drive_are_named() {
        let server = |drive: bool| json!({"type": "OS::Nova::Server", "properties": {"config_drive": drive}});
        let resources = json!({"a": server(true), "b": server(false), "net": {"type": "x"},
            "group": {"type": "OS::Heat::ResourceGroup",
                      "properties": {"resource_def": server(false)}}});
        assert_eq!(without_drive(&resources), ["b", "group"]);
        assert_eq!(judge(&without_drive(&resources)).verdict, Verdict::Warn);
        assert_eq!(judge(&[]).verdict, Verdict::Ok);
    }
}
