//! Create: certificates → trustee → trust → discovery → stack → await.

use std::time::Duration;

use tracing::{info, warn};

use super::addresses::remarked;
use super::decide::{AwaitNext, Awaited, StackNext, await_created, stack};
use super::delete::found;
use super::engine::{AFTER_NEW_PASSWORD, PROMPT};
use super::moment::Moment;
use super::{Conductor, Progress, StepError};
use crate::driver::{Bundle, ClusterPlan, DriverError, Waits};
use crate::model::certificate::CertificateKind;
use crate::model::credential::Credential;
use crate::model::discovery::DiscoveryToken;
use crate::model::operation::{Operation, OperationKind, Step};
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::model::vigil::Vigil;
use crate::model::{name, nodegroup};
use crate::openstack::{Actor, CloudError, NewStack};
use crate::store::{Change, Stored};

/// For which nodes a creation waits, and how long for each.
pub(super) struct Awaits {
    waits: Waits,
    pub masters: u32,
    workers: u32,
    /// Workers that must be ready.
    pub threshold: u32,
}

impl Conductor {
    pub(super) async fn create_step(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        match operation.step {
            Step::Certificates => self.ensure_certificates(moment, operation).await,
            Step::Trustee => self.ensure_trustee(moment, operation).await,
            Step::Trust => self.ensure_trust(moment, operation).await,
            Step::Discovery => self.ensure_discovery(moment, operation).await,
            Step::Stack => self.ensure_stack(moment, operation).await,
            Step::Await => self.await_created(moment, operation).await,
            other => Err(StepError::failed(format!(
                "The operation stands at {}, which no creation has.",
                other.as_str()
            ))),
        }
    }

    /// Draws every key of the cluster and the trustee's password; no outside effect.
    async fn ensure_certificates(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let id = moment.id();
        let sealer = self.inner.store.sealer();
        let mut change = Change::new().expect(operation);
        let drawn = self.draw(&moment.cluster, &CertificateKind::ALL).await?;
        let Some(drawn) = drawn else {
            self.note(moment, "Waiting for the cluster's keys to be drawn.").await;
            return Ok(Progress::Aside);
        };
        let mut next = operation.at(Step::Trustee);
        for drawn in drawn {
            change = change.put(&drawn);
        }
        // As with an operation that waits for others: that is none of its time.
        if self.inner.clock.now().since(operation.began) > PROMPT {
            next.deadline = self.another_deadline(moment, operation);
        }
        let password = self.inner.entropy.password();
        let credential = Credential {
            cluster_id: id,
            trustee_name: name::trustee_name(id, &moment.cluster.project_id),
            trustee_password: sealer.seal(&Credential::owner(id), password.as_bytes()),
            trustee_user_id: None,
            trust_id: None,
            next_password: None,
            next_trust: None,
            former_trust: None,
        };
        self.commit(change.put(&credential).put(&next)).await?;
        Ok(Progress::Again)
    }

    /// One trustee per cluster, named after it, whoever asks and how often.
    async fn ensure_trustee(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let keystone = self.inner.cloud.keystone();
        let (_, password) = moment.trustee(&self.inner.store)?;
        let name = name::trustee_name(moment.id(), &moment.cluster.project_id);
        let mut next = Progress::Again;
        let user = match self.as_domain_admin(keystone.trustee_named(&name)).await? {
            // Made by an earlier try, or by one that a restored state knows nothing of: with a
            // password that may not be the one on record.
            Some(user) => {
                if is_refused(&keystone.trusts_of(&user, &password).await) {
                    let known = keystone.set_trustee_password(&user, &password);
                    self.as_domain_admin(known).await?;
                    next = Progress::Pause(AFTER_NEW_PASSWORD);
                }
                user
            }
            None => self.as_domain_admin(keystone.create_trustee(&name, &password)).await?,
        };
        info!(trustee = %user, "trustee ready");
        let mut cluster = moment.cluster.record.clone();
        cluster.trustee_user_id = Some(user.clone());
        let mut change = Change::new().expect(operation).expect(&moment.cluster).put(&cluster);
        if let Some(credential) = &moment.credential {
            let mut credential = credential.record.clone();
            credential.trustee_user_id = Some(user);
            change = change.put(&credential);
        }
        self.commit(change.put(&operation.at(Step::Trust))).await?;
        Ok(next)
    }

