//! TFTP and HTTP against the clients that people have: tftp-hpa, busybox, curl. All on loopback.

#![allow(clippy::unwrap_used)] // tests fail by panicking

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ferric_drivers::protocol::{http, tftp};
use sha2::{Digest, Sha256};
use tokio::process::Command;

/// A root with a file of 3 MB and a bit, a link inside, a link outside, and a secret beside it.
fn root() -> (tempfile::TempDir, std::path::PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("node")).unwrap();
    let mut content = vec![0; 3_000_017];
    getrandom::fill(&mut content).unwrap();
    fs::write(root.join("node/kernel"), &content).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    symlink("node/kernel", root.join("inside")).unwrap();
    symlink("../secret", root.join("outside")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    (dir, root, content)
}

struct Ran {
    ok: bool,
    out: String,
}

async fn run(program: &str, args: &[&str], dir: &Path) -> Ran {
    let done = Command::new(program).args(args).current_dir(dir).kill_on_drop(true).output();
    let done = tokio::time::timeout(std::time::Duration::from_secs(90), done)
        .await
        .unwrap_or_else(|_| panic!("{program} {args:?} hangs"))
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let out = [done.stdout, done.stderr].concat();
    Ran { ok: done.status.success(), out: String::from_utf8_lossy(&out).into_owned() }
}

fn same(path: &Path, content: &[u8]) {
    let got = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(Sha256::digest(&got), Sha256::digest(content), "{} bytes of {}", got.len(), content.len());
}

#[tokio::test]
async fn tftp_clients_get_whole_files_and_nothing_else() {
    let (dir, root, content) = root();
    let settings = tftp::TftpSettings { listen: "127.0.0.1:0".parse().unwrap(), root: root.clone() };
    let server = tftp::start(&settings).await.unwrap();
    let port = server.address().port().to_string();
    let (at, out) = (dir.path(), dir.path().join("out"));

    for name in ["node/kernel", "/node/kernel", "inside"] {
        let ran = run("tftp", &["-m", "binary", "127.0.0.1", &port, "-c", "get", name, "out"], at).await;
        assert!(ran.ok, "{name}: {}", ran.out);
        same(&out, &content);
        fs::remove_file(&out).unwrap();
    }
    for size in ["512", "1468", "65464"] {
        let url = format!("tftp://127.0.0.1:{port}/node/kernel");
        let ran = run("curl", &["-sS", "--tftp-blksize", size, "-o", "out", &url], at).await;
        assert!(ran.ok, "{}", ran.out);
        same(&out, &content);
        fs::remove_file(&out).unwrap();
    }
    let args = ["tftp", "-g", "-b", "1468", "-r", "node/kernel", "-l", "out", "127.0.0.1", &port];
    let ran = run("busybox", &args, at).await;
    assert!(ran.ok, "{}", ran.out);
    same(&out, &content);
    fs::remove_file(&out).unwrap();

    for name in ["../secret", "node/../../secret", "/etc/passwd", "outside", "absolute", "node", "nothing"] {
        let ran = run("busybox", &["tftp", "-g", "-r", name, "-l", "out", "127.0.0.1", &port], at).await;
        assert!(!ran.ok, "{name} was served: {}", ran.out);
        assert!(!fs::read_to_string(&out).is_ok_and(|text| !text.is_empty()), "{name}");
    }
    let secret = dir.path().join("secret");
    let args = ["tftp", "-p", "-l", secret.to_str().unwrap(), "-r", "written", "127.0.0.1", &port];
    assert!(!run("busybox", &args, at).await.ok);
    assert!(!root.join("written").exists());

    let other = tftp::start(&tftp::TftpSettings { listen: server.address(), root }).await.unwrap_err();
    assert!(other.to_string().contains("another TFTP server"), "{other}");
    server.stop().await;
}

