//! The word to a ramdisk without an agent that its disk is written: `done` on TCP port 10000 (deploy.md §A.1 row 12).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::error::DriverError;
use crate::interface::Result;

/// Where a ramdisk listens.
pub(super) const PORT: u16 = 10000;

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// For one try, and for the ramdisk to close.
const ONCE: Duration = Duration::from_secs(5);

/// Says `done`, as soon as somebody listens within `within`: a ramdisk begins to listen after its call was answered,
/// and again after it was heard once. Errors: `Refused`, which is not tried again.
pub(super) async fn send(address: IpAddr, port: u16, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    let to = SocketAddr::new(address, port);
    loop {
        let failed = match timeout(ONCE, say(to)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() + AGAIN >= deadline {
            return Err(DriverError::Refused {
                what: format!("the deploy ramdisk at {to}"),
                command: "the go-ahead".into(),
                reason: format!(
                    "{failed}, for {} s; look at the machine's console whether the ramdisk still runs, and let this \
                     host reach TCP port {port} of the machines",
                    within.as_secs()
                ),
            });
        }
        sleep(AGAIN).await;
    }
}

async fn say(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(b"done").await?;
    stream.shutdown().await?;
    // netcat closes when it has read everything; one that does not has heard it as well
    let mut rest = [0; 64];
    let _ = timeout(Duration::from_secs(2), stream.read(&mut rest)).await;
    Ok(())
}
