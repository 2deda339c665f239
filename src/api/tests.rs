//! The door as its clients use it: whole requests against a real store, without a cloud.
//!
//! Authentication is left out by handing the caller in; everything behind it is real.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::base::clock::Timestamp;
use crate::base::http::server::BodyError;
use crate::base::points::Points;
use crate::base::secret::Sealer;
use crate::conductor;
use crate::driver::{Drivers, plan};
use crate::model::certificate::{Certificate, CertificateKind};
use crate::model::cluster::Cluster;
use crate::model::cluster_template::{ClusterTemplate, Coe, ServerType};
use crate::model::labels::Labels;
use crate::model::nodegroup::{self, NodeGroup};
use crate::model::requester::Requester;
use crate::model::service;
use crate::model::status::Status;
use crate::model::{ClusterId, NodeGroupId, TemplateId};
use crate::openstack::{
    Accounts, Cloud, CloudSettings, Identity, Service as CloudService, ServiceSettings,
};
use crate::pki::enrolment::EnrolmentKey;
use crate::pki::material;
use crate::store::Change;
use policy::requester;
