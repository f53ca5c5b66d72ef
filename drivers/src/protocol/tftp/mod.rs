//! The TFTP server for boot loaders: read only, jailed, with limits (RFC 1350, 2347, 2348, 2349, 7440).
//!
//! async-tftp runs all its transfers inside the future of `serve()`; here that future has a thread of its own,
//! so reading a file may block: it stalls other transfers and nothing else in the process.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use async_tftp::packet;
use async_tftp::server::{Handler, TftpServerBuilder};
use futures_util::io::{AsyncRead, Sink};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::oneshot;

use super::jail::Jail;
use crate::DriverError;
use crate::metrics::{BootProtocol, METRICS};

/// One lost packet costs a client this long; then it is sent again, five times at most, because a client that
/// broke off is not noticed otherwise.
const TIMEOUT: Duration = Duration::from_secs(1);
const SEND_RETRIES: u32 = 5;
/// What fits into an Ethernet frame with IPv4 and UDP.
const BLOCK_SIZE: u16 = 1468;
const WINDOW_SIZE: u16 = 64;
/// A rack that is switched on at once must not overflow the listening socket.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Settings of the TFTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TftpSettings {
    /// Address and port. On a host with several addresses give the one that clients use: answers come from
    /// it. Port 0 picks one.
    pub listen: SocketAddr,
    /// The folder that is served, `[pxe] tftp_root`.
    pub root: PathBuf,
}

impl Default for TftpSettings {
    fn default() -> TftpSettings {
        TftpSettings { listen: SocketAddr::from(([0, 0, 0, 0], 69)), root: PathBuf::from("/tftpboot") }
    }
}

/// A running server. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct TftpHandle {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl TftpHandle {
    /// What it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops; transfers under way break off.
    pub async fn stop(self) {
        // an error either way means that the thread has ended, which is what we want
        let _ = self.stop.send(());
        let _ = self.ended.await;
    }
}

/// Starts the server.
///
/// # Errors
/// `Io` when the folder or the port cannot be had.
#[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
pub async fn start(settings: &TftpSettings) -> Result<TftpHandle, DriverError> {
    let root = settings.root.display().to_string();
    let io =
        |path: &str, error: &io::Error| DriverError::Io { path: path.to_owned(), reason: error.to_string() };
    let jail = Jail::new(&settings.root).map_err(|error| io(&root, &error))?;
    let listen = settings.listen;
    let place = format!("UDP {listen} (TFTP)");
    let socket = bind(listen).map_err(|error| DriverError::Io {
        path: place.clone(),
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another TFTP server runs here: stop it, or set [tftp] listen".to_owned()
            }
            io::ErrorKind::PermissionDenied => format!("{error}: give the process CAP_NET_BIND_SERVICE"),
            _ => error.to_string(),
        },
    })?;
    let address = socket.local_addr().map_err(|error| io(&place, &error))?;
    let broken =
        |error: async_tftp::Error| DriverError::Io { path: place.clone(), reason: error.to_string() };
    let server = TftpServerBuilder::with_handler(ReadOnly { jail })
        .std_socket(socket)
        .map_err(broken)?
        .timeout(TIMEOUT)
        .max_send_retries(SEND_RETRIES)
        .block_size_limit(BLOCK_SIZE)
        .window_size_limit(WINDOW_SIZE)
        .build()
        .await
        .map_err(broken)?;
    let (stop, stopped) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let serve = move || {
        let work = futures_util::future::select(Box::pin(server.serve()), stopped);
        let outcome =
            tokio::runtime::Builder::new_current_thread().build().map(|runtime| runtime.block_on(work));
        match outcome {
            Ok(futures_util::future::Either::Left((Err(error), _))) => {
                tracing::error!(%error, "the TFTP server ended");
            }
            Err(error) => tracing::error!(%error, "the TFTP server did not start"),
            Ok(_) => {}
        }
        drop(end);
    };
    thread::Builder::new().name("tftp".to_owned()).spawn(serve).map_err(|error| io("thread tftp", &error))?;
    Ok(TftpHandle { address, stop, ended })
}

fn bind(listen: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    // the kernel caps it at net.core.rmem_max and does not complain
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&listen.into())?;
    Ok(socket.into())
}

struct ReadOnly {
    jail: Jail,
}

impl Handler for ReadOnly {
    type Reader = FileReader;
    type Writer = Sink;

    #[allow(clippy::wildcard_enum_match_arm)] // a foreign enum that grows
    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(FileReader, Option<u64>), packet::Error> {
        let opened = self.jail.open(&path.to_string_lossy()).and_then(|file| {
            let size = file.metadata()?.len();
            Ok((FileReader(file), Some(size)))
        });
        match &opened {
            Ok(_) => {
                METRICS.boot_file(BootProtocol::Tftp);
                tracing::debug!(%client, file = %path.display(), "TFTP read");
            }
            Err(error) => tracing::debug!(%client, file = %path.display(), %error, "TFTP read refused"),
        }
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => packet::Error::FileNotFound,
            _ => packet::Error::PermissionDenied,
        })
    }

    async fn write_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
        _size: Option<u64>,
    ) -> Result<Sink, packet::Error> {
        tracing::warn!(%client, file = %path.display(), "TFTP write refused");
        Err(packet::Error::PermissionDenied)
    }
}

/// A file read in place: the thread belongs to TFTP alone.
struct FileReader(File);

impl AsyncRead for FileReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = self.0.read(buffer);
        if let Ok(bytes) = read {
            METRICS.boot_read(BootProtocol::Tftp, bytes as u64);
        }
        Poll::Ready(read)
    }
}
