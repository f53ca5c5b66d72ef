//! Allocations: nodes reserved by what they must be like (api.md §6), and the queries that choose among the free ones.

use std::collections::{BTreeSet, HashMap};

use diesel::{
    dsl::{exists, sql},
    prelude::*,
    sql_types::Bool,
};
use ferric_machine::{Timestamp, UnknownWord};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    conn::{Conn, MultiBackend},
    crud::{crud, find_by_name},
    error::{StoreError, duplicate_or, parent_or},
    page::{SortDir, by, by_id},
    tables::{allocations, allocations::dsl, conductors, node_traits, nodes},
    types::{BigCol, JsonList, JsonText, TextCol},
};

/// How many values one statement names; SQLite allows 32 766.
const AT_A_TIME: usize = 10_000;

/// How far an allocation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllocationState {
    /// A node is being looked for.
    Allocating,
    /// It has its node.
    Active,
    /// There is no node for it; `last_error` says why.
    Error,
}

impl AllocationState {
    /// Its word in the table and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AllocationState::Allocating => "allocating",
            AllocationState::Active => "active",
            AllocationState::Error => "error",
        }
    }
}

impl std::str::FromStr for AllocationState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Ok(match word {
            "allocating" => AllocationState::Allocating,
            "active" => AllocationState::Active,
            "error" => AllocationState::Error,
            _ => return Err(UnknownWord { what: "allocation state", word: word.to_owned() }),
        })
    }
}

impl Serialize for AllocationState {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// One allocation as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = allocations, treat_none_as_default_value = false, treat_none_as_null = true)]
pub struct Allocation {
    /// The row's number, in order of creation. 0 before the insert.
    #[diesel(skip_insertion, skip_update)]
    pub id: i64,
    /// Its public id; also the `instance_uuid` of its node.
    #[diesel(serialize_as = TextCol)]
    pub uuid: Uuid,
    /// Counts the writes of this row.
    pub generation: i64,
    /// When it was asked for.
    #[diesel(serialize_as = BigCol)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[diesel(serialize_as = BigCol)]
    pub updated_at: Option<Timestamp>,
    /// A unique name for people.
    pub name: Option<String>,
    /// The node that it has; a node has at most one allocation.
    #[diesel(serialize_as = TextCol)]
    pub node_uuid: Option<Uuid>,
    /// How far it is.
    #[diesel(serialize_as = TextCol)]
    pub state: AllocationState,
    /// The project that it is for: the node must be owned or leased by it.
    pub owner: Option<String>,
    /// The class that the node must be of.
    pub resource_class: Option<String>,
    /// The traits that the node must have: an array of names.
    pub traits: JsonList,
    /// The nodes to choose from, by uuid; empty: any.
    pub candidate_nodes: JsonList,
    /// The operator's own data.
    pub extra: JsonText,
    /// Why there is no node for it.
    pub last_error: Option<String>,
    /// The conductor that looks for the node.
    pub conductor: String,
}

impl Allocation {
    /// An allocation that asks for nothing in particular yet.
    #[must_use]
    pub fn new(uuid: Uuid, now: Timestamp) -> Allocation {
        Allocation {
            id: 0,
            uuid,
            generation: 0,
            created_at: now,
            updated_at: None,
            name: None,
            node_uuid: None,
            state: AllocationState::Allocating,
            owner: None,
            resource_class: None,
            traits: JsonList::default(),
            candidate_nodes: JsonList::default(),
            extra: JsonText::default(),
            last_error: None,
            conductor: String::new(),
        }
    }

    /// The names of the traits that it asks for.
    #[must_use]
    pub fn trait_names(&self) -> Vec<String> {
        texts(&self.traits)
    }

