//! What operators send to a BMC beyond power and boot devices: interrupts, raw commands, resets.

#![allow(clippy::unwrap_used)] // a test may

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ferric_drivers::DriverError;
use ferric_drivers::interface::{Json, Level, ManagementInterface, NodeView, Result, VendorInterface};
use ferric_drivers::management::IpmitoolManagement;
use ferric_drivers::protocol::ipmi::command::ChassisControl;
use ferric_drivers::protocol::ipmi::{IpmiClient, IpmiSettings};
use ferric_drivers::vendor::IpmitoolVendor;
use ferric_machine::State;
use ferric_sim::bmc::{Bmc, BmcConfig, Chassis, SimpleChassis};
use serde_json::{Value, json};
use tokio::runtime::Handle;

fn object(value: Value) -> Json {
    value.as_object().unwrap().clone()
}

fn node(address: SocketAddr) -> NodeView {
    NodeView {
        uuid: uuid::Uuid::from_u128(1),
        name: None,
        driver: "ipmi".to_owned(),
        driver_info: object(json!({
            "ipmi_address": address.ip().to_string(), "ipmi_port": address.port(),
            "ipmi_username": "admin", "ipmi_password": "password",
        })),
        driver_internal_info: Json::new(),
        properties: Json::new(),
        instance_info: Json::new(),
        target_raid_config: Json::new(),
        ports: Vec::new(),
        state: State::Manageable,
        power: None,
    }
}

#[tokio::test]
async fn interrupts_and_raw_bytes_reach_the_machine_and_what_it_refuses_is_told() {
    let chassis = Arc::new(SimpleChassis::default());
    let behind: Arc<dyn Chassis> = chassis.clone();
    let bmc = Bmc::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), BmcConfig::default(), behind).unwrap();
    let client = Arc::new(IpmiClient::new(IpmiSettings::default(), Handle::current()));
    let node = node(bmc.address());
    let vendor = IpmitoolVendor::new(client.clone(), IpmiSettings::default());
    let management = IpmitoolManagement::new(client, IpmiSettings::default());
    let off = management.inject_nmi(&node).await.unwrap_err();
    assert!(off.to_string().contains("not possible in its present state"), "{off}");

    let call = async |name: &str, args: Value| -> Result<Value> {
        let method = vendor.method(Level::Node, name, "POST")?;
        vendor.validate_call(&node, method, &object(args.clone()))?;
        vendor.call(&node, method, "POST", &object(args)).await
    };
    // Chassis Control, power on
    call("send_raw", json!({"raw_bytes": "0x00 0x02 0x01"})).await.unwrap();
    management.inject_nmi(&node).await.unwrap();
    assert_eq!(chassis.history(), [ChassisControl::On, ChassisControl::Diag]);

    let missing = call("send_raw", json!({})).await.unwrap_err().to_string();
    assert_eq!(missing, "Parameter raw_bytes (string of bytes) was not specified.");
    let wrong = call("send_raw", json!({"raw_bytes": "0x00 0x02 on"})).await.unwrap_err();
    assert!(matches!(&wrong, DriverError::InvalidParameter { reason } if reason.contains("'on'")), "{wrong}");
    // this BMC has no reset
    for warm in [json!(true), json!("false")] {
        let refused = call("bmc_reset", json!({"warm": warm})).await.unwrap_err();
        assert!(matches!(refused, DriverError::Refused { .. }), "{refused}");
    }
}
