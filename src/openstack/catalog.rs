//! The service catalogue: endpoints by type, interface and region.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Service;

/// The endpoints of one token, whose project id appears in some URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    endpoints: Vec<Endpoint>,
    project_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    kind: String,
    interface: String,
    region: String,
    url: String,
}

/// Which of a service's endpoints to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub interface: String,
    /// None is enough where the service is in one region, or has one address for all.
    pub region: Option<String>,
}

/// Why no endpoint can be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoEndpoint {
    /// There is none that fits.
    Missing,
    /// These regions have one each, and none was chosen.
    Several(Vec<String>),
}

impl Catalog {
    /// Reads the `catalog` list of a token for a project.
    pub fn parse(catalog: &Value, project_id: &str) -> Self {
        let mut endpoints = Vec::new();
        for service in catalog.as_array().into_iter().flatten() {
            let kind = service["type"].as_str().unwrap_or_default();
            for endpoint in service["endpoints"].as_array().into_iter().flatten() {
                let text = |key: &str| endpoint[key].as_str().unwrap_or_default().to_owned();
                endpoints.push(Endpoint {
                    kind: kind.to_owned(),
                    interface: text("interface"),
                    region: text("region_id"),
                    url: text("url").trim_end_matches('/').to_owned(),
                });
            }
        }
        Self { endpoints, project_id: project_id.to_owned() }
    }

    /// The endpoint for `project`, without a trailing slash.
    ///
    /// Some URLs carry the project's id; this catalogue's own is replaced, so that one
    /// catalogue serves every tenant.
    pub fn url(
        &self,
        service: Service,
        select: &Selection,
        project: &str,
    ) -> Result<String, NoEndpoint> {
        let fits = |endpoint: &&Endpoint| {
            endpoint.interface == select.interface
                && select.region.as_ref().is_none_or(|region| *region == endpoint.region)
        };
        // Of each region the official type's first.
        let mut found: BTreeMap<&str, &Endpoint> = BTreeMap::new();
        for kind in service.types() {
            for endpoint in self.endpoints.iter().filter(|e| e.kind == *kind).filter(fits) {
                found.entry(&endpoint.region).or_insert(endpoint);
            }
        }
        let Some((_, first)) = found.first_key_value() else { return Err(NoEndpoint::Missing) };
        // One Keystone for all regions is entered in each of them.
        if found.values().any(|other| other.url != first.url) {
            let regions = found.into_keys().map(str::to_owned).collect();
            return Err(NoEndpoint::Several(regions));
        }
        Ok(match self.project_id.is_empty() {
            true => first.url.clone(),
            false => first.url.replace(&self.project_id, project),
        })
    }

    /// Whether the service is there; with a region, whether it is there in that one.
    pub fn has(&self, service: Service, region: Option<&str>) -> bool {
        self.endpoints.iter().any(|e| {
            service.types().contains(&e.kind.as_str()) && region.is_none_or(|r| r == e.region)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_by_type_interface_and_region_for_any_project() {
        let catalog = Catalog::parse(
            &json!([
                {"type": "orchestration", "endpoints": [
                    {"interface": "public", "region_id": "One", "url": "http://one:8004/v1/abc/"},
                    {"interface": "public", "region_id": "Two", "url": "http://two:8004/v1/abc"},
                    {"interface": "internal", "region_id": "One", "url": "http://in:8004/v1/abc"}]},
                {"type": "volumev3", "endpoints": [
                    {"interface": "public", "region_id": "One", "url": "http://cinder/v3"}]},
            ]),
            "abc",
        );
        let select = |interface: &str, region: Option<&str>| Selection {
            interface: interface.to_owned(),
            region: region.map(str::to_owned),
        };
        let heat = |s: Selection| catalog.url(Service::Heat, &s, "tenant");
        assert_eq!(heat(select("public", Some("One"))).unwrap(), "http://one:8004/v1/tenant");
        assert_eq!(heat(select("public", Some("Two"))).unwrap(), "http://two:8004/v1/tenant");
        assert_eq!(heat(select("internal", None)).unwrap(), "http://in:8004/v1/tenant");
        assert_eq!(heat(select("admin", None)), Err(NoEndpoint::Missing));
        assert!(catalog.has(Service::Cinder, None) && !catalog.has(Service::Octavia, None));
        assert!(catalog.has(Service::Cinder, Some("One")));
        assert!(!catalog.has(Service::Cinder, Some("Two")));
    }

    #[test]
    fn between_regions_nobody_guesses() {
        let endpoint = |region: &str, url: &str| json!({"interface": "public", "region_id": region, "url": url});
        let catalog = Catalog::parse(
            &json!([
                {"type": "identity", "endpoints": [
                    endpoint("Two", "http://k/v3"), endpoint("One", "http://k/v3/")]},
                {"type": "compute", "endpoints": [
                    endpoint("Two", "http://two/v2.1"), endpoint("One", "http://one/v2.1")]},
                // The same service by two names of its type.
                {"type": "volumev3", "endpoints": [endpoint("Two", "http://two/v3")]},
                {"type": "block-storage", "endpoints": [endpoint("One", "http://one/v3")]},
                {"type": "image", "endpoints": [endpoint("Two", "http://two/image")]},
            ]),
            "abc",
        );
        let select = |region: Option<&str>| Selection {
            interface: "public".to_owned(),
            region: region.map(str::to_owned),
        };
        let url = |service, region| catalog.url(service, &select(region), "tenant");
        let both = || NoEndpoint::Several(vec!["One".to_owned(), "Two".to_owned()]);
        assert_eq!(url(Service::Nova, None), Err(both()));
        assert_eq!(url(Service::Cinder, None), Err(both()));
        assert_eq!(url(Service::Nova, Some("Two")).unwrap(), "http://two/v2.1");
        assert_eq!(url(Service::Cinder, Some("Two")).unwrap(), "http://two/v3");
        assert_eq!(url(Service::Keystone, None).unwrap(), "http://k/v3", "the same in both");
        assert_eq!(url(Service::Glance, None).unwrap(), "http://two/image", "the only one");
        assert_eq!(url(Service::Glance, Some("One")), Err(NoEndpoint::Missing));
    }
}
