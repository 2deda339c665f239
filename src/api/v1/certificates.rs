//! The authorities of a cluster: shown, and asked to sign.

use serde::Serialize;

use super::super::coerce::{Fields, mandatory};
use super::super::context::{Context, find_cluster};
use super::super::error::{ApiError, Outcome};
use super::super::link::{Link, links};
use super::super::reply::Reply;
use crate::model::ClusterId;
use crate::model::certificate::CertificateKind;
use crate::model::cluster::Cluster;
use crate::pki::PkiError;
use crate::pki::authority::Authority;

/// No request with a key of any sensible size is longer.
const MOST_CSR: usize = 64 << 10;

#[derive(Serialize)]
struct CertificateView<'c> {
    cluster_uuid: ClusterId,
    links: [Link; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    csr: Option<&'c str>,
    pem: &'c str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_cert_type: Option<&'c str>,
}

fn certificate_view<'c>(
    base: &str,
    cluster: ClusterId,
    pem: &'c str,
    csr: Option<&'c str>,
    ca_cert_type: Option<&'c str>,
) -> CertificateView<'c> {
    let links = links(base, &format!("certificates/{cluster}"));
    CertificateView { cluster_uuid: cluster, links, csr, pem: pem.trim_end(), ca_cert_type }
}

/// `GET /v1/certificates/{cluster}`
pub fn show(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    let query = cx.query(&["ca_cert_type"])?;
    let kind = kind_of(query.get("ca_cert_type"))?;
    let reach = cx.reach(None)?;
    let (cluster, authority) = cx.read(|view| {
        let cluster = find_cluster(view, id, reach)?;
        let authority = view.certificate(cluster.id, kind)?;
        Ok((cluster, authority))
    })?;
    cx.allow_cluster("certificate:get", &cluster)?;
    let authority = authority.ok_or_else(|| not_drawn(&cluster))?;
    Reply::shown(&certificate_view(cx.base, cluster.id, &authority.pem, None, None))
}

/// `POST /v1/certificates`
pub async fn sign(cx: &Context<'_>) -> Outcome<Reply> {
    cx.query(&[])?;
    let known = ["cluster_uuid", "csr", "ca_cert_type"];
    let read_only = ["pem", "project_id", "user_id", "links", "created_at", "updated_at"];
    let body = cx.body("certificate")?;
    let mut fields = Fields::new("certificate", body, &known, &read_only)?;
    let ident = fields.required_text("cluster_uuid")?;
    let csr = fields.block("csr", 1..=MOST_CSR)?.ok_or_else(|| mandatory("csr"))?;
    let kind_asked = fields.text("ca_cert_type", 0..=255)?;
    let kind = kind_of(kind_asked.as_deref())?;
    let cluster = cx.cluster(&ident, None).map_err(ApiError::in_a_body)?;
    cx.allow_cluster("certificate:create", &cluster)?;
    let authority = cx.read(|view| Ok(view.certificate(cluster.id, kind)?))?;
    let authority = authority.ok_or_else(|| not_drawn(&cluster))?;
    let settings = &cx.api.settings;
    let (rules, validity) = (settings.csr_rules.clone(), settings.certificate_validity);
    let (now, entropy) = (cx.api.clock.now(), cx.api.entropy.clone());
    let asked = csr.clone();
    let sign = move |ca: &Authority| ca.sign(&asked, &rules, validity, now, &entropy);
    let signed = cx.api.ca_cache.with(&authority, cx.api.store.sealer(), sign).await.map_err(
        |e| match e {
            e @ PkiError::Request(_) => ApiError::invalid(e.to_string()),
            e @ PkiError::Material(_) => ApiError::internal().because(e),
        },
    )?;
    let kind_asked = kind_asked.as_deref();
    Reply::created(&certificate_view(cx.base, cluster.id, &signed, Some(&csr), kind_asked))
}

/// `PATCH /v1/certificates/{cluster}`
pub async fn rotate(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    let cluster = cx.cluster(id, None)?;
    cx.allow_cluster("certificate:rotate_ca", &cluster)?;
    let template = cx.read(|view| Ok(view.template_of(&cluster)?))?;
    if template.is_some_and(|t| t.tls_disabled) {
        return Err(ApiError::invalid(
            "Rotating the CA certificate on a non-TLS cluster is not supported.",
        ));
    }
    cx.api.conductor.rotate_ca(&cx.tenant(), &cluster).await?;
    Reply::accepted(cluster.id)
}

/// The authority that is asked for. Whoever means one that there is not would be given the main one,
/// and trust another than they think.
fn kind_of(asked: Option<&str>) -> Outcome<CertificateKind> {
    CertificateKind::of_ca_cert_type(asked).ok_or_else(|| {
        let shown: String = asked.unwrap_or_default().chars().take(100).collect();
        let why = "Value should be one of: kubernetes, kubelet, etcd, front-proxy.";
        ApiError::field("ca_cert_type", shown, why)
    })
}

fn not_drawn(cluster: &Cluster) -> ApiError {
    ApiError::missing_sentence(format!(
        "The CA of cluster {} could not be found. It is drawn soon after the cluster was \
         accepted; try again.",
        cluster.id
    ))
}