#[tokio::test]
async fn http_clients_get_files_parts_and_the_rest_after_a_break() {
    let (dir, root, content) = root();
    let settings = http::HttpSettings { listen: "127.0.0.1:0".parse().unwrap(), root: root.clone() };
    let server = http::start(&settings).await.unwrap();
    let base = format!("http://{}", server.address());
    let url = format!("{base}/node/kernel");
    let (at, out) = (dir.path(), dir.path().join("out"));

    let ran =
        run("curl", &["-sSf", "-o", "out", &url, "-o", "out2", &format!("{base}/inside"), "-v"], at).await;
    assert!(ran.ok, "{}", ran.out);
    assert!(ran.out.contains("Re-using existing connection"), "{}", ran.out);
    same(&out, &content);
    same(&dir.path().join("out2"), &content);

    let part = |range: &'static str| run_part(at, url.clone(), range);
    assert_eq!(part("100-199").await, content[100..200]);
    assert_eq!(part("2999000-").await, content[2_999_000..]);
    assert_eq!(part("-17").await, content[3_000_000..]);
    let ran =
        run("curl", &["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-r", "3000017-", &url], at).await;
    assert_eq!(ran.out, "416");

    fs::write(&out, &content[..1_234_567]).unwrap();
    let ran = run("curl", &["-sSf", "-C", "-", "-o", "out", &url], at).await;
    assert!(ran.ok, "{}", ran.out);
    same(&out, &content);

    let head = run("curl", &["-sSfI", &url], at).await.out.to_lowercase();
    assert!(head.contains("content-length: 3000017") && head.contains("accept-ranges: bytes"), "{head}");
    let header = |name: &str| {
        let line =
            head.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {head}"));
        line[name.len() + 1..].trim().to_owned()
    };
    let status = |args: Vec<String>| {
        let url = url.clone();
        async move {
            let mut all = vec!["-sS", "-o", "/dev/null", "-w", "%{http_code}"];
            all.extend(args.iter().map(String::as_str));
            all.push(&url);
            run("curl", &all, at).await.out
        }
    };
    let with = |text: String| vec!["-H".to_owned(), text];
    let range = |text: String| [with(text), vec!["-r".to_owned(), "0-9".to_owned()]].concat();
    assert_eq!(status(with(format!("If-None-Match: {}", header("etag")))).await, "304");
    assert_eq!(status(with("If-None-Match: \"other\"".to_owned())).await, "200");
    let modified = run("curl", &["-sSfI", &url], at).await.out;
    let modified = modified.lines().find_map(|line| line.strip_prefix("last-modified: ")).unwrap().trim();
    assert_eq!(status(with(format!("If-Modified-Since: {modified}"))).await, "304");
    assert_eq!(status(range(format!("If-Range: {}", header("etag")))).await, "206");
    assert_eq!(status(range("If-Range: \"other\"".to_owned())).await, "200");
    assert_eq!(status(vec!["-X".to_owned(), "PUT".to_owned(), "-d".to_owned(), "x".to_owned()]).await, "405");

    for (path, code) in [
        ("/../secret", "403"),
        ("/%2e%2e/secret", "403"),
        ("/node/..%2f..%2fsecret", "403"),
        ("/outside", "403"),
        ("/absolute", "403"),
        ("//etc/passwd", "404"),
        ("/node", "404"),
        ("/nothing", "404"),
        ("/node/kernel/deeper", "404"),
        ("/%zz", "400"),
        ("/a%00b", "403"),
    ] {
        let target = format!("{base}{path}");
        let args = ["-sS", "--path-as-is", "-o", "body", "-w", "%{http_code}", &target];
        let ran = run("curl", &args, at).await;
        assert_eq!(ran.out, code, "{path}");
    }

    let other = http::start(&http::HttpSettings { listen: server.address(), root }).await.unwrap_err();
    assert!(other.to_string().contains("in use"), "{other}");
    server.stop().await;
    assert!(!run("curl", &["-sS", &url], at).await.ok, "it answers after stop");
}

async fn run_part(at: &Path, url: String, range: &str) -> Vec<u8> {
    let ran = run("curl", &["-sSf", "-o", "part", "-w", "%{http_code}", "-r", range, &url], at).await;
    assert_eq!(ran.out, "206");
    fs::read(at.join("part")).unwrap()
}

