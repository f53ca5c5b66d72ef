//! Every table and every query, once, for SQLite and PostgreSQL.
//!
//! [`Store`] owns the connections. Reads take a pooled connection; writes on SQLite go through one group-commit
//! writer, on PostgreSQL each has its own transaction. All queries are plain functions over [`Conn`] in a module per
//! table, so that a caller composes several of them into one read or one write.

pub mod allocations;
pub mod bios;
mod cached;
pub mod changes;
pub mod chassis;
mod columns;
mod commit;
pub mod conductors;
mod conn;
mod crud;
mod error;
pub mod events;
pub mod firmware;
pub mod history;
pub mod inventory;
pub mod journal;
pub mod migrate;
mod node;
mod node_query;
mod node_shown;
pub mod nodes;
mod page;
mod pool;
mod port;
pub mod portgroups;
pub mod ports;
pub mod retain;
pub mod rules;
pub mod runbooks;
mod store;
mod tables;
pub mod templates;
mod types;
pub mod vifs;
pub mod volumes;
mod writer;

pub use columns::Columns;
pub use commit::{Also, Commit, Committed, JournalChange, commit};
pub use conn::{Backend, Conn};
pub use error::{Cause, StoreError};
pub use node::Node;
pub use node_query::{NodeQuery, NodeSort};
pub use node_shown::{BadColumn, NodeColumn, NodeRow, each_node};
pub use page::SortDir;
pub use port::Port;
pub use store::{Durability, Store, StoreOptions};
pub use types::{JsonList, JsonText};
pub use writer::WriterStats;
