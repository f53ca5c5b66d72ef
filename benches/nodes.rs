//! Lists of nodes as clients get them: one connection to a real server over a real store, a thousand nodes. What is
//! measured is the whole way, from the rows to the last byte at the client.
#![allow(missing_docs)] // criterion's macros write public functions

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferric_actors::{Directory, Settings};
use ferric_drivers::fakes::{self, FakeDelays};
use ferric_drivers::protocol::dhcp::PortIndex;
use ferric_drivers::{Parts, Registry, RegistrySettings};
use ferric_schema::{Store, StoreOptions};
use ferric_web::{WebSettings, serve};
use serde_json::json;

const NODES: u64 = 1000;

/// The server, on a thread that ends with the process.
fn start(store: Store) -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        actix::System::new().block_on(async move {
            let mut parts = Parts::default();
            fakes::install(&mut parts, &FakeDelays::default());
            let names = RegistrySettings {
                hardware_types: vec!["fake-hardware".into()],
                ..RegistrySettings::default()
            };
            let registry = Arc::new(Registry::new(names, parts).expect("a registry"));
            let settings =
                Settings { host: "bench".into(), power_sync_interval: Duration::ZERO, ..Settings::default() };
            let directory = Directory::start(settings, store, registry, Arc::new(PortIndex::default()));
            let directory = directory.await.expect("a directory");
            let listen = SocketAddr::from(([127, 0, 0, 1], 0));
            let web = WebSettings { listen, workers: 1, ..WebSettings::default() };
            let serving = serve(web, directory, |_| {}).await.expect("it listens");
            tell.send(serving.addr).expect("it is waited for");
            serving.server.await.expect("it serves");
        });
    });
    told.recv().expect("the server starts")
}

/// Nodes such as clients create them.
fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) {
    for number in 0..NODES {
        let node = json!({
            "driver": "fake-hardware", "uuid": uuid(number), "name": format!("node-{number}"),
            "resource_class": "bench",
            "properties": {"cpus": 8, "memory_mb": 32768, "local_gb": 100, "cpu_arch": "x86_64"},
            "driver_info": {"deploy_kernel": "http://127.0.0.1/k", "deploy_ramdisk": "http://127.0.0.1/r"},
            "extra": {"rack": format!("r{}", number % 40), "index": number}
        });
        let body = node.to_string();
        let head = format!(
            "POST /v1/nodes HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}",
            body.len()
        );
        ask(stream, buffer, &head, &body);
    }
}

fn uuid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// One request on a connection that is kept; the length of the answer's body.
fn ask(stream: &mut TcpStream, buffer: &mut Vec<u8>, head: &str, body: &str) -> usize {
    let request = format!("{head}\r\nhost: bench\r\nX-OpenStack-Ironic-API-Version: 1.82\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("it is sent");
    buffer.clear();
    let mut part = [0; 65536];
    loop {
        let len = stream.read(&mut part).expect("it answers");
        assert!(len > 0, "the connection is kept");
        buffer.extend_from_slice(&part[..len]);
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        assert!(text.starts_with("http/1.1 20"), "{text}");
        match text.lines().find_map(|line| line.strip_prefix("content-length: ")) {
            Some(length) => {
                let all = head + 4 + length.trim().parse::<usize>().expect("a number");
                while buffer.len() < all {
                    let len = stream.read(&mut part).expect("it answers");
                    assert!(len > 0, "all of it comes");
                    buffer.extend_from_slice(&part[..len]);
                }
                return all - head - 4;
            }
            None => {
                while !buffer.ends_with(b"\r\n0\r\n\r\n") {
                    let len = stream.read(&mut part).expect("it answers");
                    assert!(len > 0, "all of it comes");
                    buffer.extend_from_slice(&part[..len]);
                }
                return buffer.len() - head - 4;
            }
        }
    }
}

fn lists(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bench.sqlite");
    let store = Store::open(&StoreOptions::new(path.to_str().expect("UTF-8"))).expect("a database");
    let address = start(store);
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let mut buffer = Vec::new();
    fill(&mut stream, &mut buffer);
    let mut group = c.benchmark_group("nodes");
    group.measurement_time(Duration::from_secs(6)).sample_size(20);
    let one = format!("/v1/nodes/{}", uuid(1));
    for (name, path, rows) in [
        ("one node", one.as_str(), 1),
        ("list of 1000", "/v1/nodes?limit=1000", NODES),
        ("detailed list of 1000", "/v1/nodes/detail?limit=1000", NODES),
    ] {
        group.throughput(Throughput::Elements(rows));
        let head = format!("GET {path} HTTP/1.1");
        group.bench_function(name, |b| b.iter(|| ask(&mut stream, &mut buffer, &head, "")));
    }
    group.finish();
}

criterion_group!(benches, lists);
criterion_main!(benches);
