//! `/v1/ferric/…`: what Ferric tells beyond Ironic's API. Not gated by microversions.

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_actors::{Doing, Percentiles, Sweeping};
use ferric_machine::Timestamp;
use ferric_schema::journal::{self, StepRow, StepState};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::mask;
use crate::policy::{Rule, Target};
use crate::routes::at::exactly;
use crate::routes::found::find_for;
use crate::routes::read;
use crate::server::WebState;
use crate::views::Iso;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(exactly("/v1/ferric/health").get(health))
        .service(exactly("/v1/ferric/power_sync").post(power_sync))
        .service(exactly("/v1/ferric/doing").get(fleet))
        .service(exactly("/v1/ferric/queue").get(queue))
        .service(exactly("/v1/ferric/nodes/{ident}/doing").get(node))
        .service(exactly("/v1/ferric/nodes/{ident}/steps").get(steps));
}

/// What a node is doing: the step, its number, how far it is, what it waits for.
#[derive(Serialize)]
struct View {
    node_uuid: Uuid,
    operation: String,
    step: String,
    number: usize,
    of: usize,
    since: Iso,
    usual_seconds: Option<f64>,
    eta_seconds: Option<f64>,
    gives_up_at: Option<Iso>,
    doing: String,
    bytes_done: Option<u64>,
    bytes_total: Option<u64>,
    waiting_for: Option<String>,
}

fn view(node_uuid: Uuid, doing: Doing) -> View {
    let Doing {
        operation,
        step,
        number,
        of,
        since,
        usual_seconds,
        eta_seconds,
        progress,
        gives_up_at,
        waiting_for,
    } = doing;
    View {
        node_uuid,
        operation,
        step,
        number,
        of,
        since: Iso(since),
        usual_seconds,
        eta_seconds,
        gives_up_at: gives_up_at.map(Iso),
        doing: progress.doing,
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        waiting_for,
    }
}

/// How long readings took, in seconds.
#[derive(Serialize)]
struct PercentilesView {
    count: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    longest: f64,
}

impl From<Percentiles> for PercentilesView {
    fn from(told: Percentiles) -> Self {
        let Percentiles { count, p50, p90, p99, longest } = told;
        PercentilesView {
            count,
            p50: p50.as_secs_f64(),
            p90: p90.as_secs_f64(),
            p99: p99.as_secs_f64(),
            longest: longest.as_secs_f64(),
        }
    }
}

/// A look at every node.
#[derive(Serialize)]
struct SweepView {
    number: u64,
    began_at: Iso,
    ended_at: Option<Iso>,
    seconds: f64,
    nodes: usize,
    answered: usize,
    silent: usize,
    left_out: usize,
    round_trip: PercentilesView,
}

impl From<Sweeping> for SweepView {
    fn from(told: Sweeping) -> Self {
        SweepView {
            number: told.number,
            began_at: Iso(told.began),
            ended_at: told.ended.map(Iso),
            seconds: told.took.as_secs_f64(),
            nodes: told.nodes,
            answered: told.answered,
            silent: told.silent,
            left_out: told.left_out,
            round_trip: told.readings.into(),
        }
    }
}

/// `GET /v1/ferric/health`: how far behind Ferric is with its fleet. Nothing of it is counted for the request.
async fn health(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    context.args(&request)?;
    context.authorize(Rule::FerricFleetGet, Target::NONE)?;
    let told = state.directory.power_sync();
    let sync = json!({
        "interval_seconds": told.interval.as_secs_f64(),
        "nodes": told.nodes,
        "silent": told.silent,
        "not_asked": told.not_asked,
        "lag_seconds": told.lag.as_secs_f64(),
        "under_way": told.under_way,
        "round_trip": PercentilesView::from(told.readings),
        "sweep": told.sweep.map(SweepView::from),
        "last_sweep": told.last_sweep.map(SweepView::from),
    });
    Ok(HttpResponse::Ok().json(json!({"nodes": state.directory.nodes(), "power_sync": sync})))
}

/// `POST /v1/ferric/power_sync`: looks at the power of every node now; the number of the sweep, which may be under way
/// already.
async fn power_sync(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    context.args(&request)?;
    context.authorize(Rule::FerricPowerSync, Target::NONE)?;
    Ok(HttpResponse::Accepted().json(json!({"number": state.directory.sweep_power()})))
}

/// `GET /v1/ferric/doing`: every node that is at work now; those at rest are left out.
async fn fleet(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    context.args(&request)?;
    context.authorize(Rule::FerricFleetGet, Target::NONE)?;
    let all: Vec<View> = state.directory.all_doing().into_iter().map(|(id, doing)| view(id, doing)).collect();
    Ok(HttpResponse::Ok().json(json!({"doing": all})))
}

/// `GET /v1/ferric/nodes/{ident}/doing`: one of them, or null.
async fn node(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    context.args(&request)?;
    let found = find_for(&state, &context.ungated(), &ident, Rule::NodeGetStates).await?;
    Ok(HttpResponse::Ok().json(state.directory.doing(found.uuid).map(|doing| view(found.uuid, doing))))
}

