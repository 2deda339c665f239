//! Does the driver draw the stack, and does Heat take it?

use super::{Judgement, Look, Scene, Verdict};
use crate::openstack::{CloudError, NewStack};

/// Heat's defaults; it does not tell its own.
const MOST_RESOURCES: u64 = 1000;
const LARGEST_TEMPLATE: usize = 512 * 1024;

pub async fn check(scene: &Scene) -> Look {
    let drawing = scene.drawing().await?;
    let actor = scene.actor().await?;
    let heat = scene.cloud.heat(&actor).await?;
    let stack = NewStack {
        name: "magnumd-preflight",
        template: &drawing.bundle.template,
        parameters: &drawing.bundle.parameters,
        files: &drawing.bundle.files,
        timeout_minutes: 60,
        tag: "magnumd-preflight",
    };
    let refusal = match heat.validate(&stack).await {
        Ok(()) => None,
        Err(CloudError::Refused { reason, status: 400.., .. }) => Some(reason),
        Err(e) => return Err(e.into()),
    };
    let (resources, bytes) = (drawing.census.resources(), drawing.census.bytes);
    let judgement = judge(&drawing.driver, resources, bytes, refusal.as_deref());
    Ok(match (&drawing.warnings, judgement.verdict) {
        (Some(warnings), Verdict::Ok) => Judgement::warn(
            warnings.trim_end_matches('.'),
            format!("magnumd driver show {} tells which labels there are", drawing.driver),
        ),
        _ => judgement,
    })
}

fn judge(driver: &str, resources: u64, bytes: usize, refusal: Option<&str>) -> Judgement {
    let kib = bytes.div_ceil(1024);
    if let Some(reason) = refusal {
        return Judgement::fail(
            format!("Heat does not take the stack of driver {driver}: {reason}"),
            "correct what Heat names in the cluster template; look at the line heat",
        );
    }
    let sentence =
        format!("{driver} draws {resources} resources in {kib} KiB, and Heat takes them");
    if resources > MOST_RESOURCES || bytes > LARGEST_TEMPLATE {
        return Judgement::warn(
            format!("{sentence}; its defaults are {MOST_RESOURCES} and 512"),
            "see max_resources_per_stack and max_template_size of heat.conf, or ask for fewer nodes",
        );
    }
    if 10 * resources > 8 * MOST_RESOURCES {
        return Judgement::warn(
            format!("{sentence}; its default is {MOST_RESOURCES}, so there is little room to grow"),
            "raise max_resources_per_stack in heat.conf, or put workers into further node groups",
        );
    }
    Judgement::ok(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heats_own_words_come_first() {
        assert_eq!(
            judge("d", 12, 5000, None),
            Judgement::ok("d draws 12 resources in 5 KiB, and Heat takes them")
        );
        let refused = judge("d", 12, 5000, Some("no flavor x"));
        assert_eq!(refused.verdict, Verdict::Fail);
        assert!(refused.sentence.ends_with("of driver d: no flavor x"), "{}", refused.sentence);
        assert_eq!(judge("d", 900, 5000, None).verdict, Verdict::Warn);
        assert!(judge("d", 1200, 5000, None).sentence.contains("defaults are 1000 and 512"));
    }
}
