//! A network of its own for a test: a namespace with a bridge where the servers run, namespaces on it for
//! clients, a tap for a machine. Needs root. Everything goes away with the value.

#![allow(dead_code)] // each test program uses a part of it

use std::future::Future;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where the servers are.
pub(crate) const SERVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 99, 0, 1);

pub(crate) struct Net {
    name: String,
    spaces: Vec<String>,
}

fn ip(args: &str) {
    let done = Command::new("ip").args(args.split(' ')).output().expect("iproute2 is installed");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {args}: {said} (network namespaces need root)");
}

impl Net {
    /// The servers' namespace with the bridge `br0` at 10.99.0.1/24.
    pub(crate) fn new() -> Net {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fnb{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&format!("netns add {name}"));
        let net = Net { name: name.clone(), spaces: vec![name] };
        for line in [
            "link set lo up",
            "link add br0 type bridge stp_state 0 forward_delay 0",
            "addr add 10.99.0.1/24 dev br0",
            "link set br0 up",
        ] {
            ip(&format!("-n {} {line}", net.name));
        }
        net
    }

    /// Another host on the bridge: its namespace, with the interface `c0`.
    pub(crate) fn host(&mut self, mac: &str, address: Option<&str>) -> String {
        let number = self.spaces.len();
        let space = format!("{}c{number}", self.name);
        ip(&format!("netns add {space}"));
        self.spaces.push(space.clone());
        let ours = &self.name;
        ip(&format!("-n {ours} link add v{number} type veth peer name c0 netns {space}"));
        ip(&format!("-n {ours} link set v{number} master br0 up"));
        ip(&format!("-n {space} link set c0 address {mac} up"));
        if let Some(address) = address {
            ip(&format!("-n {space} addr add {address} dev c0"));
        }
        space
    }

    /// A tap for a machine.
    pub(crate) fn tap(&self) -> &'static str {
        ip(&format!("-n {} tuntap add dev tap0 mode tap", self.name));
        ip(&format!("-n {} link set tap0 master br0 up", self.name));
        "tap0"
    }

    /// The servers' namespace.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs a test's body in the servers' namespace.
    pub(crate) fn run<F: Future<Output = ()>>(&self, body: impl FnOnce() -> F + Send) {
        let path = format!("/run/netns/{}", self.name);
        let work = move || {
            let space = std::fs::File::open(path).unwrap();
            // this thread, and those that it starts
            nix::sched::setns(space, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(body());
        };
        std::thread::scope(|scope| {
            if let Err(panic) = scope.spawn(work).join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for space in &self.spaces {
            // what is left behind belongs to this test alone; a failure to remove it must not hide the test's own
            let _ = Command::new("ip").args(["netns", "del", space]).status();
        }
    }
}

/// A command in a namespace.
pub(crate) fn command(space: &str, program: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("ip");
    command.args(["netns", "exec", space, program]).kill_on_drop(true);
    command
}

/// Runs a command in a namespace, at most 30 s: success, and what it said.
pub(crate) async fn run(space: &str, program: &str, args: &[&str]) -> (bool, String) {
    let done = command(space, program).args(args).output();
    let done =
        tokio::time::timeout(Duration::from_secs(30), done).await.expect("it ends").expect("it starts");
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Waits until `what` holds.
pub(crate) async fn until(what: &str, within: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
