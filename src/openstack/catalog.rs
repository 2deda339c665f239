//! The service catalogue: endpoints by type, interface and region.

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
    /// None takes the first region that has the service.
    pub region: Option<String>,
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
    pub fn url(&self, service: Service, select: &Selection, project: &str) -> Option<String> {
        let fits = |endpoint: &&Endpoint| {
            endpoint.interface == select.interface
                && select.region.as_ref().is_none_or(|region| *region == endpoint.region)
        };
        service.types().iter().find_map(|kind| {
            let found = self.endpoints.iter().filter(|e| e.kind == *kind).find(fits)?;
            Some(match self.project_id.is_empty() {
                true => found.url.clone(),
                false => found.url.replace(&self.project_id, project),
            })
        })
    }

    pub fn has(&self, service: Service) -> bool {
        self.endpoints.iter().any(|e| service.types().contains(&e.kind.as_str()))
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
        assert_eq!(heat(select("public", None)).unwrap(), "http://one:8004/v1/tenant");
        assert_eq!(heat(select("public", Some("Two"))).unwrap(), "http://two:8004/v1/tenant");
        assert_eq!(heat(select("admin", None)), None);
        assert!(catalog.has(Service::Cinder) && !catalog.has(Service::Octavia));
    }
}
