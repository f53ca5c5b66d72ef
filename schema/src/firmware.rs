//! The firmware components of a node as they were last seen (`GET /v1/nodes/{id}/firmware`).

use diesel::prelude::*;
use ferric_machine::Timestamp;
use uuid::Uuid;

use crate::{
    conn::Conn,
    error::{StoreError, parent_or},
    tables::firmware_components::dsl,
    types::TextCol,
};

/// A component as it was seen on a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewComponent {
    /// `bios`, `bmc`, `nic:…`; one of that name per node.
    pub component: String,
    /// The version that runs.
    pub current_version: Option<String>,
    /// The version that was written last, where the machine tells it. Where it does not: the one that runs, once it
    /// has changed.
    pub last_version_flashed: Option<String>,
    /// Who makes the device.
    pub vendor: Option<String>,
    /// Which one it is.
    pub model: Option<String>,
    /// Its serial number.
    pub serial_number: Option<String>,
}

/// A component as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = crate::tables::firmware_components)]
pub struct Component {
    /// `bios`, `bmc`, `nic:…`.
    pub component: String,
    /// The version at the first sight.
    pub initial_version: String,
    /// The version that runs.
    pub current_version: Option<String>,
    /// The version that came last, since the first sight.
    pub last_version_flashed: Option<String>,
    /// Who makes the device.
    pub vendor: Option<String>,
    /// Which one it is.
    pub model: Option<String>,
    /// Its serial number.
    pub serial_number: Option<String>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When it was seen to have changed.
    pub updated_at: Option<Timestamp>,
}

/// The components of a node, by name.
///
/// # Errors
/// The database's.
pub fn of_node(c: &mut Conn, node: Uuid) -> Result<Vec<Component>, StoreError> {
    Ok(dsl::firmware_components
        .filter(dsl::node_uuid.eq(TextCol::from(node)))
        .order_by(dsl::component)
        .select(Component::as_select())
        .load(c)?)
}

/// Writes down what was seen. A component that was not seen this time stays, as in Ironic; one that is the same keeps
/// its time.
///
/// # Errors
/// `NotFound` for the node.
pub fn merge(c: &mut Conn, node: Uuid, seen: &[NewComponent], now: Timestamp) -> Result<(), StoreError> {
    let known = of_node(c, node)?;
    for new in seen {
        let identity = (
            dsl::vendor.eq(&new.vendor),
            dsl::model.eq(&new.model),
            dsl::serial_number.eq(&new.serial_number),
        );
        let Some(old) = known.iter().find(|old| old.component == new.component) else {
            diesel::insert_into(dsl::firmware_components)
                .values((
                    dsl::node_uuid.eq(TextCol::from(node)),
                    dsl::component.eq(&new.component),
                    dsl::initial_version.eq(new.current_version.as_deref().unwrap_or_default()),
                    dsl::current_version.eq(&new.current_version),
                    dsl::last_version_flashed.eq(&new.last_version_flashed),
                    identity,
                    dsl::created_at.eq(now.0),
                ))
                .execute(c)
                .map_err(|e| parent_or(e, node, StoreError::from))?;
            continue;
        };
        let flashed = old.current_version != new.current_version;
        let last = match (&new.last_version_flashed, flashed) {
            (Some(told), _) => Some(told),
            (None, true) => new.current_version.as_ref(),
            (None, false) => old.last_version_flashed.as_ref(),
        };
        let same = (&old.vendor, &old.model, &old.serial_number)
            == (&new.vendor, &new.model, &new.serial_number)
            && !flashed
            && last == old.last_version_flashed.as_ref();
        if same {
            continue;
        }
        let row = dsl::firmware_components
            .filter(dsl::node_uuid.eq(TextCol::from(node)))
            .filter(dsl::component.eq(&new.component));
        diesel::update(row)
            .set((
                dsl::current_version.eq(&new.current_version),
                dsl::last_version_flashed.eq(last),
                identity,
                dsl::updated_at.eq(Some(now.0)),
            ))
            .execute(c)?;
    }
    Ok(())
}
