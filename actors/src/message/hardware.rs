//! What may be asked of a machine's hardware beyond its power and its boot device (api.md §3.5).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use ferric_drivers::console::Attachment;
use ferric_drivers::interface::{
    Attached, EventLog, Fru, Identify, IndicatorState, Indicators, Json, Sensors, VendorMethod, VmediaAsk,
};
use ferric_machine::BootMode;
use serde_json::Value;

use crate::error::NodeError;

/// `PUT …/states/raid`: the configuration that a later `raid.create_configuration` is to build; empty for none.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct SetTargetRaidConfig(pub Json);

/// `GET …/states/console`: where the console is, `None` while it is off. Asks the driver.
#[derive(Message)]
#[rtype(result = "Result<Option<Json>, NodeError>")]
pub struct GetConsole;

/// `GET /v1/ferric/nodes/{ident}/console`: watches the console, and types if it `wants` to and nobody else does. Refused
/// while the console is off.
#[derive(Message)]
#[rtype(result = "Result<Attachment, NodeError>")]
pub struct AttachConsole {
    /// To type.
    pub wants: bool,
}

/// `PUT …/states/console`. Answers once the order is committed; it is carried out afterwards.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct SetConsole(pub bool);

/// `PUT …/states/boot_mode`, as [`SetConsole`].
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct SetBootMode(pub BootMode);

/// `PUT …/states/secure_boot`, as [`SetConsole`].
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct SetSecureBoot(pub bool);

/// `PUT …/management/inject_nmi`. Answers when the BMC has taken it.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct InjectNmi;

/// `GET …/management/indicators`.
#[derive(Message)]
#[rtype(result = "Result<Indicators, NodeError>")]
pub struct GetIndicators;

/// `GET …/management/indicators/{indicator}@{component}`.
#[derive(Message)]
#[rtype(result = "Result<IndicatorState, NodeError>")]
pub struct GetIndicator {
    /// `chassis`, `system`, …
    pub component: String,
    /// Its id within the component.
    pub indicator: String,
}

/// `PUT …/management/indicators/{indicator}@{component}`.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct SetIndicator {
    /// `chassis`, `system`, …
    pub component: String,
    /// Its id within the component.
    pub indicator: String,
    /// What it is to show.
    pub state: IndicatorState,
}

/// `GET /v1/ferric/nodes/{ident}/sensors`: read now, or at most so long ago.
#[derive(Message)]
#[rtype(result = "Result<Arc<Sensors>, NodeError>")]
pub struct GetSensors {
    /// A reading that is no older will do.
    pub max_age: Duration,
}

/// `GET /v1/ferric/nodes/{ident}/sel`.
#[derive(Message)]
#[rtype(result = "Result<EventLog, NodeError>")]
pub struct GetEventLog {
    /// Entries at the most, the newest.
    pub most: usize,
}

/// `DELETE /v1/ferric/nodes/{ident}/sel`.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct ClearEventLog;

/// `GET /v1/ferric/nodes/{ident}/fru`.
#[derive(Message)]
#[rtype(result = "Result<Vec<Fru>, NodeError>")]
pub struct GetFru;

/// `PUT /v1/ferric/nodes/{ident}/identify`.
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct SetIdentify(pub Identify);

/// `GET …/vmedia`.
#[derive(Message)]
#[rtype(result = "Result<Vec<Attached>, NodeError>")]
pub struct GetVmedia;

/// `POST …/vmedia`, as [`SetConsole`].
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct AttachVmedia(pub VmediaAsk);

/// `DELETE …/vmedia`: drives of these types, or all. As [`SetConsole`].
#[derive(Message)]
#[rtype(result = "Result<(), NodeError>")]
pub struct DetachVmedia(pub Option<Vec<String>>);

/// `GET …/vendor_passthru/methods`: those of nodes.
#[derive(Message)]
#[rtype(result = "Result<Vec<&'static VendorMethod>, NodeError>")]
pub struct GetVendorMethods;

/// A call of a vendor method. An asynchronous one is carried out after the answer.
#[derive(Message)]
#[rtype(result = "Result<VendorAnswer, NodeError>")]
pub struct CallVendor {
    /// Its name.
    pub method: String,
    /// The HTTP method that it is called with, upper case.
    pub http: String,
    /// The body.
    pub args: Json,
    /// The other end of the connection that it came over.
    pub peer: Option<IpAddr>,
    /// Nobody was asked who calls: there are but the methods of ramdisks for him, and he hears of any other call what he
    /// hears of a wrong key.
    pub anonymous: bool,
}

impl CallVendor {
    /// A call of somebody who was let in.
    #[must_use]
    pub fn new(method: impl Into<String>, http: impl Into<String>, args: Json) -> CallVendor {
        CallVendor { method: method.into(), http: http.into(), args, peer: None, anonymous: false }
    }
}

/// What a vendor method answers.
#[derive(Debug, PartialEq)]
pub enum VendorAnswer {
    /// It is carried out afterwards (202).
    Accepted,
    /// Its value (200).
    Value(Value),
    /// A file to be downloaded (200).
    File(Value),
}
