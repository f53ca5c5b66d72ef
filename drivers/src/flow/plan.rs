//! Which steps, in which order.

use ferric_machine::{Activity, StepKind, steps};

use super::{FlowSettings, Order};
use crate::interface::{Kind, NodeView, Result, Step};
use crate::registry::Bound;

pub(super) fn validate(node: &NodeView, bound: &Bound, order: &Order) -> Result<()> {
    bound.power.validate(node)?;
    match order.activity {
        Activity::Deploy => {
            bound.boot.validate(node)?;
            bound.deploy.validate(node)
        }
        Activity::Verify
        | Activity::TearDown
        | Activity::Clean
        | Activity::Inspect
        | Activity::Adopt
        | Activity::Rescue
        | Activity::Unrescue
        | Activity::Service => Ok(()),
    }
}

pub(super) fn plan(_settings: &FlowSettings, node: &NodeView, bound: &Bound, order: &Order) -> Vec<Step> {
    let of =
        |kind: Kind| bound.steps_of(kind).map(|steps| steps.steps(node, order.activity)).unwrap_or_default();
    match order.activity {
        Activity::Deploy => {
            let mut all = vec![Step::conductor("prepare")];
            all.extend(steps::plan(bound.deploy.steps(node, Activity::Deploy), StepKind::Deploy));
            all
        }
        Activity::Verify => vec![Step::conductor("verify_power")],
        Activity::TearDown | Activity::Adopt => of(Kind::Deploy),
        Activity::Inspect => of(Kind::Inspect),
        Activity::Rescue | Activity::Unrescue => of(Kind::Rescue),
        Activity::Clean | Activity::Service => Vec::new(),
    }
}