    /// The nodes that it may choose from; empty: any.
    #[must_use]
    pub fn candidates(&self) -> Vec<Uuid> {
        texts(&self.candidate_nodes).iter().filter_map(|id| Uuid::try_parse(id).ok()).collect()
    }
}

fn texts(list: &JsonList) -> Vec<String> {
    list.parse().iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn taken(row: &Allocation) -> [(&'static str, String); 3] {
    [
        ("uuid", row.uuid.to_string()),
        ("name", row.name.clone().unwrap_or_default()),
        ("node_uuid", row.node_uuid.map(|id| id.to_string()).unwrap_or_default()),
    ]
}

fn narrowed(mut query: Boxed, q: &AllocationQuery) -> Boxed {
    if let Some(node) = q.node {
        query = query.filter(dsl::node_uuid.eq(TextCol::from(node)));
    }
    if let Some(class) = q.resource_class.clone() {
        query = query.filter(dsl::resource_class.eq(class));
    }
    if let Some(state) = q.state.clone() {
        query = query.filter(dsl::state.eq(state));
    }
    if let Some(owner) = q.owner.clone() {
        query = query.filter(dsl::owner.eq(owner));
    }
    query
}

crud! {
    Allocation in allocations, "allocation", taken taken,
    /// Which page of the allocations. The default is all, in order of creation.
    query AllocationQuery {
        /// Of this node.
        node: Option<Uuid>,
        /// Of this class.
        resource_class: Option<String>,
        /// In this state, as the client wrote it.
        state: Option<String>,
        /// Of this project.
        owner: Option<String>,
    }
    narrow narrowed,
    sort AllocationSort {
        Uuid = "uuid": uuid, |a: &Allocation| Some(a.uuid.to_string());
        CreatedAt = "created_at": created_at, |a: &Allocation| Some(a.created_at.0);
        UpdatedAt = "updated_at": updated_at, |a: &Allocation| a.updated_at.map(|at| at.0);
        Name = "name": name, |a: &Allocation| a.name.clone();
        State = "state": state, |a: &Allocation| Some(a.state.as_str());
        Owner = "owner": owner, |a: &Allocation| a.owner.clone();
        ResourceClass = "resource_class": resource_class, |a: &Allocation| a.resource_class.clone();
        LastError = "last_error": last_error, |a: &Allocation| a.last_error.clone();
    }
}

find_by_name!(Allocation in allocations);

/// The allocation that has this node.
///
/// # Errors
/// The database's.
pub fn of_node(c: &mut Conn, node: Uuid) -> Result<Option<Allocation>, StoreError> {
    Ok(dsl::allocations
        .filter(dsl::node_uuid.eq(TextCol::from(node)))
        .select(Allocation::as_select())
        .first(c)
        .optional()?)
}

/// node → allocation, for those of these nodes that have one.
///
/// # Errors
/// The database's.
pub fn of_nodes(c: &mut Conn, nodes: &[Uuid]) -> Result<HashMap<Uuid, Uuid>, StoreError> {
    let mut found = HashMap::new();
    for part in nodes.chunks(AT_A_TIME) {
        let ids: Vec<String> = part.iter().map(Uuid::to_string).collect();
        let rows: Vec<(Option<Uuid>, Uuid)> = dsl::allocations
            .filter(dsl::node_uuid.eq_any(ids))
            .select((dsl::node_uuid, dsl::uuid))
            .load(c)?;
        found.extend(rows.into_iter().filter_map(|(node, id)| node.map(|node| (node, id))));
    }
    Ok(found)
}

/// Up to `limit` allocations that still look for a node and that are this conductor's, or of one that is not there any
/// more; those that waited longest first.
///
/// # Errors
/// The database's.
pub fn open(c: &mut Conn, conductor: &str, limit: i64) -> Result<Vec<Uuid>, StoreError> {
    let others = conductors::table
        .filter(conductors::online)
        .filter(conductors::hostname.ne(conductor.to_owned()))
        .select(conductors::hostname);
    Ok(dsl::allocations
        .filter(sql::<Bool>("state = 'allocating'"))
        .filter(dsl::conductor.ne_all(others))
        .order_by(dsl::id)
        .limit(limit)
        .select(dsl::uuid)
        .load(c)?)
}

/// Gives an allocation that still looks for a node this one. Goes into the transaction that writes the node's
/// `instance_uuid`, so that of two allocations one gets it.
///
/// # Errors
/// `NotFound` when the allocation is gone or looks no longer, or when the node lost a trait that it asks for;
/// `Duplicate` when the node has another one.
pub fn settle(c: &mut Conn, uuid: Uuid, node: Uuid, now: Timestamp) -> Result<(), StoreError> {
    let asked = get(c, uuid)?.filter(|one| one.state == AllocationState::Allocating);
    let asked = asked.ok_or_else(|| StoreError::not_found("allocation", uuid))?;
    let has = crate::nodes::traits(c, node)?;
    if let Some(lost) = asked.trait_names().iter().find(|name| !has.contains(name)) {
        return Err(StoreError::not_found("trait", format!("{lost} of node {node}")));
    }
    let open = dsl::allocations
        .filter(dsl::uuid.eq(TextCol::from(uuid)))
        .filter(dsl::state.eq(AllocationState::Allocating.as_str()));
    let written = diesel::update(open)
        .set((
            dsl::state.eq(AllocationState::Active.as_str()),
            dsl::node_uuid.eq(node.to_string()),
            dsl::last_error.eq(None::<String>),
            dsl::updated_at.eq(now.0),
            dsl::generation.eq(dsl::generation + 1),
        ))
        .execute(c)
        .map_err(|e| {
            let taken = [("node_uuid", node.to_string())];
            parent_or(e, node, |e| duplicate_or(e, "allocations", &taken))
        })?;
    if written == 0 { Err(StoreError::not_found("allocation", uuid)) } else { Ok(()) }
}

/// Writes down why there is no node for an allocation that still looks for one; says whether it still did.
///
/// # Errors
/// The database's.
pub fn fail(c: &mut Conn, uuid: Uuid, why: &str, now: Timestamp) -> Result<bool, StoreError> {
    let open = dsl::allocations
        .filter(dsl::uuid.eq(TextCol::from(uuid)))
        .filter(dsl::state.eq(AllocationState::Allocating.as_str()));
    let written = diesel::update(open)
        .set((
            dsl::state.eq(AllocationState::Error.as_str()),
            dsl::last_error.eq(why),
            dsl::updated_at.eq(now.0),
            dsl::generation.eq(dsl::generation + 1),
        ))
        .execute(c)?;
    Ok(written > 0)
}

/// Removes the allocation of a node, whichever it has, if it has one.
///
/// # Errors
/// The database's.
pub fn forget(c: &mut Conn, node: Uuid) -> Result<(), StoreError> {
    diesel::delete(dsl::allocations.filter(dsl::node_uuid.eq(TextCol::from(node)))).execute(c)?;
    Ok(())
}

/// Removes this allocation of a node.
///
/// # Errors
/// `NotFound` when the node does not have it, be it that it has another one by now.
pub fn release(c: &mut Conn, uuid: Uuid, node: Uuid) -> Result<(), StoreError> {
    let its = dsl::allocations
        .filter(dsl::uuid.eq(TextCol::from(uuid)))
        .filter(dsl::node_uuid.eq(TextCol::from(node)));
    match diesel::delete(its).execute(c)? {
        0 => Err(StoreError::not_found("allocation", uuid)),
        _ => Ok(()),
    }
}

/// Removes an allocation that has no node; says whether it was there so. One that got a node meanwhile stays: the node
/// has to be asked then.
///
/// # Errors
/// The database's.
pub fn withdraw(c: &mut Conn, uuid: Uuid) -> Result<bool, StoreError> {
    let free = dsl::allocations.filter(dsl::uuid.eq(TextCol::from(uuid))).filter(dsl::node_uuid.is_null());
    Ok(diesel::delete(free).execute(c)? > 0)
}

/// What a free node must be like.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Its class.
    pub resource_class: Option<String>,
    /// It has all of these.
    pub traits: BTreeSet<String>,
    /// It is one of these; empty: any.
    pub among: BTreeSet<Uuid>,
    /// It is owned or leased by this project.
    pub project: Option<String>,
}

impl Wanted {
    /// What this allocation wants.
    #[must_use]
    pub fn of(allocation: &Allocation) -> Wanted {
        Wanted {
            resource_class: allocation.resource_class.clone(),
            traits: allocation.trait_names().into_iter().collect(),
            among: allocation.candidates().into_iter().collect(),
            project: allocation.owner.clone(),
        }
    }
}

type Free = diesel::helper_types::IntoBoxed<
    'static,
    diesel::helper_types::Select<nodes::dsl::nodes, nodes::dsl::uuid>,
    MultiBackend,
>;

impl Wanted {
    /// No node can be so, since none has as many traits. Nor could a statement name them all.
    fn is_impossible(&self) -> bool {
        self.traits.len() > crate::nodes::MOST_TRAITS
    }
}

/// The free nodes, whichever they may be chosen among: available, in nobody's hands, of known power state. In the words of
/// the index `nodes_free_idx`.
fn free(wanted: &Wanted) -> Free {
    use nodes::dsl as n;
    let mut query = n::nodes.select(n::uuid).into_boxed();
    query = query
        .filter(sql::<Bool>("provision_state = 'available' AND instance_uuid IS NULL AND NOT maintenance"));
    query = query.filter(n::power_state.is_not_null());
    query = match wanted.resource_class.clone() {
        Some(class) => query.filter(n::resource_class.eq(class)),
        None => query.filter(n::resource_class.is_null()),
    };
    if let Some(project) = wanted.project.clone() {
        query = query.filter(n::owner.eq(project.clone()).or(n::lessee.eq(project)));
    }
    for name in &wanted.traits {
        query = query.filter(exists(
            node_traits::table
                .filter(node_traits::node_uuid.eq(n::uuid))
                .filter(node_traits::name.eq(name.clone())),
        ));
    }
    query
}

/// Up to `limit` free nodes, by uuid: from `from` (without it) on, or from the first one.
///
/// # Errors
/// The database's.
pub fn free_nodes(
    c: &mut Conn,
    wanted: &Wanted,
    from: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>, StoreError> {
    if wanted.is_impossible() {
        return Ok(Vec::new());
    }
    // a lower bound even for the first page: without one SQLite would take another index, and sort
    let after = from.map(|id| id.to_string()).unwrap_or_default();
    let mut page = |among: Option<&[String]>, most: i64| -> Result<Vec<Uuid>, StoreError> {
        let mut query = free(wanted).filter(nodes::dsl::uuid.gt(after.clone()));
        if let Some(among) = among {
            query = query.filter(nodes::dsl::uuid.eq_any(among.to_vec()));
        }
        Ok(query.order_by(nodes::dsl::uuid).limit(most).load(c)?)
    };
    if wanted.among.is_empty() {
        return page(None, limit);
    }
    let among: Vec<String> =
        wanted.among.iter().filter(|id| from.is_none_or(|from| **id > from)).map(Uuid::to_string).collect();
    let mut found = Vec::new();
    // in the order of the uuids, so that what the first part has comes before what the next one has
    for part in among.chunks(AT_A_TIME) {
        let left = limit.saturating_sub(i64::try_from(found.len()).unwrap_or(i64::MAX));
        if left <= 0 {
            break;
        }
        found.extend(page(Some(part), left)?);
    }
    Ok(found)
}

/// The free node of that name.
///
/// # Errors
/// The database's.
pub fn free_node_named(c: &mut Conn, wanted: &Wanted, name: &str) -> Result<Option<Uuid>, StoreError> {
    if wanted.is_impossible() {
        return Ok(None);
    }
    let found: Option<Uuid> =
        free(wanted).filter(nodes::dsl::name.eq(name.to_owned())).first(c).optional()?;
    Ok(found.filter(|node| wanted.among.is_empty() || wanted.among.contains(node)))
}

/// The nodes that these uuids and names mean: uuid, name, owner, lessee of each, in no order.
///
/// # Errors
/// The database's.
#[allow(clippy::type_complexity)] // a row of four columns
pub fn nodes_meant(
    c: &mut Conn,
    idents: &[String],
) -> Result<Vec<(Uuid, Option<String>, Option<String>, Option<String>)>, StoreError> {
    use nodes::dsl as n;
    let mut found = Vec::new();
    for part in idents.chunks(AT_A_TIME) {
        let ids: Vec<String> =
            part.iter().filter_map(|ident| Uuid::try_parse(ident).ok()).map(|id| id.to_string()).collect();
        let columns = (n::uuid, n::name, n::owner, n::lessee);
        found.extend(n::nodes.filter(n::uuid.eq_any(ids)).select(columns).load(c)?);
        let names = n::nodes.filter(n::name.nullable().eq_any(part.to_vec()));
        found.extend(names.select(columns).load(c)?);
    }
    Ok(found)
}