/// `GET /v1/ferric/queue`: who waits for a place among the deployments and the cleanings, the next one first.
async fn queue(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    context.args(&request)?;
    context.authorize(Rule::FerricFleetGet, Target::NONE)?;
    let place = |(at, node): (usize, &Uuid)| json!({"node_uuid": node, "position": at + 1});
    let lines = state.directory.queue();
    let all: serde_json::Map<String, Value> = lines
        .iter()
        .map(|(kind, line)| ((*kind).to_owned(), line.iter().enumerate().map(place).collect()))
        .collect();
    Ok(HttpResponse::Ok().json(all))
}

/// How many operations are shown at the most.
const MOST_OPERATIONS: u8 = 50;

/// A step of the journal.
#[derive(Serialize)]
struct StepView {
    number: i32,
    interface: String,
    step: String,
    priority: i32,
    abortable: bool,
    requires_ramdisk: bool,
    source: String,
    args: Value,
    state: StepState,
    started_at: Option<Iso>,
    ended_at: Option<Iso>,
    checkpoint: Option<String>,
    error: Option<String>,
}

/// A piece of work with its steps.
#[derive(Serialize)]
struct OperationView {
    operation: Uuid,
    kind: String,
    state: StepState,
    started_at: Option<Iso>,
    ended_at: Option<Iso>,
    steps: Vec<StepView>,
}

/// What the steps say of the whole: the first of them that went wrong, else the last thing that is not over yet.
fn state_of(steps: &[StepView]) -> StepState {
    let any = |state| steps.iter().any(|step| step.state == state);
    let begun = steps.iter().any(|step| step.state != StepState::Pending);
    let over = !any(StepState::Pending) && !any(StepState::Running);
    if any(StepState::Failed) {
        StepState::Failed
    } else if any(StepState::Aborted) {
        StepState::Aborted
    } else if over {
        StepState::Done
    } else if begun {
        StepState::Running
    } else {
        StepState::Pending
    }
}

/// Longer arguments are told by their size only: an inventory is one.
const LONGEST_ARG: usize = 4096;

/// The arguments of a step, without secrets and without what nobody reads in a list.
fn shown(args: serde_json::Map<String, Value>) -> Value {
    let mut args = Value::Object(args);
    mask::mask(&mut args);
    for value in args.as_object_mut().into_iter().flat_map(|args| args.values_mut()) {
        let bytes = value.to_string().len();
        if bytes > LONGEST_ARG {
            *value = Value::String(format!("({bytes} bytes)"));
        }
    }
    args
}

fn operations(rows: Vec<StepRow>) -> Vec<OperationView> {
    let mut all: Vec<OperationView> = Vec::new();
    let mut begins: Vec<(Option<Timestamp>, Option<Timestamp>)> = Vec::new();
    for row in rows {
        if all.last().is_none_or(|last| last.operation != row.op) {
            all.push(OperationView {
                operation: row.op,
                kind: row.kind,
                state: StepState::Pending,
                started_at: None,
                ended_at: None,
                steps: Vec::new(),
            });
            begins.push((None, None));
        }
        let (Some(last), Some((begin, end))) = (all.last_mut(), begins.last_mut()) else { continue };
        *begin = begin.or(row.started_at);
        *end = row.ended_at.max(*end);
        let args = shown(row.args.parse());
        last.steps.push(StepView {
            number: row.idx + 1,
            interface: row.interface,
            step: row.step,
            priority: row.priority,
            abortable: row.abortable,
            requires_ramdisk: row.requires_ramdisk,
            source: row.source,
            args,
            state: row.state,
            started_at: row.started_at.map(Iso),
            ended_at: row.ended_at.map(Iso),
            checkpoint: row.checkpoint,
            error: row.error,
        });
    }
    for (one, (begin, end)) in all.iter_mut().zip(begins) {
        one.state = state_of(&one.steps);
        one.started_at = begin.map(Iso);
        let over = !matches!(one.state, StepState::Pending | StepState::Running);
        one.ended_at = end.filter(|_| over).map(Iso);
    }
    all
}

/// The journal of the node's latest operations, the latest first; `?operations=` says how many (5).
async fn steps(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let most = args.text("operations").unwrap_or("5").parse::<u8>().ok();
    let Some(most) = most.filter(|most| (1..=MOST_OPERATIONS).contains(most)) else {
        return Err(ApiError::bad_request(format!(
            "Expected a whole number from 1 to {MOST_OPERATIONS} in 'operations'."
        )));
    };
    let id = find_for(&state, &context.ungated(), &ident, Rule::NodeHistoryGet).await?.uuid;
    let rows = read(&state, move |c| journal::latest_of_node(c, id, i64::from(most))).await?;
    Ok(HttpResponse::Ok().json(json!({"operations": operations(rows)})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_shown_short_and_without_secrets() {
        let args =
            json!({"seconds": 3, "password": "calvin", "inventory": {"text": "x".repeat(LONGEST_ARG)}});
        let shown = shown(args.as_object().cloned().expect("an object"));
        assert_eq!(shown, json!({"seconds": 3, "password": "******", "inventory": "(4107 bytes)"}));
    }
}
