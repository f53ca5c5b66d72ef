//! Vendor passthru: methods that only some hardware has.

use async_trait::async_trait;
use serde_json::Value;

use super::{DriverError, Interface, Json, NodeView, Result};

/// Whether a method is one of a node (`/v1/nodes/{node}/vendor_passthru`) or of the hardware type
/// (`/v1/drivers/{driver}/vendor_passthru`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Of a node.
    Node,
    /// Of the hardware type.
    Driver,
}

/// A method as `GET …/vendor_passthru/methods` tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorMethod {
    /// Its name.
    pub name: &'static str,
    /// The HTTP methods it may be called with, upper case.
    pub http_methods: &'static [&'static str],
    /// Whether it is answered before it is carried out (202, no body). Otherwise its value is the answer (200).
    pub is_async: bool,
    /// What it does and takes.
    pub description: &'static str,
    /// Whether its value is a file to be downloaded.
    pub attach: bool,
    /// Whether nothing else may go on at the node meanwhile.
    pub require_exclusive_lock: bool,
    /// Of what it is a method.
    pub level: Level,
}

impl VendorMethod {
    /// A method of nodes that is called with POST and carried out afterwards.
    #[must_use]
    pub const fn post(name: &'static str, description: &'static str) -> VendorMethod {
        VendorMethod {
            name,
            http_methods: &["POST"],
            is_async: true,
            description,
            attach: false,
            require_exclusive_lock: true,
            level: Level::Node,
        }
    }

    /// The method as the API shows it. `require_exclusive_lock` is a word about nodes only.
    #[must_use]
    pub fn shown(&self) -> Json {
        let mut shown = Json::new();
        shown.insert("http_methods".into(), self.http_methods.to_vec().into());
        shown.insert("async".into(), self.is_async.into());
        shown.insert("description".into(), self.description.into());
        shown.insert("attach".into(), self.attach.into());
        match self.level {
            Level::Node => {
                shown.insert("require_exclusive_lock".into(), self.require_exclusive_lock.into());
            }
            Level::Driver => {}
        }
        shown
    }
}

/// The method of that name, if `http` may call it; otherwise the error, as Ironic words it.
pub fn find_method(
    methods: &'static [VendorMethod],
    level: Level,
    name: &str,
    http: &str,
) -> Result<&'static VendorMethod> {
    let invalid = |reason| DriverError::InvalidParameter { reason };
    let method = methods.iter().find(|method| method.level == level && method.name == name);
    let method = method.ok_or_else(|| invalid(format!("No handler for method {name}")))?;
    if method.http_methods.contains(&http) {
        Ok(method)
    } else {
        Err(invalid(format!("The method {name} does not support HTTP {http}")))
    }
}

/// Methods beyond what every machine can do.
#[async_trait]
pub trait VendorInterface: Interface {
    /// All its methods, sorted by name.
    fn methods(&self) -> &'static [VendorMethod] {
        &[]
    }

    /// The method of that name, if `http` may call it; otherwise the error, as Ironic words it.
    fn method(&self, level: Level, name: &str, http: &str) -> Result<&'static VendorMethod> {
        find_method(self.methods(), level, name, http)
    }

    /// Checks the arguments of a call of a node's method before it is accepted.
    fn validate_call(&self, node: &NodeView, method: &VendorMethod, args: &Json) -> Result<()>;
    /// Carries out a node's method. Of an asynchronous one the value is nobody's.
    async fn call(&self, node: &NodeView, method: &VendorMethod, http: &str, args: &Json) -> Result<Value>;
    /// Carries out a method of the hardware type.
    async fn driver_call(&self, method: &VendorMethod, _http: &str, _args: &Json) -> Result<Value> {
        Err(DriverError::InvalidParameter { reason: format!("No handler for method {}", method.name) })
    }
}
