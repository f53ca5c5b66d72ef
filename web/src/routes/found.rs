//! What every noun asks for: the node that a client names, whether a body has keys that there are, where a page begins.

use ferric_schema::changes::Stamp;
use ferric_schema::{Conn, Node, StoreError, nodes};
use serde_json::Value;
use uuid::Uuid;

use crate::check;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::{Field, NODE_NAME_IN_PATH};
use crate::nearest::{did_you_mean, ended};
use crate::policy::{Rule, Target};
use crate::query;
use crate::routes::{read, without_json_suffix};
use crate::server::WebState;

/// Under what a client's `ident` is looked for, in this order. What can be no name is nobody's.
fn candidates(context: &Context, ident: &str) -> Vec<String> {
    if !check::is_logical_name(ident) {
        return Vec::new();
    }
    let by_name = context.version.has(NODE_NAME_IN_PATH);
    [Some(ident), without_json_suffix(ident, context)]
        .into_iter()
        .flatten()
        .filter(|ident| by_name || query::parse_uuid(ident).is_some())
        .map(str::to_owned)
        .collect()
}

/// The node that a client calls `ident`, if there is one: a UUID, or a name since 1.5. What can be no name is nobody's.
/// Errors are the database's alone.
pub(super) async fn find_maybe(state: &WebState, context: &Context, ident: &str) -> Result<Option<Node>> {
    let candidates = candidates(context, ident);
    if candidates.is_empty() {
        return Ok(None);
    }
    read(state, move |conn| {
        for ident in candidates {
            if let Some(node) = nodes::find(conn, &ident)? {
                return Ok(Some(node));
            }
        }
        Ok(None)
    })
    .await
}

/// A node with what belongs to it, and the state of both where that can be told.
pub(super) struct Stamped<T> {
    pub(super) node: Node,
    pub(super) besides: T,
    /// Taken before anything was read; `None` too when a client would find another node by the same name as soon as
    /// there is one.
    pub(super) stamp: Option<Stamp>,
}

/// As [`find_maybe`], with what else `besides` reads of the node in the same go.
pub(super) async fn stamped<T, F>(
    state: &WebState,
    context: &Context,
    ident: &str,
    besides: F,
) -> Result<Option<Stamped<T>>>
where
    T: Send + 'static,
    F: FnOnce(&mut Conn, &Node) -> std::result::Result<T, StoreError> + Send + 'static,
{
    let candidates = candidates(context, ident);
    if candidates.is_empty() {
        return Ok(None);
    }
    let counters = state.answers.counters(state.directory.store());
    read(state, move |conn| {
        let stamp = |id: Uuid| counters.as_ref().and_then(|counters| counters.stamp(id));
        for (place, ident) in candidates.into_iter().enumerate() {
            // as the store tells ids from names
            let (node, stamp) = match Uuid::try_parse(&ident) {
                Ok(id) => {
                    let stamp = stamp(id);
                    (nodes::get(conn, id)?, stamp)
                }
                Err(_) => match nodes::find(conn, &ident)? {
                    Some(node) if counters.is_some() => {
                        // only now it is known whose counter counts: what is kept must be read after that
                        let stamp = stamp(node.uuid);
                        let again = nodes::get(conn, node.uuid)?;
                        match again.filter(|again| again.name == node.name) {
                            Some(again) => (Some(again), stamp),
                            None => (Some(node), None),
                        }
                    }
                    found => (found, None),
                },
            };
            if let Some(node) = node {
                let besides = besides(conn, &node)?;
                return Ok(Some(Stamped { node, besides, stamp: stamp.filter(|_| place == 0) }));
            }
        }
        Ok(None)
    })
    .await
}

/// As [`find_maybe`]; one that the caller may not see is not there.
pub(super) async fn seen(state: &WebState, context: &Context, ident: &str) -> Result<Option<Node>> {
    let found = find_maybe(state, context, ident).await?;
    Ok(found.filter(|node| context.may(Rule::NodeGet, Target::node(node))))
}

/// As [`find_maybe`], for what needs one: 404, and 400 for what can be no name.
pub(super) async fn find(state: &WebState, context: &Context, ident: &str) -> Result<Node> {
    find_maybe(state, context, ident).await?.ok_or_else(|| missing(context, ident))
}

/// [`find`], for a caller who wants to do what `rule` stands for: 404 if the caller may not see the node, 403 if it may
/// see it and not do that.
pub(super) async fn find_for(state: &WebState, context: &Context, ident: &str, rule: Rule) -> Result<Node> {
    let node = seen(state, context, ident).await?.ok_or_else(|| missing(context, ident))?;
    context.authorize(rule, Target::node(&node))?;
    Ok(node)
}

/// Refuses what can be no name (400). Nothing at all is merely nobody's.
pub(super) fn check_ident(ident: &str) -> Result<()> {
    if ident.is_empty() || check::is_logical_name(ident) {
        Ok(())
    } else {
        Err(ApiError::no_ident("node", ident))
    }
}

/// 404, the same whether there is no such node or the caller may not see it.
pub(super) fn missing(context: &Context, ident: &str) -> ApiError {
    if let Err(refusal) = check_ident(ident) {
        return refusal;
    }
    if query::parse_uuid(ident).is_none() && !context.version.has(NODE_NAME_IN_PATH) {
        return ApiError::not_found(format!(
            "Node {ident} could not be found. Nodes are known by their names since API version 1.{NODE_NAME_IN_PATH}, this \
             request uses {}.",
            context.version
        ));
    }
    ApiError::missing("Node", ident, "nodes")
}

/// A marker, which is a UUID.
pub(super) fn marker(text: &str) -> Result<Uuid> {
    query::parse_uuid(text).ok_or_else(|| ApiError::bad_request(format!("Expected UUID for marker: {text}")))
}

/// Refuses keys that POST does not take (400), or that are newer than the version (406, unless null).
pub(super) fn check_keys<F: Field>(body: &serde_json::Map<String, Value>, context: &Context) -> Result<()> {
    let known = |key: &str| F::named(key).filter(|field| field.spec().write.at_create());
    let strange: Vec<String> =
        body.keys().filter(|key| known(key).is_none()).map(|key| format!("'{key}'")).collect();
    if !strange.is_empty() {
        let names = || F::ALL.iter().map(|field| field.spec()).filter(|spec| spec.write.at_create());
        let hint = |key: &str| ended(did_you_mean(key.trim_matches('\''), names().map(|spec| spec.name)));
        let verb = if strange.len() == 1 { "was" } else { "were" };
        return Err(ApiError::bad_request(format!(
            "Schema error for {}: Additional properties are not allowed ({} {verb} unexpected){}",
            check::noun::<F>(),
            strange.join(", "),
            hint(&strange[0])
        )));
    }
    for (key, value) in body {
        if let Some(field) = known(key)
            && !value.is_null()
            && !context.version.has(field.spec().since)
        {
            return Err(ApiError::too_new(
                &format!("attribute '{key}'"),
                field.spec().since,
                context.version,
            ));
        }
    }
    Ok(())
}
