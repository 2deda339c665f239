//! The route table: one match on the segments of a path, then the method.

use std::borrow::Cow;

use hyper::Method;
use percent_encoding::percent_decode_str;

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Root,
    Version,
    Healthcheck,
    /// What Nova asks on behalf of servers; no resource of Magnum's.
    VendorData,
    Templates,
    TemplatesDetail,
    Template(String),
    Clusters,
    ClustersDetail,
    Cluster(String),
    Resize(String),
    Upgrade(String),
    NodeGroups(String),
    NodeGroup(String, String),
    Certificates,
    Certificate(String),
    Credentials,
    Credential(String),
    Quotas,
    Quota(String, String),
    Stats,
    Services,
    Federations,
    FederationsDetail,
    Federation(String),
}

/// The resource of a path as sent, still percent-encoded; nothing if there is none.
///
/// The prefix `/v1` may be left out, because endpoints in catalogues exist with and
/// without it; a slash at the end changes nothing.
pub fn resource(path: &str) -> Option<Resource> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let decoded: Vec<Cow<'_, str>> = path
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8())
        .collect::<Result<_, _>>()
        .ok()?;
    let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
    let own = |text: &str| text.to_owned();
    match *segments.as_slice() {
        [""] | [".json"] => return Some(Resource::Root),
        ["v1"] | ["v1.json"] => return Some(Resource::Version),
        ["healthcheck"] => return Some(Resource::Healthcheck),
        ["vendordata"] => return Some(Resource::VendorData),
        _ => {}
    }
    let within = segments.strip_prefix(&["v1"]).unwrap_or(&segments);
    Some(match *within {
        ["clustertemplates"] => Resource::Templates,
        ["clustertemplates", "detail"] => Resource::TemplatesDetail,
        ["clustertemplates", id] => Resource::Template(own(id)),
        ["clusters"] => Resource::Clusters,
        ["clusters", "detail"] => Resource::ClustersDetail,
        ["clusters", id] => Resource::Cluster(own(id)),
        ["clusters", id, "actions", "resize"] => Resource::Resize(own(id)),
        ["clusters", id, "actions", "upgrade"] => Resource::Upgrade(own(id)),
        ["clusters", id, "nodegroups"] => Resource::NodeGroups(own(id)),
        ["clusters", id, "nodegroups", group] => Resource::NodeGroup(own(id), own(group)),
        ["certificates"] => Resource::Certificates,
        ["certificates", id] => Resource::Certificate(own(id)),
        ["credentials"] => Resource::Credentials,
        ["credentials", id] => Resource::Credential(own(id)),
        ["quotas"] => Resource::Quotas,
        ["quotas", project, kind] => Resource::Quota(own(project), own(kind)),
        ["stats"] => Resource::Stats,
        ["mservices"] => Resource::Services,
        ["federations"] => Resource::Federations,
        ["federations", "detail"] => Resource::FederationsDetail,
        ["federations", id] => Resource::Federation(own(id)),
        _ => return None,
    })
}

