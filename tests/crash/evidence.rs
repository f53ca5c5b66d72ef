//! What the database tells about a node, for the one who has to find out what went wrong.

use std::fmt::Write as _;
use std::path::Path;

use ferric_schema::{Store, StoreOptions, events, journal, nodes};
use uuid::Uuid;

/// Events of a node that are printed.
const EVENTS: i64 = 40;

fn open(data: &Path) -> Result<Store, String> {
    let options = StoreOptions {
        migrate: false,
        ..StoreOptions::new(data.join("ferric.sqlite").display().to_string())
    };
    Store::open(&options).map_err(|error| error.to_string())
}

/// State, error, journal and latest events of a node.
pub(crate) fn of_node(data: &Path, name: &str) -> String {
    let read = || -> Result<String, String> {
        let store = open(data)?;
        store
            .read_blocking(|c| {
                let mut text = String::new();
                let Some(node) = nodes::find(c, name)? else {
                    return Ok(format!("{name} is not in the database"));
                };
                let _ = writeln!(
                    text,
                    "{name} {}: {} (target {:?}), power {:?} (target {:?}), maintenance {}, last_error {:?}",
                    node.uuid,
                    node.provision_state,
                    node.target_provision_state,
                    node.power_state,
                    node.target_power_state,
                    node.maintenance,
                    node.last_error
                );
                let rows = journal::open_of_node(c, node.uuid)?;
                let rows = match rows.first() {
                    Some(row) => journal::of_operation(c, row.op)?,
                    None => rows,
                };
                for row in rows {
                    let _ = writeln!(
                        text,
                        "  step {} {} {}.{} {:?} checkpoint {:?} error {:?}",
                        row.kind, row.idx, row.interface, row.step, row.state, row.checkpoint, row.error
                    );
                }
                for event in events::latest_of_node(c, node.uuid, None, EVENTS)?.into_iter().rev() {
                    let _ = writeln!(
                        text,
                        "  event {} {:?} {} {} {}",
                        event.seq, event.at, event.severity, event.kind, event.text
                    );
                }
                Ok(text)
            })
            .map_err(|error| error.to_string())
    };
    read().unwrap_or_else(|error| format!("the database cannot be read: {error}"))
}

/// The first event that tells of an error: a state nobody happened to look at is written there too.
pub(crate) fn first_error(data: &Path) -> Result<Option<(Option<Uuid>, String)>, String> {
    let store = open(data)?;
    let mut seq = 0;
    loop {
        let page = store.read_blocking(|c| events::after(c, seq, 1000)).map_err(|error| error.to_string())?;
        let Some(last) = page.last() else { return Ok(None) };
        seq = last.seq;
        if let Some(event) = page.into_iter().find(|event| event.severity == "ERROR") {
            return Ok(Some((event.node, format!("event {} {}: {}", event.seq, event.kind, event.text))));
        }
    }
}
