//! Load for anything that speaks Ironic's API: `ferric swarm`.
//!
//! [`run`] drives the lives of many nodes, phase by phase (`phases`), through a client that measures each request
//! (`client`, `record`), follows their states by reading the list of nodes (`watch`), and answers a [`Report`] that can
//! be written as JSON, printed, and drawn ([`picture`]). docs/swarm.md describes the measures and the report.

mod chart;
mod client;
mod fleet;
mod image;
mod options;
mod pace;
mod phases;
mod picture;
mod processes;
mod record;
mod report;
mod run;
mod show;
mod states;
mod watch;

pub use client::{CallError, Version};
pub use fleet::FleetError;
pub use options::{Auth, Image, Options, Pace, Phase, Watched};
pub use picture::draw as picture;
pub use report::{
    Endpoint, Load, NodeFailure, Percentiles, PhaseReport, ProcessSeries, Report, Requests, Series,
    StateSeries, Totals, Used,
};
pub use run::{SwarmError, run};
pub use show::{Show, Status};
