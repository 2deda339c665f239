//! The scene: what all checks share, so that each thing is asked for once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use super::Judgement;
use super::drawing::Drawing;
use super::records::State;
use super::template::{self, ClusterRequest, Wanted};
use crate::base::clock::Clock;
use crate::base::id::Entropy;
use crate::config::Config;
use crate::driver::{Drivers, plan};
use crate::model::cluster_template::ClusterTemplate;
use crate::model::requester::Requester;
use crate::openstack::{Actor, Cloud, CloudError, Credentials, Session};

/// How long looking for the template may hold up everything else.
const FINDING: Duration = Duration::from_secs(4);

/// What a preflight is made of.
pub struct Parts {
    pub config: Config,
    pub cloud: Cloud,
    pub drivers: Drivers,
    pub driver_settings: plan::Settings,
    pub clock: Clock,
    pub entropy: Entropy,
    /// A tenant's credentials, if the operator lent them.
    pub guest: Option<Credentials>,
    /// What cluster shall be possible, if any is asked about.
    pub wanted: Option<Wanted>,
}

pub struct Scene {
    pub config: Config,
    pub cloud: Cloud,
    pub driver_settings: plan::Settings,
    pub clock: Clock,
    pub entropy: Entropy,
    pub drivers: Drivers,
    pub guest: Option<Credentials>,
    pub(super) state: State,
    /// The template that was wanted, or why there is none.
    pub(super) cluster_request: Option<Result<ClusterRequest, Judgement>>,
    guest_session: OnceCell<Arc<Guest>>,
    drawing: OnceCell<Arc<Drawing>>,
}

/// A tenant who has logged in.
pub struct Guest {
    pub session: Session,
    /// None for a token without a scope.
    pub requester: Option<Requester>,
}

impl Scene {
    /// Reads the state, or asks the magnumd that holds it, and finds the template.
    pub async fn set(parts: Parts) -> Self {
        let state = State::look(&parts.config).await;
        let mut scene = Self {
            drivers: parts.drivers,
            config: parts.config,
            cloud: parts.cloud,
            driver_settings: parts.driver_settings,
            clock: parts.clock,
            entropy: parts.entropy,
            guest: parts.guest,
            state,
            cluster_request: None,
            guest_session: OnceCell::new(),
            drawing: OnceCell::new(),
        };
        if let Some(wanted) = parts.wanted {
            let found = tokio::time::timeout(FINDING, template::find(&scene, wanted)).await;
            scene.cluster_request = Some(found.unwrap_or_else(|_| {
                let sentence = format!("the template was not found within {FINDING:?}");
                Err(Judgement::unseen(sentence, "see the lines keystone and catalogue"))
            }));
        }
        scene
    }

    pub(super) fn cluster_request(&self) -> Option<&ClusterRequest> {
        self.cluster_request.as_ref()?.as_ref().ok()
    }

    pub(super) fn template(&self) -> Option<&ClusterTemplate> {
        self.cluster_request().map(|cluster_request| &cluster_request.template)
    }

    /// The tenant's session; None when nobody lent credentials.
    pub async fn guest(&self) -> Result<Option<Arc<Guest>>, CloudError> {
        let Some(credentials) = &self.guest else { return Ok(None) };
        let log_in = async {
            let (session, requester) = self.cloud.keystone().log_in(credentials).await?;
            Ok(Arc::new(Guest { session, requester }))
        };
        self.guest_session.get_or_try_init(|| log_in).await.cloned().map(Some)
    }

    /// Who looks: the tenant, or else our own account.
    pub async fn actor(&self) -> Result<Actor, CloudError> {
        match self.guest().await? {
            Some(guest) => Ok(Actor::from(&guest.session)),
            None => Ok(Actor::from(&*self.cloud.keystone().service().await?)),
        }
    }

    /// How long the creation asked about, or any, may take.
    pub(super) fn create_timeout(&self) -> Duration {
        let minutes =
            self.cluster_request().map_or(self.config.cluster.create_timeout(), |w| w.timeout);
        Duration::from_secs(60 * u64::from(minutes))
    }

    /// The project whose limits count: the tenant's, or the one that owns the template.
    pub async fn project(&self) -> Result<String, CloudError> {
        let own = self.template().map(|t| t.project_id.clone()).filter(|id| !id.is_empty());
        match (self.guest().await?, own) {
            (Some(guest), _) => Ok(guest.session.project_id.clone()),
            (None, Some(project)) => Ok(project),
            (None, None) => Ok(self.cloud.keystone().service().await?.project_id.clone()),
        }
    }

    /// The stack that a cluster would be, or the first thing in its way.
    pub(super) async fn drawing(&self) -> Result<Arc<Drawing>, Judgement> {
        let draw = || async { Drawing::make(self).await.map(Arc::new) };
        self.drawing.get_or_try_init(draw).await.cloned()
    }

    /// The drawing for whoever only builds on it: another line says why there is none.
    pub(super) async fn drawing_or_unseen(&self) -> Result<Arc<Drawing>, Judgement> {
        self.drawing().await.map_err(|_| {
            let cure = "see the lines image, flavor and stack";
            Judgement::unseen("there is no stack that could be built", cure)
        })
    }
}
