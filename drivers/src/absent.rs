//! Interfaces with nothing to them: there is none (`no-…`), or it does nothing (`noop`, `fake`).

use async_trait::async_trait;
use serde_json::Value;

use crate::interface::{
    ConsoleInterface, Interface, Json, Kind, NodeView, RaidInterface, Result, VendorInterface, VendorMethod,
    unsupported,
};

/// `no-…`: the machine has none. Whatever is asked of it is refused, validation included.
pub struct Absent(pub Kind);

impl Absent {
    fn refuse<T>(&self, node: &NodeView) -> Result<T> {
        Err(unsupported(node, self.0.as_str()))
    }
}

impl Interface for Absent {
    fn validate(&self, node: &NodeView) -> Result<()> {
        self.refuse(node)
    }
}

#[async_trait]
impl ConsoleInterface for Absent {
    async fn start(&self, node: &NodeView) -> Result<Json> {
        self.refuse(node)
    }

    async fn stop(&self, node: &NodeView) -> Result<Json> {
        self.refuse(node)
    }

    async fn console(&self, node: &NodeView) -> Result<Json> {
        self.refuse(node)
    }
}

#[async_trait]
impl VendorInterface for Absent {
    fn validate_call(&self, node: &NodeView, _method: &VendorMethod, _args: &Json) -> Result<()> {
        self.refuse(node)
    }

    async fn call(
        &self,
        node: &NodeView,
        _method: &VendorMethod,
        _http: &str,
        _args: &Json,
    ) -> Result<Value> {
        self.refuse(node)
    }
}

impl RaidInterface for Absent {
    fn validate_raid_config(&self, node: &NodeView, _config: &Json) -> Result<()> {
        self.refuse(node)
    }
}

/// Nothing to check, nothing to do, and all of it succeeds.
pub struct Plain;

impl Interface for Plain {}

#[async_trait]
impl ConsoleInterface for Plain {
    async fn start(&self, _node: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }

    async fn stop(&self, _node: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }

    async fn console(&self, _node: &NodeView) -> Result<Json> {
        Ok(Json::new())
    }
}

impl RaidInterface for Plain {}
