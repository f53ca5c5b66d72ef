//! Volumes that nodes boot from and use (api.md §8): connectors say who a node is to the storage, targets which volumes
//! it has there.

pub mod connectors;
pub mod targets;