    /// Says whose credentials were refused, where the tenant could not guess it.
    pub(super) async fn as_domain_admin<T>(
        &self,
        act: impl Future<Output = Result<T, CloudError>>,
    ) -> Result<T, StepError> {
        self.act(act).await.map_err(|e| match e {
            StepError::Cloud(CloudError::Refused {
                status: status @ (401 | 403), reason, ..
            }) => StepError::failed(format!(
                "Keystone refused the administrator of the trustee domain ({status}): \
                     {reason}. The operator must check [trust] in magnumd's configuration."
            )),
            // A name that is taken although we did not find it: look again.
            StepError::Cloud(e) if e.is_conflict() => StepError::Cloud(CloudError::Unknown {
                service: crate::openstack::Service::Keystone,
                reason: e.reason(),
            }),
            other => other,
        })
    }

    /// One trust per trustee, from the tenant, with the tenant's own token.
    async fn ensure_trust(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let keystone = self.inner.cloud.keystone();
        let (user, password) = moment.trustee(&self.inner.store)?;
        let user = user.ok_or_else(|| StepError::failed("The trustee's id was lost."))?;
        let known = keystone.trusts_of(user, &password).await;
        if is_refused(&known) {
            // As it is in the second of a new password, whose end a restart may not have awaited.
            return Ok(Progress::Wait("Keystone refuses the cluster's trustee.".to_owned()));
        }
        let trust = match self.act(async { known }).await?.into_iter().next() {
            Some(trust) => trust.id,
            None => {
                let token = moment
                    .tenant_token(&self.inner.store)
                    .ok_or_else(|| StepError::failed("The tenant's token was lost."))?;
                self.make_trust(moment, operation, user, &token).await?
            }
        };
        info!(%trust, "trust ready");
        let credential = moment.credential.as_ref().map(|stored| {
            let mut credential = stored.record.clone();
            credential.trust_id = Some(trust);
            credential
        });
        let credential = credential.ok_or_else(|| StepError::failed("The trustee was lost."))?;
        let change = Change::new().expect(operation).put(&credential);
        self.commit(change.put(&operation.at(Step::Discovery))).await?;
        Ok(Progress::Again)
    }

    /// A token in our own registry, where the driver wants one; no outside effect.
    async fn ensure_discovery(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let next = operation.at(Step::Stack);
        let cluster = &moment.cluster;
        let plan = self.plan(moment)?;
        let wanted = self.driver(moment)?.uses_discovery(&plan);
        let wanted = wanted.map_err(|e| StepError::failed(e.to_string()))?;
        if !wanted || cluster.discovery_url.is_some() {
            self.commit(Change::new().expect(operation).put(&next)).await?;
            return Ok(Progress::Again);
        }
        let (masters, _) = moment.counts();
        let stack = cluster.stack_name();
        let now = self.inner.clock.now();
        let token = self.inner.entropy.hex_token();
        let issued = DiscoveryToken::issue(
            &token,
            moment.id(),
            u8::try_from(masters).unwrap_or(u8::MAX),
            (0..masters).map(|i| name::master_node(&stack, i)).collect(),
            moment.facts.as_ref().and_then(|f| f.fixed_subnet_cidr.clone()),
            now,
            operation.deadline.unwrap_or(now).plus(Duration::from_secs(3600)),
        );
        let mut cluster = cluster.record.clone();
        let base = self.inner.settings.discovery_url.trim_end_matches('/');
        cluster.seal_discovery_url(self.inner.store.sealer(), &format!("{base}/{token}"));
        let change = self.to_be_claimed(moment, &plan, &issued.expected)?.expect(operation);
        self.commit(change.expect(&moment.cluster).put(&issued).put(&cluster).put(&next)).await?;
        Ok(Progress::Again)
    }

    /// Looks for our stack by its tag, adopts it or makes it.
    async fn ensure_stack(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let tag = name::stack_tag(moment.id());
        let reader = self.reader(moment).await?;
        let id = match stack(moment.id(), &self.tagged(&reader, &tag).await?) {
            StackNext::Adopt(id) => {
                info!(stack = %id, "stack adopted");
                id
            }
            StackNext::Fail(reason) => return Err(StepError::failed(reason)),
            StackNext::Create => self.make_stack(moment, &tag).await?,
        };
        let mut cluster = moment.cluster.record.clone();
        cluster.stack_id = Some(id.clone());
        let mut change = Change::new().expect(operation).expect(&moment.cluster).put(&cluster);
        for group in moment.groups.iter().filter(|g| g.is_default) {
            let mut group = group.record.clone();
            group.stack_id = Some(id.clone());
            change = change.put(&group);
        }
        let mut next = operation.at(Step::Await);
        next.token = None;
        self.commit(change.put(&next)).await?;
        Ok(Progress::Again)
    }

