//! Is the image one that some driver boots?

use std::sync::Arc;

use super::{Judgement, Look, Scene};
use crate::conductor::os_distro;
use crate::driver::Driver;
use crate::model::cluster_template::ClusterTemplate;
use crate::openstack::{Actor, Found, Image};

pub async fn check(scene: &Scene) -> Look {
    let actor = scene.actor().await?;
    let image = find(scene, &actor).await?;
    let template = scene.template().expect("asked about one");
    let driver = driver(scene, template, &image)?;
    let tag = template.labels.get("kube_tag");
    Ok(judge(&image, driver.name(), tag))
}

/// The image of the template, usable as far as Glance goes.
pub async fn find(scene: &Scene, actor: &Actor) -> Result<Image, Judgement> {
    let wanted = scene.template().map_or("", |template| &template.image_id);
    if wanted.is_empty() {
        return Err(Judgement::fail("no image is named", "add --image NAME, or name a template"));
    }
    match scene.cloud.image(actor, wanted).await? {
        Found::One(image) if image.status == "active" => Ok(image),
        Found::One(image) => Err(Judgement::fail(
            format!("image {wanted} is {}, not active", image.status),
            format!("openstack image show {wanted}; upload it again"),
        )),
        Found::None => Err(Judgement::fail(
            format!("there is no image {wanted}"),
            "openstack image list; then correct image_id in the cluster template",
        )),
        Found::Several => Err(Judgement::fail(
            format!("several images are called {wanted}"),
            "give the id of one in image_id of the cluster template",
        )),
    }
}

/// The driver that its clusters would get.
pub fn driver(
    scene: &Scene,
    template: &ClusterTemplate,
    image: &Image,
) -> Result<Arc<Driver>, Judgement> {
    let distro = os_distro(image, &template.image_id).map_err(|refusal| {
        let sentence = refusal.to_string();
        let (what, cure) = sentence.split_once(". ").unwrap_or((&sentence, "set os_distro"));
        Judgement::fail(what, cure)
    })?;
    let fallback = scene.config.drivers.default.as_deref();
    let image_driver = image.magnum_driver.as_deref().or(fallback);
    let requested = template.driver.as_deref();
    let (server_type, coe) = (template.server_type, template.coe);
    scene.drivers.select(requested, image_driver, server_type, &distro, coe).map_err(|e| {
        let known: Vec<&str> = scene.drivers.names().collect();
        Judgement::fail(
            format!("no driver boots image {}: {e}", template.image_id),
            format!(
                "choose an image with another os_distro, or correct the property if it is wrong; \
                 drivers here: {}",
                known.join(", ")
            ),
        )
    })
}

fn judge(image: &Image, driver: &str, tag: Option<&str>) -> Judgement {
    let distro = image.os_distro.as_deref().unwrap_or_default();
    let version = image.kube_version.as_deref();
    if let (Some(version), Some(tag)) = (version, tag)
        && minor(version) != minor(tag)
    {
        return Judgement::fail(
            format!("image {} has Kubernetes {version}, but kube_tag asks for {tag}", image.name),
            "drop the label kube_tag, or choose an image of that version",
        );
    }
    let version = version.or(tag).map(|v| format!(", Kubernetes {v}")).unwrap_or_default();
    Judgement::ok(format!("{} is {distro}{version}; driver {driver} boots it", image.name))
}

/// `v1.31` of `1.31.4`.
fn minor(version: &str) -> (Option<&str>, Option<&str>) {
    let mut parts = version.trim_start_matches('v').split('.');
    (parts.next(), parts.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Verdict;

    #[test]
    fn the_image_and_the_label_must_agree() {
        let image = |kube_version: Option<&str>| Image {
            id: "i".to_owned(),
            name: "ubuntu".to_owned(),
            status: "active".to_owned(),
            os_distro: Some("ubuntu".to_owned()),
            kube_version: kube_version.map(str::to_owned),
            magnum_driver: None,
            min_disk: 0,
            min_ram: 0,
        };
        let said = judge(&image(Some("v1.31.4")), "d", Some("1.31.9"));
        assert_eq!(said.sentence, "ubuntu is ubuntu, Kubernetes v1.31.4; driver d boots it");
        assert_eq!(judge(&image(Some("v1.31.4")), "d", Some("v1.30.1")).verdict, Verdict::Fail);
        assert_eq!(judge(&image(None), "d", None).sentence, "ubuntu is ubuntu; driver d boots it");
    }
}
