//! Many BMCs behind one socket: each answers from its own address, and nobody else does.

#![allow(clippy::unwrap_used)] // a test may

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ferric_drivers::protocol::ipmi::packet::MAX_DATAGRAM;
use ferric_sim::bmc::{BmcConfig, BmcFleet, Chassis, SHARED_FROM, SimpleChassis};
use tokio::net::UdpSocket;

const LIMIT: Duration = Duration::from_secs(60);
/// RMCP's presence ping with the tag 7.
const PING: [u8; 12] = [6, 0, 0xFF, 6, 0, 0, 0x11, 0xBE, 0x80, 7, 0, 0];

/// A fleet on one port that was free.
fn fleet(count: usize, first: Ipv4Addr) -> (BmcFleet, u16) {
    for port in (20_000 + std::process::id() as u16 % 8_000..).take(200) {
        let chassis = |_| -> Arc<dyn Chassis> { Arc::new(SimpleChassis::default()) };
        match BmcFleet::start(count, first, port, &BmcConfig::default(), chassis) {
            Ok(fleet) => return (fleet, port),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}"),
        }
    }
    panic!("no port is free");
}

/// Files that this process has open.
fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn pong(console: &UdpSocket, bmc: SocketAddr) {
    let mut buffer = [0; MAX_DATAGRAM];
    tokio::time::timeout(LIMIT, async {
        loop {
            console.send_to(&PING, bmc).await.unwrap();
            let answer = tokio::time::timeout(Duration::from_millis(200), console.recv_from(&mut buffer));
            if let Ok(Ok((_, from))) = answer.await {
                assert_eq!(from, bmc, "an answer comes from the address that was asked");
                return;
            }
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{bmc} never answers"));
}

#[tokio::test]
async fn a_thousand_bmcs_have_one_socket_and_each_its_address() {
    let first = Ipv4Addr::new(127, 105, 40, 250);
    let before = files();
    let (fleet, port) = fleet(1000, first);
    assert!(files() < before + 20, "{} files for a thousand BMCs", files() - before);
    let console = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for index in [0, 1, 4, 5, 6, 500, 999] {
        pong(&console, SocketAddr::from((BmcFleet::address(first, index), port))).await;
        assert_eq!(fleet.bmcs()[index].address().ip(), BmcFleet::address(first, index));
    }
}

#[tokio::test]
async fn an_address_that_is_none_of_the_fleets_is_silent() {
    let first = Ipv4Addr::new(127, 105, 50, 1);
    let (_fleet, port) = fleet(SHARED_FROM, first);
    let console = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let strangers = [BmcFleet::address(first, SHARED_FROM), Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 9, 9)];
    for stranger in strangers {
        console.send_to(&PING, (stranger, port)).await.unwrap();
    }
    // datagrams on loopback keep their order: what was sent before is dropped by then
    let known = SocketAddr::from((first, port));
    let mut buffer = [0; MAX_DATAGRAM];
    console.send_to(&PING, known).await.unwrap();
    let (_, from) = tokio::time::timeout(LIMIT, console.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(from, known);
}

#[tokio::test]
async fn the_port_is_free_again_when_the_fleet_is_gone() {
    let first = Ipv4Addr::new(127, 105, 60, 1);
    let (one, port) = fleet(SHARED_FROM, first);
    drop(one);
    let mut last = None;
    for _ in 0..1000 {
        let chassis = |_| -> Arc<dyn Chassis> { Arc::new(SimpleChassis::default()) };
        match BmcFleet::start(SHARED_FROM, first, port, &BmcConfig::default(), chassis) {
            Ok(_) => return,
            // the task that listened ends at its next turn
            Err(error) => last = Some(error),
        }
        tokio::task::yield_now().await;
    }
    panic!("the port stays taken: {last:?}");
}