#[tokio::test]
async fn stop_lets_a_transfer_finish() {
    let (dir, root, content) = root();
    let settings = http::HttpSettings { listen: "127.0.0.1:0".parse().unwrap(), root };
    let server = http::start(&settings).await.unwrap();
    let url = format!("http://{}/node/kernel", server.address());
    // 2 MB/s: the transfer takes over a second; the server is stopped once it has begun
    let curl = Command::new("curl")
        .args(["-sSf", "--limit-rate", "2M", "-o", "out", &url])
        .current_dir(dir.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let out = dir.path().join("out");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(90);
    while !fs::metadata(&out).is_ok_and(|about| about.len() > 0) {
        assert!(std::time::Instant::now() < deadline, "curl does not begin");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    server.stop().await;
    assert!(curl.wait_with_output().await.unwrap().status.success());
    same(&out, &content);
}

/// A client of TFTP by hand, for what the programs do not do.
struct ByHand {
    socket: tokio::net::UdpSocket,
    server: std::net::SocketAddr,
}

/// A packet, and from where it came.
type Came = (Vec<u8>, std::net::SocketAddr);

impl ByHand {
    async fn new(server: std::net::SocketAddr) -> ByHand {
        ByHand { socket: tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap(), server }
    }

    async fn ask(&self, request: &[u8]) -> Came {
        self.socket.send_to(request, self.server).await.unwrap();
        self.next_but(|_, _| false).await
    }

    /// The next packet that is no `repeat`: a server that had no answer for a second says again what it said.
    async fn next_but(&self, repeat: impl Fn(&[u8], std::net::SocketAddr) -> bool) -> Came {
        let next = async {
            loop {
                let mut buffer = vec![0; 2000];
                let (len, from) = self.socket.recv_from(&mut buffer).await.unwrap();
                buffer.truncate(len);
                if !repeat(&buffer, from) {
                    return (buffer, from);
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(90), next).await.expect("an answer")
    }
}

/// The number of a block, 0 for an agreement on options.
fn block(packet: &[u8]) -> Option<u16> {
    match packet {
        [0, 3, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
        [0, 6, ..] => Some(0),
        _ => None,
    }
}

#[tokio::test]
async fn tftp_answers_from_the_address_that_was_asked_in_windows_and_again_after_a_loss() {
    let (_dir, root, content) = root();
    let listen = "0.0.0.0:0".parse().unwrap();
    let server = tftp::start(&tftp::TftpSettings { listen, root }).await.unwrap();
    let asked = std::net::SocketAddr::from(([127, 108, 7, 9], server.address().port()));
    let client = ByHand::new(asked).await;
    let (oack, from) =
        client.ask(b"\0\x01node/kernel\0octet\0tsize\x000\0blksize\x001000\0windowsize\x004\0").await;
    assert_eq!(from.ip(), asked.ip());
    assert_eq!(oack, b"\0\x06tsize\x003000017\0blksize\x001000\0windowsize\x004\0");
    let send = async |ack: u16| {
        let ack = ack.to_be_bytes();
        client.socket.send_to(&[0, 4, ack[0], ack[1]], from).await.unwrap();
    };
    let window = async |first: u16| {
        for number in first..first + 4 {
            let earlier = |packet: &[u8], _| block(packet).is_some_and(|block| block < number);
            let (packet, of) = client.next_but(earlier).await;
            let at = usize::from(number - 1) * 1000;
            assert_eq!((&packet[..4], of), (&[0, 3, (number >> 8) as u8, number as u8][..], from));
            assert!(packet[4..] == content[at..at + 1000], "block {number}");
        }
    };
    send(0).await;
    window(1).await;
    // as if the third block had been lost
    send(2).await;
    window(3).await;
    send(6).await;
    window(7).await;
    // nobody answers: it is sent again after a second
    let (packet, _) = client.next_but(|packet, _| block(packet) != Some(7)).await;
    assert!(packet[4..] == content[6000..7000]);
    send(10).await;
    window(11).await;
    server.stop().await;
}

#[tokio::test]
async fn tftp_probes_that_break_off_leave_nothing_behind_even_from_one_port() {
    let (_dir, root, content) = root();
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = tftp::start(&tftp::TftpSettings { listen, root }).await.unwrap();
    let client = ByHand::new(server.address()).await;
    let (oack, first) = client.ask(b"\0\x01node/kernel\0octet\0tsize\x000\0").await;
    assert_eq!(oack, b"\0\x06tsize\x003000017\0");
    client.socket.send_to(b"\0\x05\0\x08enough\0", first).await.unwrap();
    client.socket.send_to(b"\0\x01node/kernel\0octet\0blksize\x001468\0", server.address()).await.unwrap();
    let (oack, second) = client.next_but(|_, from| from == first).await;
    assert_eq!(oack, b"\0\x06blksize\x001468\0");
    client.socket.send_to(&[0, 4, 0, 0], second).await.unwrap();
    let (data, from) = client.next_but(|packet, from| from == first || block(packet) == Some(0)).await;
    assert!(from == second && data[..4] == [0, 3, 0, 1] && data[4..] == content[..1468]);
    // a third one from the same port, in the middle of the second
    client.socket.send_to(b"\0\x01node/kernel\0OCTET\0", server.address()).await.unwrap();
    let (data, third) = client.next_but(|_, from| from == first || from == second).await;
    assert!(third != second && data[..4] == [0, 3, 0, 1] && data[4..] == content[..512]);
    for (request, code) in [
        (&b"\0\x01node/kernel\0netascii\0"[..], 0),
        (b"\0\x02node/kernel\0octet\0", 2),
        (b"\0\x01../secret\0octet\0", 2),
        (b"\0\x01nothing\0octet\0", 1),
    ] {
        let other = ByHand::new(server.address()).await;
        let (answer, _) = other.ask(request).await;
        assert_eq!(answer[..4], [0, 5, 0, code], "{}", String::from_utf8_lossy(request));
    }
    server.stop().await;
}

#[tokio::test]
async fn tftp_says_that_a_file_became_shorter_and_agrees_to_no_long_timeout() {
    let (_dir, root, content) = root();
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = tftp::start(&tftp::TftpSettings { listen, root: root.clone() }).await.unwrap();
    let client = ByHand::new(server.address()).await;
    let (oack, from) = client.ask(b"\0\x01node/kernel\0octet\0timeout\x00255\0tsize\x000\0").await;
    assert_eq!(oack, b"\0\x06tsize\x003000017\0");
    fs::write(root.join("node/kernel"), &content[..100]).unwrap();
    client.socket.send_to(&[0, 4, 0, 0], from).await.unwrap();
    let (error, of) = client.next_but(|packet, _| block(packet) == Some(0)).await;
    assert_eq!((&error[..4], of), (&[0, 5, 0, 0][..], from), "{}", String::from_utf8_lossy(&error));
    server.stop().await;
}

#[tokio::test]
async fn http_closes_cleanly_and_answers_requests_that_come_together_or_in_pieces() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_dir, root, content) = root();
    fs::write(root.join("script"), "#!ipxe\n").unwrap();
    let settings = http::HttpSettings { listen: "127.0.0.1:0".parse().unwrap(), root };
    let server = http::start(&settings).await.unwrap();
    let talk = async |parts: &[&[u8]]| {
        let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        for part in parts {
            stream.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut all = Vec::new();
        let read = tokio::time::timeout(std::time::Duration::from_secs(90), stream.read_to_end(&mut all));
        read.await.expect("the server closes").expect("no reset");
        all
    };
    let all =
        talk(&[b"GET /script HTTP/1.1\r\n\r\nHEAD /script HTTP/1.1\r\n\r\nGET /script HTTP/1.0\r\n\r\n"])
            .await;
    let text = String::from_utf8(all).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    assert_eq!(text.matches("content-length: 7\r\n").count(), 3, "{text}");
    assert_eq!(text.matches("#!ipxe\n").count(), 2, "{text}");
    let all = talk(&[b"GET /node/ker", b"nel HTTP/1.1\r\nConn", b"ection: close\r\n\r\n"]).await;
    assert!(all.ends_with(&content) && all.starts_with(b"HTTP/1.1 200 OK\r\n"));
    let body = vec![b'x'; 300_000];
    let all = talk(&[b"PUT /node/kernel HTTP/1.1\r\nContent-Length: 300000\r\n\r\n", &body]).await;
    assert!(all.starts_with(b"HTTP/1.1 405 "), "{}", String::from_utf8_lossy(&all));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(20_000));
    for (nonsense, code) in [(&b"\x16\x03\x01nonsense\r\n\r\n"[..], "400"), (long.as_bytes(), "431")] {
        let all = talk(&[nonsense]).await;
        assert!(all.starts_with(format!("HTTP/1.1 {code} ").as_bytes()), "{}", String::from_utf8_lossy(&all));
    }
    server.stop().await;
}
