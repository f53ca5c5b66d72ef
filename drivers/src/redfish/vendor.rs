//! The vendor interface `redfish`: subscriptions to events.

use async_trait::async_trait;
use reqwest::Url;
use serde_json::Value;

use super::{invalid, not_yet, validate};
use crate::interface::{Interface, Json, NodeView, Result, VendorInterface, VendorMethod};
use crate::python;

const fn sync(name: &'static str, http: &'static [&'static str], description: &'static str) -> VendorMethod {
    VendorMethod { http_methods: http, is_async: false, ..VendorMethod::post(name, description) }
}

static METHODS: &[VendorMethod] = &[
    sync(
        "create_subscription",
        &["POST"],
        "Creates a subscription on a node. Required argument: a dictionary of {'Destination': 'destination_url'}",
    ),
    sync(
        "delete_subscription",
        &["DELETE"],
        "Delete a subscription on a node. Required argument: a dictionary of {'id': 'subscription_bmc_id'}",
    ),
    VendorMethod::post(
        "eject_vmedia",
        "Eject a virtual media device. If no device is provided then all attached devices will be ejected. \
         Optional arguments: 'boot_device' - the boot device to eject, either 'cd', 'dvd', 'usb', or 'floppy'",
    ),
    sync("get_all_subscriptions", &["GET"], "Returns all subscriptions on the node."),
    sync(
        "get_subscription",
        &["GET"],
        "Get a subscription on the node. Required argument: a dictionary of {'id': 'subscription_bmc_id'}",
    ),
];

/// The vendor interface `redfish`.
pub struct RedfishVendor;

impl Interface for RedfishVendor {}

#[async_trait]
impl VendorInterface for RedfishVendor {
    fn methods(&self) -> &'static [VendorMethod] {
        METHODS
    }

    fn validate_call(&self, _node: &NodeView, method: &VendorMethod, args: &Json) -> Result<()> {
        match method.name {
            "create_subscription" => {
                let text = |key: &str| args.get(key).filter(|value| !value.is_string());
                if let Some(context) = text("Context") {
                    return Err(invalid(format!("Context {} is not a valid string", python::str(context))));
                }
                if let Some(protocol) = text("Protocol") {
                    return Err(invalid(format!("Protocol {} is not a string", python::str(protocol))));
                }
                if let Some(headers) = args.get("HttpHeaders").filter(|all| !all.is_null() && !all.is_array())
                {
                    let headers = python::str(headers);
                    return Err(invalid(format!("HttpHeaders {headers} is not a list of headers")));
                }
                let destination = args.get("Destination");
                let is_url = |url: Url| url.host_str().is_some_and(|host| !host.is_empty());
                if destination.and_then(Value::as_str).is_some_and(|text| Url::parse(text).is_ok_and(is_url))
                {
                    return Ok(());
                }
                let shown = destination.map_or_else(|| "None".to_owned(), python::str);
                Err(invalid(format!("Destination {shown} is not a valid URI")))
            }
            "delete_subscription" => {
                let given = args.get("id").is_some_and(|id| !id.is_null() && id.as_str() != Some(""));
                if given { Ok(()) } else { Err(invalid("id can't be None".into())) }
            }
            _ => Ok(()),
        }
    }

    async fn call(
        &self,
        node: &NodeView,
        _method: &VendorMethod,
        _http: &str,
        _args: &Json,
    ) -> Result<Value> {
        validate(node)?;
        not_yet()
    }
}
