//! The steps of every kind of operation, in their order, and what the engine has to know of each.
//!
//! Stored by position: a new step is appended to its list, wherever it is taken.

use serde::{Deserialize, Serialize};

/// Where an operation of one kind stands: the next thing to do.
pub trait Step: Copy + PartialEq + 'static {
    /// All of them, in the order in which they are taken. The first is where an operation begins.
    const ALL: &'static [Self];

    /// As logs and metrics call it.
    fn name(self) -> &'static str;

    /// What is done, in a sentence.
    fn about(self) -> &'static str;

    fn traits(self) -> Traits;
}

/// What the engine has to know of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// It changes nothing outside. Tried again quickly: a look costs Heat little.
    pub looks: bool,
    /// The time that the operation may take begins anew with it.
    pub renews_deadline: bool,
    /// The tenant's token is needed no longer, and is erased before it.
    pub drops_token: bool,
}

/// `LIST of "operation" { Variant "name" (traits) "About." … }`: the enum and its [`Step`].
macro_rules! steps {
    ($($(#[$doc:meta])* $list:ident {
        $($step:ident $name:literal ($($is:ident),*) $about:literal)+
    })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
            pub enum $list {
                $(#[doc = $about] $step,)+
            }

            impl Step for $list {
                const ALL: &'static [Self] = &[$(Self::$step),+];

                fn name(self) -> &'static str {
                    match self {
                        $(Self::$step => $name,)+
                    }
                }

                fn about(self) -> &'static str {
                    match self {
                        $(Self::$step => $about,)+
                    }
                }

                #[allow(clippy::needless_update, reason = "a step may have every trait")]
                fn traits(self) -> Traits {
                    match self {
                        $(Self::$step => Traits { $($is: true,)* ..Traits::default() },)+
                    }
                }
            }
        )+
    };
}

steps! {
    /// A cluster is built.
    CreateStep {
        Certificates "certificates" () "Draws the cluster's keys and the trustee's password."
        Trustee "trustee" (renews_deadline) "Makes the trustee, a user of the trust domain."
        Trust "trust" () "Makes the trust from the tenant to the trustee."
        Discovery "discovery" () "Issues a token of etcd discovery, if the driver uses it."
        Stack "stack" () "Makes the cluster's stack with the tenant's token, or finds it by its tag."
        Await "await" (looks, drops_token) "Waits for the stack, then for the nodes."
    }
    /// A cluster goes, with everything that was made for it.
    DeleteStep {
        Stacks "delete-stack" () "Deletes the balancers of its services, then every stack with its tag."
        Gone "await-gone" (looks) "Waits until Heat has none of them any more."
        Trusts "delete-trust" () "Deletes the trusts of its trustee."
        Trustee "delete-trustee" () "Deletes the trustee."
        Forget "forget" () "Deletes every record of the cluster."
    }
    /// A group gets more nodes, fewer, or others.
    ResizeStep {
        Update "update-stack" () "Sends the new count, and who must go, to the group's stack."
        Await "await-update" (looks, drops_token) "Waits for the stack, then for the new nodes."
    }
    /// A further group is built, in a stack of its own.
    CreateNodeGroupStep {
        Stack "group-stack" () "Makes the group's stack with the caller's token, or finds it by its tag."
        Await "await-group" (looks, drops_token) "Waits for the stack, then for the nodes."
    }
    /// A further group goes.
    DeleteNodeGroupStep {
        Stack "delete-group-stack" () "Deletes every stack with the group's tag."
        Gone "await-group-gone" (looks) "Waits until Heat has none of them any more."
    }
    /// The nodes of a group get another image or flavor, batch by batch.
    UpgradeStep {
        Begin "begin-upgrade" () "Finds out which nodes have to follow; the cluster follows the template."
        Drain "drain-nodes" (looks, renews_deadline) "Has a master drain the next batch; none is left: settles."
        Rebuild "rebuild-nodes" () "Sends the batch's new images and flavors to the stack."
        Await "await-nodes" (looks, renews_deadline, drops_token) "Waits for the stack, then for the batch; drains the next."
    }
    /// A cluster gets new certificate authorities.
    RotateCaStep {
        Draw "draw-authorities" () "Draws the new authorities' keys."
        Trust "trust-authorities" (looks) "Has every node trust them beside the old ones."
        Issue "issue-leaves" (looks) "Has every node take certificates of the new ones."
        Drop "drop-authorities" (looks) "Has every node trust the old ones no more."
    }
    /// A cluster's trustee gets a new password, and a trust from the caller.
    RotateCredentialStep {
        Trust "new-trust" () "Makes the new trust."
        Stacks "take-stacks" () "Makes every stack the caller's, so that the new trust can act on it."
        Password "new-password" (drops_token) "Sets the new password; the new trust is the one on record."
        FormerTrust "former-trust" () "Deletes the former trust."
        Renew "renew-credentials" (looks) "Has a master give the new ones to the cluster's controllers."
    }
}
