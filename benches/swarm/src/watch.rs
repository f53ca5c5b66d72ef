//! Follows the nodes' states by reading the list of nodes in pages, as a client of any Ironic can.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use hyper::Method;
use serde::Deserialize;
use uuid::Uuid;

use crate::client::CallError;
use crate::options::Phase;
use crate::record::Kind;
use crate::run::Swarm;

/// What is asked of the list.
const FIELDS: &str = "uuid,name,provision_state,power_state,target_power_state,last_error";
/// Nodes in a page.
const PAGE: usize = 1000;
/// The list may stay unreadable for so long.
const BLIND: Duration = Duration::from_secs(60);

/// A node of the list.
#[derive(Deserialize)]
pub(crate) struct Row<'a> {
    pub(crate) uuid: Uuid,
    #[serde(borrow)]
    pub(crate) name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    provision_state: Option<Cow<'a, str>>,
    #[serde(borrow)]
    power_state: Option<Cow<'a, str>>,
    #[serde(borrow)]
    target_power_state: Option<Cow<'a, str>>,
    #[serde(borrow)]
    last_error: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    nodes: Vec<Row<'a>>,
    next: Option<Cow<'a, str>>,
}

impl Row<'_> {
    /// Its provision state; the oldest microversions say nothing for available.
    pub(crate) fn state(&self) -> &str {
        self.provision_state.as_deref().unwrap_or("available")
    }
}

/// What a row says about a goal.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    Reached,
    Failed(String),
}

/// How often the states were looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looks {
    pub(crate) count: u64,
    /// Time spent in them and between them.
    pub(crate) span: Duration,
}

/// Looks until every node that takes part has settled. Answers how often it looked.
pub(crate) async fn watch(swarm: &Swarm, phase: Phase, wanted: usize) -> Looks {
    let began = Instant::now();
    let mut looks = Looks::default();
    let mut blind_since = None;
    loop {
        let tally = swarm.fleet.inner().tally;
        if tally.reached + tally.failed >= wanted {
            looks.span = began.elapsed();
            return looks;
        }
        let look = Instant::now();
        match look_once(swarm).await {
            Ok(()) => blind_since = None,
            Err(error) => {
                let since = *blind_since.get_or_insert(look);
                if since.elapsed() > BLIND {
                    give_up(swarm, phase, &format!("the list of nodes cannot be read: {error}"), |_| true);
                }
            }
        }
        looks.count += 1;
        let timeout = swarm.options.timeout;
        let late = format!("did not get there within {} s", timeout.as_secs());
        give_up(swarm, phase, &late, |asked| asked.elapsed() > timeout);
        // never busier than a third of the time with looking: what is measured is not to be the looking
        let pause = swarm.options.poll.saturating_sub(look.elapsed()).max(2 * look.elapsed());
        tokio::time::sleep(pause).await;
    }
}

/// Those that were accepted and fit fail.
fn give_up(swarm: &Swarm, phase: Phase, reason: &str, fit: impl Fn(Instant) -> bool) {
    let mut inner = swarm.fleet.inner();
    for index in 0..inner.lives.len() {
        let life = &inner.lives[index];
        if life.goal.is_some_and(|goal| goal.accepted.is_some() && fit(goal.asked)) {
            let state = life.state.map(|state| swarm.states.name(state)).unwrap_or_default();
            inner.settle(index, phase, Err(format!("is {state} and {reason}")));
        }
    }
}

/// Reads the whole list once.
pub(crate) async fn look_once(swarm: &Swarm) -> Result<(), CallError> {
    pages(swarm, |rows, began| take_in(swarm, rows, began)).await
}

