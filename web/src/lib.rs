//! Ironic's REST API (v1, microversions 1.1 to 1.115) over actix-web. Reads go to the store, changes to the actors.
//!
//! [`gates`] holds what each microversion adds, as tables; [`error`] every status; [`views`] how rows look on the
//! wire; `routes/` a file per noun. The wire itself is described in `docs/` of the project's shared notes
//! (`ironic/api.md`, `ironic/microversions.md`).

mod answers;
pub mod auth;
mod body;
mod check;
mod context;
mod document;
pub mod error;
pub mod gates;
mod mask;
pub mod microversions;
mod nearest;
pub mod openapi;
pub mod operations;
mod overload;
mod patch;
pub mod policy;
mod query;
mod rescue;
mod routes;
mod rows;
mod server;
mod tls;
pub mod version;
mod views;

pub use overload::Limits;
pub use rescue::PasswordHash;
pub use routes::configure;
pub use server::{ServeError, Serving, Streams, WebSettings, WebState, serve};
pub use tls::{Tls, TlsError};
