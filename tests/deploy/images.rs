//! An image server that does as it is told: holds back, breaks off, and remembers what it was asked for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// One server; every file is known by its path.
pub(crate) struct Images {
    pub(crate) at: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    files: Mutex<HashMap<String, Arc<Vec<u8>>>>,
    /// The offsets that GETs began at.
    starts: Mutex<Vec<usize>>,
    /// No byte from here on is sent; moving it breaks the connections that wait there.
    gate: watch::Sender<usize>,
}

impl Images {
    pub(crate) async fn start() -> Images {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let (gate, _) = watch::channel(usize::MAX);
        let inner = Arc::new(Inner { files: Mutex::default(), starts: Mutex::default(), gate });
        let served = inner.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = served.clone();
                tokio::spawn(async move { served.answer(stream).await });
            }
        });
        Images { at, inner }
    }

    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) -> String {
        self.inner.files.lock().expect("a lock").insert(format!("/{name}"), Arc::new(bytes));
        format!("http://{}/{name}", self.at)
    }

    pub(crate) fn hold_at(&self, offset: usize) {
        self.inner.gate.send_replace(offset);
    }

    pub(crate) fn let_go(&self) {
        self.inner.gate.send_replace(usize::MAX);
    }

    pub(crate) fn starts(&self) -> Vec<usize> {
        self.inner.starts.lock().expect("a lock").clone()
    }
}

impl Inner {
    async fn answer(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        let mut words = head.split_whitespace();
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        let stream = stream.get_mut();
        let Some(bytes) = self.files.lock().expect("a lock").get(&path).cloned() else {
            let gone = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return stream.write_all(gone).await.ok();
        };
        let lower = head.to_lowercase();
        let range = lower.lines().find_map(|line| line.strip_prefix("range: bytes="));
        let start: usize = range.and_then(|range| range.split('-').next()?.trim().parse().ok()).unwrap_or(0);
        let left = bytes.len().saturating_sub(start);
        let mut answer = match range {
            Some(_) => format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{}\r\n",
                bytes.len() - 1,
                bytes.len()
            ),
            None => "HTTP/1.1 200 OK\r\n".to_owned(),
        };
        answer.push_str(&format!(
            "Content-Length: {left}\r\nAccept-Ranges: bytes\r\nETag: \"one\"\r\nConnection: close\r\n\r\n"
        ));
        stream.write_all(answer.as_bytes()).await.ok()?;
        if method == "HEAD" {
            return Some(());
        }
        self.starts.lock().expect("a lock").push(start);
        let mut gate = self.gate.subscribe();
        let end = (*gate.borrow_and_update()).clamp(start, bytes.len());
        stream.write_all(&bytes[start..end]).await.ok()?;
        stream.flush().await.ok()?;
        if end < bytes.len() {
            // held back here; when the gate moves the connection breaks, and the client has to come again
            gate.changed().await.ok()?;
        }
        Some(())
    }
}