/// Calls `take` with each page and the moment that it was asked for.
pub(crate) async fn pages(swarm: &Swarm, mut take: impl FnMut(&[Row<'_>], Instant)) -> Result<(), CallError> {
    let class = swarm.fleet.class.as_deref().filter(|class| class.bytes().all(plain));
    let class = class.map(|class| format!("&resource_class={class}")).unwrap_or_default();
    let mut marker = String::new();
    loop {
        let path = format!("/v1/nodes?fields={FIELDS}&limit={PAGE}{class}{marker}");
        let began = Instant::now();
        let body = swarm.client.call(Kind::Poll, Method::GET, &path, None, began).await?;
        let page: Page<'_> = serde_json::from_slice(&body)
            .map_err(|source| CallError::Unreadable { what: "GET /v1/nodes", source })?;
        take(&page.nodes, began);
        match (page.next, page.nodes.last()) {
            (Some(_), Some(last)) => marker = format!("&marker={}", last.uuid),
            (None, _) | (_, None) => return Ok(()),
        }
    }
}

/// Whether a byte stands for itself in a query.
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn take_in(swarm: &Swarm, rows: &[Row<'_>], began: Instant) {
    let now = Instant::now();
    let mut inner = swarm.fleet.inner();
    for row in rows {
        let Some(&index) = inner.by_id.get(&row.uuid) else { continue };
        let life = &mut inner.lives[index];
        let known = life.state.map(|state| swarm.states.name(state));
        if known.as_deref() != Some(row.state()) {
            life.state = swarm.states.moved(life.state, Some(row.state()));
        }
        let Some(goal) = life.goal else { continue };
        if goal.accepted.is_none_or(|accepted| accepted > began) {
            continue;
        }
        match verdict(goal.phase, row) {
            Verdict::Wait => {}
            Verdict::Reached => {
                swarm.recorder.transition(goal.phase, now.duration_since(goal.asked));
                inner.settle(index, goal.phase, Ok(()));
            }
            Verdict::Failed(reason) => inner.settle(index, goal.phase, Err(reason)),
        }
    }
}

fn verdict(phase: Phase, row: &Row<'_>) -> Verdict {
    let state = row.state();
    let failed = || match row.last_error.as_deref() {
        Some(error) => Verdict::Failed(format!("is {state}: {error}")),
        None => Verdict::Failed(format!("is {state}, and gives no reason")),
    };
    if phase == Phase::Power {
        return match (row.target_power_state.as_deref(), row.power_state.as_deref(), &row.last_error) {
            (Some(_), _, _) => Verdict::Wait,
            (None, _, Some(_)) => failed(),
            (None, Some("power on"), None) => Verdict::Reached,
            (None, _, None) => Verdict::Wait,
        };
    }
    let goal = match phase {
        Phase::Manage | Phase::Inspect => "manageable",
        Phase::Provide | Phase::Undeploy => "available",
        Phase::Deploy => "active",
        Phase::Enrol | Phase::Power | Phase::Patch | Phase::List | Phase::Delete => {
            return Verdict::Wait;
        }
    };
    if state == goal {
        Verdict::Reached
    } else if state.ends_with("failed") || state == "error" {
        failed()
    } else if phase == Phase::Manage && state == "enroll" && row.last_error.is_some() {
        // a BMC that cannot be verified falls back to enroll, and says why
        failed()
    } else {
        Verdict::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(phase: Phase, row: &str) -> Verdict {
        let text = format!(r#"{{"uuid": "7c1ff0f0-0000-4000-8000-000000000000", {row}}}"#);
        verdict(phase, &serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn goals_are_reached_waited_for_or_missed() {
        use Verdict::{Failed, Reached, Wait};
        assert_eq!(of(Phase::Manage, r#""provision_state": "verifying""#), Wait);
        assert_eq!(of(Phase::Manage, r#""provision_state": "manageable""#), Reached);
        assert_eq!(of(Phase::Manage, r#""provision_state": "enroll", "last_error": null"#), Wait);
        let silent = of(Phase::Manage, r#""provision_state": "enroll", "last_error": "no \"BMC\"""#);
        assert_eq!(silent, Failed("is enroll: no \"BMC\"".to_owned()));
        assert!(matches!(of(Phase::Deploy, r#""provision_state": "deploy failed""#), Failed(_)));
        assert_eq!(of(Phase::Provide, r#""provision_state": null"#), Reached);
        assert_eq!(of(Phase::Undeploy, r#""provision_state": "clean wait""#), Wait);
        assert_eq!(of(Phase::Power, r#""target_power_state": "power on", "last_error": "x""#), Wait);
        assert_eq!(of(Phase::Power, r#""power_state": "power on""#), Reached);
        assert!(matches!(of(Phase::Power, r#""power_state": "power on", "last_error": "x""#), Failed(_)));
    }
}
