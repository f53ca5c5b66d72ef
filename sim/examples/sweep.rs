//! Asks every BMC of a fleet for its power state, so many times over: `sweep 127.16.0.1 6230 10000 3`. A load for
//! profiles of `ferric sim`; the process to look at is the other one.
#![allow(clippy::unwrap_used)] // a tool of developers: it says what broke by panicking

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use ferric_drivers::interface::NodeView;
use ferric_drivers::protocol::ipmi::command::GetChassisStatus;
use ferric_drivers::protocol::ipmi::{IpmiClient, IpmiSettings, Target};
use ferric_machine::State;
use ferric_sim::bmc::BmcFleet;
use futures_util::StreamExt as _;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, port, count, times] = &arguments[..] else { panic!("sweep ADDRESS PORT COUNT TIMES") };
    let (first, port): (Ipv4Addr, u16) = (first.parse().unwrap(), port.parse().unwrap());
    let settings = IpmiSettings::default();
    let client = Arc::new(IpmiClient::new(settings.clone(), tokio::runtime::Handle::current()));
    for sweep in 0..times.parse().unwrap() {
        let began = Instant::now();
        let answered = futures_util::stream::iter(0..count.parse::<usize>().unwrap())
            .map(|index| {
                let address = SocketAddr::from((BmcFleet::address(first, index), port));
                let (client, settings) = (client.clone(), settings.clone());
                async move {
                    let info = serde_json::json!({
                        "ipmi_address": address.ip().to_string(), "ipmi_port": port,
                        "ipmi_username": ferric_sim::BMC_USER, "ipmi_password": ferric_sim::BMC_PASSWORD,
                    });
                    let node = NodeView {
                        uuid: uuid::Uuid::from_u128(index as u128),
                        name: None,
                        driver: "ipmi".to_owned(),
                        driver_info: info.as_object().unwrap().clone(),
                        driver_internal_info: Default::default(),
                        properties: Default::default(),
                        instance_info: Default::default(),
                        target_raid_config: Default::default(),
                        ports: Vec::new(),
                        state: State::Manageable,
                        power: None,
                    };
                    let target = Target::from_node(&node, &settings).unwrap();
                    client.run(&target, GetChassisStatus).await.is_ok()
                }
            })
            .buffer_unordered(64)
            .filter(|good| std::future::ready(*good))
            .count()
            .await;
        println!("sweep {sweep}: {answered} answered in {:.2} s", began.elapsed().as_secs_f32());
    }
}
