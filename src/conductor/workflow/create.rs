//! A cluster is built: certificates → trustee → trust → discovery → stack → await.

use std::time::Duration;

use tracing::{info, warn};

use super::{Next, Run, Workflow};
use crate::conductor::StepError;
use crate::conductor::decide::creation::{AwaitNext, Awaited, StackNext, await_created, stack};
use crate::conductor::engine::AFTER_NEW_PASSWORD;
use crate::conductor::plans::Awaits;
use crate::model::certificate::CertificateKind;
use crate::model::credential::Credential;
use crate::model::discovery::DiscoveryToken;
use crate::model::node_wait::NodeWait;
use crate::model::operation::{Create, CreateStep, Work};
use crate::model::stack::Stack;
use crate::model::status::Status;
use crate::model::{name, nodegroup};
use crate::openstack::{CloudError, NewStack, Trust};
use crate::store::Change;

type Outcome = Result<Next<Create>, StepError>;

impl Workflow for Create {
    async fn step(run: &Run<'_, Self>) -> Outcome {
        match run.work.step {
            CreateStep::Certificates => run.draw_certificates().await,
            CreateStep::Trustee => run.ensure_trustee().await,
            CreateStep::Trust => run.ensure_trust().await,
            CreateStep::Discovery => run.issue_discovery_token(),
            CreateStep::Stack => run.ensure_stack().await,
            CreateStep::Await => run.await_nodes().await,
        }
    }

    fn failed(run: &Run<'_, Self>, reason: &str, nodegroup: Option<&str>) -> Change {
        run.cluster_failed(Status::CreateFailed, reason, nodegroup)
    }
}

