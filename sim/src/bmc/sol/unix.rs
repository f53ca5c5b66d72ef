//! A serial line that is a Unix socket, such as QEMU's `-serial unix:PATH,server=on,wait=off`: a real machine's boot is
//! seen through the BMC.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Serial, SerialIn, SerialOut};

/// Wait before a socket that is not there is tried again: the machine may be off.
const RETRY: Duration = Duration::from_millis(100);

/// Connects to the socket at this path for as long as somebody is on the line, whether it is there already or not.
pub struct UnixSerial(pub PathBuf);

impl Serial for UnixSerial {
    fn connect(&self, out: SerialOut) -> mpsc::Sender<SerialIn> {
        let (typed, input) = mpsc::channel(64);
        tokio::spawn(carry(self.0.clone(), out, input));
        typed
    }
}

async fn carry(path: PathBuf, out: SerialOut, mut input: mpsc::Receiver<SerialIn>) {
    while out.is_open() {
        if let Ok(stream) = UnixStream::connect(&path).await {
            let (mut read, mut write) = stream.into_split();
            let mut buffer = vec![0; 1024];
            loop {
                tokio::select! {
                    got = read.read(&mut buffer) => match got {
                        Ok(0) | Err(_) => break,
                        Ok(len) => if !out.send(&buffer[..len]).await { return },
                    },
                    given = input.recv() => match given {
                        None => return,
                        Some(SerialIn::Bytes(bytes)) => if write.write_all(&bytes).await.is_err() { break },
                        // a socket has no break
                        Some(SerialIn::Break) => {}
                    },
                    () = sleep(RETRY) => if !out.is_open() { return },
                }
            }
        }
        tokio::select! {
            given = input.recv() => if given.is_none() { return },
            () = sleep(RETRY) => {}
        }
    }
}