    /// Every live stack that carries a tag, with its parameters.
    pub(super) async fn tagged(&self, actor: &Actor, tag: &str) -> Result<Vec<Stack>, StepError> {
        let heat = self.inner.cloud.heat(actor).await?;
        let mut stacks = Vec::new();
        for (id, name) in heat.tagged(tag).await? {
            match heat.show(&name, &id, false).await {
                Ok(stack) => stacks.push(stack),
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(stacks)
    }

    async fn make_stack(&self, moment: &Moment, tag: &str) -> Result<String, StepError> {
        let (plan, bundle) = self.render(moment)?;
        // The tenant's own token: Heat makes a trust of its own from it, which Keystone
        // forbids to a token that comes from a trust.
        let lost = || StepError::failed("The tenant's token was lost.");
        let caller = self.caller(moment).ok_or_else(lost)?;
        let heat = self.inner.cloud.heat(&caller).await?;
        let name = moment.cluster.stack_name();
        let new = NewStack {
            name: &name,
            template: &bundle.template,
            parameters: &bundle.parameters,
            files: &bundle.files,
            timeout_minutes: self.driver(moment)?.create_timeout(&plan),
            tag,
        };
        heat.validate(&new)
            .await
            .map_err(StepError::from)
            .map_err(lapsed("the stack was created"))?;
        match self.act(heat.create(&new)).await.map_err(lapsed("the stack was created")) {
            Ok(id) => {
                info!(stack = %id, "stack created");
                Ok(id)
            }
            // The name is taken: by our own earlier request, most likely. Look again.
            Err(StepError::Cloud(e)) if e.is_conflict() => {
                Err(StepError::Cloud(CloudError::Unknown {
                    service: crate::openstack::Service::Heat,
                    reason: e.reason(),
                }))
            }
            Err(e) => Err(e),
        }
    }

    pub(super) fn render(&self, moment: &Moment) -> Result<(ClusterPlan, Bundle), StepError> {
        let mut plan = self.plan(moment)?;
        let bundle = self.bundle(moment, &mut plan)?;
        let bundle = bundle.map_err(|e| StepError::failed(e.to_string()))?;
        Ok((plan, bundle))
    }

    /// The plan of the cluster's own stack.
    pub(super) fn plan(&self, moment: &Moment) -> Result<ClusterPlan, StepError> {
        moment
            .plan(&self.inner.settings, &self.inner.enrolment)
            .ok_or_else(|| StepError::failed(moment.cannot_plan()))
    }

    /// What Heat should build, with the trustee's credentials where the driver wants them.
    pub(super) fn bundle(
        &self,
        moment: &Moment,
        plan: &mut ClusterPlan,
    ) -> Result<Result<Bundle, DriverError>, StepError> {
        let driver = self.driver(moment)?;
        if driver.wants_trust() {
            plan.trust = moment.entrusted(&self.inner.store)?;
        }
        if driver.inlines(plan).is_ok_and(|inlines| inlines) {
            let inlined = self.inlined(moment.id());
            plan.inlined = Some(inlined.map_err(|e| StepError::failed(e.to_string()))?);
        }
        Ok(driver.bundle(plan))
    }

    /// Looks until the stack is complete and the nodes have reported ready.
    async fn await_created(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
    ) -> Result<Progress, StepError> {
        let shown = self.look(moment, false).await?;
        let Awaits { waits, masters, workers, threshold } = self.awaits(moment)?;
        let stack_name = moment.cluster.stack_name();
        let next = await_created(&Awaited {
            stack: shown.as_ref(),
            nodes: &moment.nodes,
            masters,
            workers,
            threshold,
            stack_name: &stack_name,
            since: moment.vigil.as_ref().map(|v| v.since),
            limits: waits.limits,
            discovery: moment.tokens.first().map(|t| &t.record),
            deadline: operation.deadline,
            now: self.time_of(operation),
            wall: self.inner.clock.now(),
        });
        match next {
            AwaitNext::LookAgain(progress) => {
                if moment.vigil.is_none() && shown.is_some_and(|s| !s.is_in_progress()) {
                    // What can be reached is shown before all of it is ready.
                    let Some(stack) = self.look(moment, true).await? else {
                        return Ok(Progress::Wait(progress));
                    };
                    let vigil = Vigil { cluster_id: moment.id(), since: self.inner.clock.now() };
                    let change = Change::new().expect(operation).put(&vigil);
                    self.commit(self.with_addresses(moment, change, &stack)?).await?;
                    return Ok(Progress::Again);
                }
                Ok(Progress::Wait(progress))
            }
            AwaitNext::Fail { reason, nodegroup } => Err(StepError::Failed { reason, nodegroup }),
            AwaitNext::StackFailed => {
                let stack = shown.as_ref();
                Err(self.stack_failure(moment, stack).await)
            }
            AwaitNext::Settle => match self.look(moment, true).await? {
                Some(stack) => self.settle_created(moment, operation, &stack).await,
                None => Ok(Progress::Wait("Heat does not show the stack.".to_owned())),
            },
        }
    }

    /// For which nodes a creation waits.
    pub(super) fn awaits(&self, moment: &Moment) -> Result<Awaits, StepError> {
        let driver = self.driver(moment)?;
        let plan = moment.plan(&self.inner.settings, &self.inner.enrolment);
        let waits = plan.as_ref().and_then(|plan| driver.waits(plan).ok()).unwrap_or_default();
        // Without nodes that report there are none to wait for.
        let (masters, workers) = if waits.for_nodes { moment.counts() } else { (0, 0) };
        let threshold = plan.as_ref().and_then(|plan| driver.ready_threshold(plan));
        let threshold = threshold.unwrap_or(workers).min(workers);
        Ok(Awaits { waits, masters, workers, threshold })
    }

    /// The cluster's stack; None when Heat does not have it.
    pub(super) async fn look(
        &self,
        moment: &Moment,
        outputs: bool,
    ) -> Result<Option<Stack>, StepError> {
        let Some(id) = &moment.cluster.stack_id else { return Ok(None) };
        self.look_for(moment, &moment.cluster.stack_name(), id, outputs).await
    }

    /// One of the cluster's stacks; None when Heat does not have it. One that was in progress
    /// a moment ago is taken to be so still: nodes report more often than Heat should be asked.
    pub(super) async fn look_for(
        &self,
        moment: &Moment,
        name: &str,
        id: &str,
        outputs: bool,
    ) -> Result<Option<Stack>, StepError> {
        if !outputs && let Some(stack) = self.inner.in_progress.get(id).await {
            return Ok(Some(stack));
        }
        let actor = self.reader(moment).await?;
        let heat = self.inner.cloud.heat(&actor).await?;
        let shown = found(heat.show(name, id, outputs).await)?;
        if let Some(stack) = shown.as_ref().filter(|s| s.is_in_progress()) {
            self.inner.in_progress.insert(id.to_owned(), stack.clone()).await;
        }
        Ok(shown)
    }

    /// Asks Heat which resource failed and why.
    async fn stack_failure(&self, moment: &Moment, stack: Option<&Stack>) -> StepError {
        let fallback = stack.map_or_else(String::new, |s| s.status_reason.clone());
        let failures = async {
            let id = moment.cluster.stack_id.as_deref().unwrap_or_default();
            let actor = self.reader(moment).await?;
            let heat = self.inner.cloud.heat(&actor).await?;
            Ok::<_, StepError>(heat.failures(&moment.cluster.stack_name(), id).await?)
        };
        let failures = match failures.await {
            Ok(failures) => failures,
            Err(StepError::Cloud(e)) if e.is_passing() => return e.into(),
            Err(error) => {
                warn!(%error, "the failed resources cannot be listed");
                Vec::new()
            }
        };
        match failures.first() {
            Some(failure) => StepError::Failed {
                reason: format!(
                    "Resource {} ({}) failed: {}",
                    failure.name, failure.kind, failure.reason
                ),
                nodegroup: group_of(&failure.name),
            },
            None => StepError::failed(fallback),
        }
    }

    /// Addresses, versions, CREATE_COMPLETE: one commit closes the operation.
    async fn settle_created(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        stack: &Stack,
    ) -> Result<Progress, StepError> {
        let change = Change::new().expect(operation).delete(&operation.record);
        let said = "Stack CREATE completed successfully".to_owned();
        self.commit(self.created(moment, change, stack, said)?).await?;
        info!("cluster complete");
        Ok(Progress::Done)
    }

    /// Adds to `change` the cluster and its default groups as CREATE_COMPLETE.
    pub(super) fn created(
        &self,
        moment: &Moment,
        change: Change,
        stack: &Stack,
        said: String,
    ) -> Result<Change, StepError> {
        let (mut cluster, groups, remark) = self.addressed(moment, stack)?;
        let said = remarked(Some(said.clone()), remark).unwrap_or(said);
        let now = self.inner.clock.now();
        cluster.status = Status::CreateComplete;
        cluster.status_reason = Some(self.with_warnings(moment, &said));
        let version = stack.parameters.get("kube_version").and_then(|v| v.as_str());
        cluster.coe_version = version.filter(|v| !v.is_empty()).map(str::to_owned);
        cluster.container_version = self.driver(moment)?.container_version().map(str::to_owned);
        cluster.updated_at = Some(now);
        let mut change = change.expect(&moment.cluster).put(&cluster);
        for mut group in groups {
            group.status = Status::CreateComplete;
            group.status_reason = Some(said.clone());
            group.version.clone_from(&cluster.coe_version);
            group.updated_at = Some(now);
            change = change.put(&group);
        }
        if let Some(vigil) = &moment.vigil {
            change = change.delete(&vigil.record);
        }
        Ok(change)
    }

    /// Adds to `change` the addresses that the stack tells, and nothing else.
    pub(super) fn with_addresses(
        &self,
        moment: &Moment,
        change: Change,
        stack: &Stack,
    ) -> Result<Change, StepError> {
        let (cluster, groups, _) = self.addressed(moment, stack)?;
        let known = moment.groups.iter().filter(|g| g.is_default).map(|g| &g.record);
        if cluster == moment.cluster.record && groups.iter().eq(known) {
            return Ok(change);
        }
        let change = change.expect(&moment.cluster).put(&cluster);
        Ok(groups.iter().fold(change, |change, group| change.put(group)))
    }

    /// Closes the operation with a failure; whatever was made stays until the owner deletes.
    pub(super) async fn fail(
        &self,
        moment: &Moment,
        operation: &Stored<Operation>,
        reason: &str,
        nodegroup: Option<&str>,
    ) -> Result<(), StepError> {
        let status = match operation.kind {
            OperationKind::Create => Status::CreateFailed,
            OperationKind::Delete => Status::DeleteFailed,
            _ => return self.fail_group(moment, operation, reason).await,
        };
        warn!(step = operation.step.as_str(), reason, "{status}");
        let now = self.inner.clock.now();
        let mut cluster = moment.cluster.record.clone();
        cluster.status = status;
        cluster.status_reason = Some(self.with_warnings(moment, reason));
        cluster.updated_at = Some(now);
        let mut change = Change::new().expect(operation).expect(&moment.cluster).put(&cluster);
        for group in moment.groups.iter().filter(|g| g.is_default) {
            let mut group = group.record.clone();
            let concerned = nodegroup.is_none_or(|name| name == group.name);
            group.status = status;
            group.status_reason = Some(match concerned {
                true => reason.to_owned(),
                false => format!("{} failed.", nodegroup.unwrap_or_default()),
            });
            group.updated_at = Some(now);
            change = change.put(&group);
        }
        self.commit(change.delete(&operation.record)).await
    }
}

/// Which default group a resource of the stack belongs to.
fn group_of(resource: &str) -> Option<String> {
    if resource.starts_with("master_") {
        Some(nodegroup::DEFAULT_MASTER.to_owned())
    } else if resource.starts_with("kube_minions") {
        Some(nodegroup::DEFAULT_WORKER.to_owned())
    } else {
        None
    }
}

/// Turns "not authorised" into what the tenant must know.
pub(super) fn lapsed(before: &str) -> impl Fn(StepError) -> StepError + '_ {
    move |e| match e {
        StepError::Cloud(e) if e.is_unauthorised() => StepError::failed(format!(
            "The token of the request expired or was revoked before {before}. \
             Delete the cluster and create it again."
        )),
        other => other,
    }
}

impl Operation {
    /// The same operation at another step.
    pub(super) fn at(&self, step: Step) -> Self {
        Self { step, attempt: 0, ..self.clone() }
    }
}

/// Whether Keystone does not accept who asks.
fn is_refused<T>(answer: &Result<T, CloudError>) -> bool {
    matches!(answer, Err(CloudError::Refused { status: 401, .. }))
}
