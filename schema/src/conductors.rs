//! Queries on conductors: who is alive, and with which hardware types.

use diesel::prelude::*;
use ferric_machine::Timestamp;
use serde::Serialize;

use crate::{conn::Conn, error::StoreError, tables::conductors::dsl};

/// One conductor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conductor {
    /// The row's number.
    pub id: i64,
    /// Its unique name.
    pub hostname: String,
    /// The group of nodes it serves; empty: the default one.
    pub conductor_group: String,
    /// The hardware types that it has enabled.
    pub drivers: Vec<String>,
    /// False once it has said goodbye. Whether one that never did is alive, its `updated_at` tells.
    pub online: bool,
    /// When it first appeared.
    pub created_at: Timestamp,
    /// When it was last heard of.
    pub updated_at: Timestamp,
}

type Row = (i64, String, String, String, bool, Timestamp, Timestamp);

fn read(
    (id, hostname, conductor_group, drivers, online, created_at, updated_at): Row,
) -> Result<Conductor, StoreError> {
    let drivers = serde_json::from_str(&drivers).map_err(StoreError::other)?;
    Ok(Conductor { id, hostname, conductor_group, drivers, online, created_at, updated_at })
}

/// Makes a conductor known, or known again after a restart, and alive as of `now`.
///
/// # Errors
/// The database's.
pub fn register(
    c: &mut Conn,
    hostname: &str,
    conductor_group: &str,
    drivers: &[String],
    now: Timestamp,
) -> Result<Conductor, StoreError> {
    let names = serde_json::to_string(drivers).map_err(StoreError::other)?;
    let values = (
        dsl::conductor_group.eq(conductor_group),
        dsl::drivers.eq(&names),
        dsl::online.eq(true),
        dsl::updated_at.eq(now.0),
    );
    if diesel::update(dsl::conductors.filter(dsl::hostname.eq(hostname))).set(values).execute(c)? == 0 {
        diesel::insert_into(dsl::conductors)
            .values((dsl::hostname.eq(hostname), dsl::created_at.eq(now.0), values))
            .execute(c)?;
    }
    get(c, hostname)?.ok_or_else(|| StoreError::not_found("conductor", hostname))
}

/// Says that a conductor is still alive.
///
/// # Errors
/// `NotFound` when it is not registered.
pub fn touch(c: &mut Conn, hostname: &str, now: Timestamp) -> Result<(), StoreError> {
    set(c, hostname, true, now)
}

/// Says that a conductor stops on purpose, so that nobody waits for it to be missed.
///
/// # Errors
/// `NotFound` when it is not registered.
pub fn offline(c: &mut Conn, hostname: &str, now: Timestamp) -> Result<(), StoreError> {
    set(c, hostname, false, now)
}

fn set(c: &mut Conn, hostname: &str, online: bool, now: Timestamp) -> Result<(), StoreError> {
    let written = diesel::update(dsl::conductors.filter(dsl::hostname.eq(hostname)))
        .set((dsl::online.eq(online), dsl::updated_at.eq(now.0)))
        .execute(c)?;
    if written == 0 { Err(StoreError::not_found("conductor", hostname)) } else { Ok(()) }
}

/// The conductor of that name.
///
/// # Errors
/// The database's.
pub fn get(c: &mut Conn, hostname: &str) -> Result<Option<Conductor>, StoreError> {
    dsl::conductors.filter(dsl::hostname.eq(hostname)).first::<Row>(c).optional()?.map(read).transpose()
}

/// All conductors, in order of first appearance. There are few: the caller pages.
///
/// # Errors
/// The database's.
pub fn list(c: &mut Conn) -> Result<Vec<Conductor>, StoreError> {
    dsl::conductors.order_by(dsl::id).load::<Row>(c)?.into_iter().map(read).collect()
}