impl Resource {
    /// Its path with the names left out.
    pub const fn pattern(&self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Version => "/v1",
            Self::Healthcheck => "/healthcheck",
            Self::VendorData => "/vendordata",
            Self::Templates => "/v1/clustertemplates",
            Self::TemplatesDetail => "/v1/clustertemplates/detail",
            Self::Template(_) => "/v1/clustertemplates/{id}",
            Self::Clusters => "/v1/clusters",
            Self::ClustersDetail => "/v1/clusters/detail",
            Self::Cluster(_) => "/v1/clusters/{id}",
            Self::Resize(_) => "/v1/clusters/{id}/actions/resize",
            Self::Upgrade(_) => "/v1/clusters/{id}/actions/upgrade",
            Self::NodeGroups(_) => "/v1/clusters/{id}/nodegroups",
            Self::NodeGroup(..) => "/v1/clusters/{id}/nodegroups/{id}",
            Self::Certificates => "/v1/certificates",
            Self::Certificate(_) => "/v1/certificates/{id}",
            Self::Credentials => "/v1/credentials",
            Self::Credential(_) => "/v1/credentials/{id}",
            Self::Quotas => "/v1/quotas",
            Self::Quota(..) => "/v1/quotas/{project}/{resource}",
            Self::Stats => "/v1/stats",
            Self::Services => "/v1/mservices",
            Self::Federations => "/v1/federations",
            Self::FederationsDetail => "/v1/federations/detail",
            Self::Federation(_) => "/v1/federations/{id}",
        }
    }

    /// Whether it is shown without a token.
    pub const fn is_public(&self) -> bool {
        matches!(self, Self::Root | Self::Version | Self::Healthcheck)
    }

    /// Whether microversions apply to it.
    pub const fn is_versioned(&self) -> bool {
        !matches!(self, Self::Root | Self::Healthcheck | Self::VendorData)
    }

    /// The methods it takes, as `Allow` lists them.
    ///
    /// A collection takes `DELETE` and `PATCH` to answer, as Magnum does, that it misses the
    /// name of a member.
    pub const fn allow(&self) -> &'static str {
        match self {
            Self::Root | Self::Version | Self::Healthcheck => "GET, HEAD",
            Self::Templates | Self::Clusters | Self::Quotas | Self::Federations => {
                "DELETE, GET, PATCH, POST"
            }
            Self::NodeGroups(_) => "DELETE, GET, PATCH, POST",
            // Names like any other, except to GET.
            Self::TemplatesDetail | Self::ClustersDetail | Self::FederationsDetail => {
                "DELETE, GET, PATCH"
            }
            Self::Template(_)
            | Self::Cluster(_)
            | Self::NodeGroup(..)
            | Self::Quota(..)
            | Self::Federation(_) => "DELETE, GET, PATCH",
            Self::Resize(_) | Self::Upgrade(_) | Self::VendorData => "POST",
            Self::Certificates => "PATCH, POST",
            Self::Certificate(_) => "GET, PATCH",
            Self::Credentials | Self::Credential(_) => "PATCH",
            Self::Stats | Self::Services => "GET",
        }
    }

    /// Whether a request with this method changes something, or gives what outlives its answer,
    /// such as a certificate. Nova's questions only read, and come with every server.
    pub fn writes(&self, method: &Method) -> bool {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        !reads && self.takes(method) && !matches!(self, Self::VendorData)
    }

    pub fn takes(&self, method: &Method) -> bool {
        self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_prefix_and_the_last_slash_are_optional() {
        for path in ["/v1/clusters", "/clusters", "/v1/clusters/", "/clusters/"] {
            assert_eq!(resource(path), Some(Resource::Clusters), "{path}");
        }
        for path in ["/v1/clusters/k1/nodegroups", "/clusters/k1/nodegroups/"] {
            assert_eq!(resource(path), Some(Resource::NodeGroups("k1".to_owned())), "{path}");
        }
        for path in ["/v1", "/v1/", "/v1.json"] {
            assert_eq!(resource(path), Some(Resource::Version), "{path}");
        }
        assert_eq!(resource("/"), Some(Resource::Root));
        assert_eq!(resource(""), Some(Resource::Root));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in [
            "/v2",
            "/nope",
            "/v1/bays",
            "/v1/baymodels",
            "/v1/v1/clusters",
            "/v1/clusters/a/detail",
            "/v1/clusters/a/actions/dance",
            "/v1/quotas/p",
            "/v1/healthcheck",
            "/v1/vendordata",
            "/v1/clusters/%ff",
        ] {
            assert_eq!(resource(path), None, "{path}");
        }
    }

    #[test]
    fn names_are_decoded_after_the_path_is_split() {
        let found = resource("/v1/clustertemplates/-a%20b%2Fc");
        assert_eq!(found, Some(Resource::Template("-a b/c".to_owned())));
        let dotted = resource("/v1/clusters/x.json");
        assert_eq!(dotted, Some(Resource::Cluster("x.json".to_owned())));
    }

    #[test]
    fn the_methods_are_those_of_the_table() {
        let templates = resource("/v1/clustertemplates").unwrap();
        assert!(templates.takes(&Method::POST) && !templates.takes(&Method::PUT));
        assert!(!templates.takes(&Method::HEAD) && !templates.takes(&Method::OPTIONS));
        assert!(!resource("/v1/certificates").unwrap().takes(&Method::GET));
    }

    #[test]
    fn whatever_is_not_a_question_writes() {
        let writes = |method: Method, path: &str| resource(path).unwrap().writes(&method);
        for path in ["/v1/clusters", "/v1/certificates", "/v1/quotas", "/v1/federations"] {
            assert!(writes(Method::POST, path) && !writes(Method::GET, path), "{path}");
        }
        assert!(writes(Method::PATCH, "/v1/clusters/k1/nodegroups/g"));
        assert!(writes(Method::DELETE, "/v1/clustertemplates/t"));
        assert!(!writes(Method::POST, "/vendordata"));
        assert!(!writes(Method::PUT, "/v1/clusters"), "which nobody takes");
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "/?[a-z0-9/%.{}]{0,60}") {
            let _ = resource(&path);
        }
    }
}