impl Run<'_, Create> {
    /// Draws every key of the cluster and the trustee's password; no outside effect.
    async fn draw_certificates(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let drawn = conductor.draw(&snapshot.cluster, &CertificateKind::ALL).await?;
        let Some(drawn) = drawn else { return Ok(Next::drawing()) };
        let change = drawn.iter().fold(Change::new(), |change, drawn| change.put(drawn));
        let id = snapshot.id();
        let password = conductor.inner.entropy.password();
        let sealer = conductor.inner.store.sealer();
        let credential = Credential {
            cluster_id: id,
            trustee_name: name::trustee_name(id, &snapshot.cluster.project_id),
            trustee_password: sealer.seal(&Credential::owner(id), password.as_bytes()),
            trustee_user_id: None,
            trust_id: None,
            next_password: None,
            next_trust: None,
            former_trust: None,
        };
        self.go(change.put(&credential), CreateStep::Trustee)
    }

    /// One trustee per cluster, named after it, whoever asks and how often.
    async fn ensure_trustee(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let keystone = conductor.inner.cloud.keystone();
        let (_, password) = snapshot.trustee(&conductor.inner.store)?;
        let name = name::trustee_name(snapshot.id(), &snapshot.cluster.project_id);
        let mut has_new_password = false;
        let user = match conductor.as_domain_admin(keystone.trustee_named(&name)).await? {
            // Made by an earlier try, or by one that a restored state knows nothing of: with a
            // password that may not be the one on record.
            Some(user) => {
                if is_refused(&keystone.trusts_of(&user, &password).await) {
                    let known = keystone.set_trustee_password(&user, &password);
                    conductor.as_domain_admin(known).await?;
                    has_new_password = true;
                }
                user
            }
            None => conductor.as_domain_admin(keystone.create_trustee(&name, &password)).await?,
        };
        info!(trustee = %user, "trustee ready");
        let mut cluster = snapshot.cluster.record.clone();
        cluster.trustee_user_id = Some(user.clone());
        let mut change = Change::new().expect(&snapshot.cluster).put(&cluster);
        if let Some(credential) = &snapshot.credential {
            let mut credential = credential.record.clone();
            credential.trustee_user_id = Some(user);
            change = change.put(&credential);
        }
        let next = self.work.at(CreateStep::Trust);
        Ok(match has_new_password {
            true => Next::GoAfter(AFTER_NEW_PASSWORD, change, next),
            false => Next::Go(change, next),
        })
    }

    /// One trust per trustee, from the tenant, with the tenant's own token.
    async fn ensure_trust(&self) -> Outcome {
        let Self { conductor, snapshot, operation, .. } = self;
        let keystone = conductor.inner.cloud.keystone();
        let (user, password) = snapshot.trustee(&conductor.inner.store)?;
        let user = user.ok_or_else(|| StepError::failed("The trustee's id was lost."))?;
        let known = keystone.trusts_of(user, &password).await;
        if is_refused(&known) {
            // As it is in the second of a new password, whose end a restart may not have awaited.
            return Ok(Next::wait("Keystone refuses the cluster's trustee."));
        }
        let fits = |t: &Trust| {
            t.trustor_user_id == operation.user_id && t.project_id == snapshot.cluster.project_id
        };
        let trust = match conductor.act(async { known }).await?.into_iter().find(fits) {
            Some(trust) => trust.id,
            None => {
                let token = snapshot
                    .tenant_token(&conductor.inner.store)
                    .ok_or_else(|| StepError::failed("The tenant's token was lost."))?;
                conductor.make_trust(snapshot, operation, user, &token).await?
            }
        };
        info!(%trust, "trust ready");
        let lost = || StepError::failed("The trustee was lost.");
        let mut credential = snapshot.credential.as_ref().ok_or_else(lost)?.record.clone();
        credential.trust_id = Some(trust);
        self.go(Change::new().put(&credential), CreateStep::Discovery)
    }

    /// A token in our own registry, where the driver wants one; no outside effect.
    fn issue_discovery_token(&self) -> Outcome {
        let Self { conductor, snapshot, operation, .. } = self;
        let cluster = &snapshot.cluster;
        let plan = conductor.plan(snapshot)?;
        let wanted = conductor.driver(snapshot)?.uses_discovery(&plan);
        let wanted = wanted.map_err(|e| StepError::failed(e.to_string()))?;
        if !wanted || cluster.discovery_url.is_some() {
            return self.go(Change::new(), CreateStep::Stack);
        }
        let (masters, _) = snapshot.counts();
        let stack = cluster.stack_name();
        let now = conductor.inner.clock.now();
        let token = conductor.inner.entropy.hex_token();
        let issued = DiscoveryToken::issue(
            &token,
            snapshot.id(),
            u8::try_from(masters).unwrap_or(u8::MAX),
            (0..masters).map(|i| name::master_node(&stack, i)).collect(),
            snapshot.facts.as_ref().and_then(|f| f.fixed_subnet_cidr.clone()),
            now,
            operation.deadline.unwrap_or(now).plus(Duration::from_secs(3600)),
        );
        let mut cluster = cluster.record.clone();
        let base = conductor.inner.settings.discovery_url.trim_end_matches('/');
        cluster.seal_discovery_url(conductor.inner.store.sealer(), &format!("{base}/{token}"));
        let change = conductor.to_be_claimed(snapshot, &plan, &issued.expected)?;
        self.go(change.expect(&snapshot.cluster).put(&issued).put(&cluster), CreateStep::Stack)
    }

    /// Looks for our stack by its tag, adopts it or makes it.
    async fn ensure_stack(&self) -> Outcome {
        let Self { conductor, snapshot, .. } = self;
        let tag = name::stack_tag(snapshot.id());
        let reader = conductor.reader(snapshot).await?;
        let id = match stack(snapshot.id(), &conductor.tagged(&reader, &tag).await?) {
            StackNext::Adopt(id) => {
                info!(stack = %id, "stack adopted");
                id
            }
            StackNext::Fail(reason) => return Err(StepError::failed(reason)),
            StackNext::Create => self.make(&tag).await?,
        };
        let mut cluster = snapshot.cluster.record.clone();
        cluster.stack_id = Some(id.clone());
        let mut change = Change::new().expect(&snapshot.cluster).put(&cluster);
        for group in snapshot.groups.iter().filter(|g| g.is_default) {
            let mut group = group.record.clone();
            group.stack_id = Some(id.clone());
            change = change.put(&group);
        }
        self.go(change, CreateStep::Await)
    }

    async fn make(&self, tag: &str) -> Result<String, StepError> {
        let Self { conductor, snapshot, .. } = self;
        let mut plan = conductor.plan(snapshot)?;
        let bundle = conductor.bundle(snapshot, &mut plan)?;
        let lost = || StepError::failed("The tenant's token was lost.");
        let caller = conductor.caller(snapshot).ok_or_else(lost)?;
        let new = NewStack {
            name: &snapshot.cluster.stack_name(),
            template: &bundle.template,
            parameters: &bundle.parameters,
            files: &bundle.files,
            timeout_minutes: conductor.driver(snapshot)?.create_timeout(&plan),
            tag,
        };
        conductor.validate_stack(&caller, &new).await?;
        conductor.make_stack(&caller, &new).await
    }

    /// Looks until the stack is complete and the nodes have reported ready.
    async fn await_nodes(&self) -> Outcome {
        let Self { conductor, snapshot, operation, .. } = self;
        let shown = conductor.look(snapshot, false).await?;
        let Awaits { waits, masters, workers, threshold } = conductor.awaits(snapshot)?;
        let next = await_created(&Awaited {
            stack: shown.as_ref(),
            nodes: &snapshot.nodes,
            masters,
            workers,
            threshold,
            stack_name: &snapshot.cluster.stack_name(),
            since: snapshot.node_wait.as_ref().map(|v| v.since),
            limits: waits.limits,
            discovery: snapshot.tokens.first().map(|t| &t.record),
            deadline: operation.deadline,
            now: self.now,
            wall: conductor.inner.clock.now(),
        });
        match next {
            AwaitNext::LookAgain(progress) => {
                if snapshot.node_wait.is_none() && shown.is_some_and(|s| !s.is_in_progress()) {
                    // What can be reached is shown before all of it is ready.
                    let Some(stack) = conductor.look(snapshot, true).await? else {
                        return Ok(Next::wait(progress));
                    };
                    let since = conductor.inner.clock.now();
                    let node_wait = NodeWait { cluster_id: snapshot.id(), since };
                    let change = Change::new().put(&node_wait);
                    return Ok(Next::Again(conductor.with_addresses(snapshot, change, &stack)?));
                }
                Ok(Next::wait(progress))
            }
            AwaitNext::Fail { reason, nodegroup } => Err(StepError::Failed { reason, nodegroup }),
            AwaitNext::StackFailed => Err(self.stack_failure(shown.as_ref()).await?),
            AwaitNext::Settle => match conductor.look(snapshot, true).await? {
                Some(stack) => {
                    // A second trust of the same user, made after we had given the request up, does
                    // no harm: the cluster does not wait for its end.
                    if let Err(error) = conductor.prune_trusts(snapshot).await {
                        warn!(%error, "further trusts of the trustee stay for now");
                    }
                    self.settle(&stack)
                }
                None => Ok(Next::wait_for_heat(None)),
            },
        }
    }

    /// Asks Heat which resource failed and why.
    async fn stack_failure(&self, stack: Option<&Stack>) -> Result<StepError, StepError> {
        let Some(stack) = stack else { return Ok(StepError::failed("")) };
        Ok(match self.conductor.first_failure(self.snapshot, stack).await? {
            Some(failure) => StepError::Failed {
                reason: format!(
                    "Resource {} ({}) failed: {}",
                    failure.name, failure.kind, failure.reason
                ),
                nodegroup: group_of(&failure.name).map(str::to_owned),
            },
            None => StepError::failed(stack.status_reason.clone()),
        })
    }

    /// Addresses, versions, CREATE_COMPLETE.
    fn settle(&self, stack: &Stack) -> Outcome {
        let said = "Stack CREATE completed successfully".to_owned();
        let change = self.conductor.created(self.snapshot, Change::new(), stack, said)?;
        Ok(Next::Done(change))
    }
}

/// Which default group a resource of the stack belongs to.
fn group_of(resource: &str) -> Option<&'static str> {
    if resource.starts_with("master_") {
        Some(nodegroup::DEFAULT_MASTER)
    } else if resource.starts_with("kube_minions") {
        Some(nodegroup::DEFAULT_WORKER)
    } else {
        None
    }
}

/// Whether Keystone does not accept who asks.
fn is_refused<T>(answer: &Result<T, CloudError>) -> bool {
    matches!(answer, Err(CloudError::Refused { status: 401, .. }))
}
