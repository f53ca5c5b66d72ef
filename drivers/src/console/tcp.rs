//! A console as a TCP port of plain bytes, as Ironic's `socat` offers it. The first client types, later ones watch until
//! he leaves: `socat` with `max-children=1` let them wait outside.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::hub::{Attachment, Hub, Told, Unheard};

/// Bytes read from a client at a time.
const PIECE: usize = 1024;
/// How long a client may take for what it is sent before it is let go.
const STALLED: Duration = Duration::from_secs(30);

/// Serves until stopped; clients are let go then.
pub(super) async fn serve(
    listener: TcpListener,
    hub: Arc<Hub>,
    idle: Option<Duration>,
    stop: CancellationToken,
) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match hub.attach(true) {
                    Ok(attachment) => {
                        tracing::debug!(%peer, "console client");
                        clients.spawn(client(stream, attachment, idle));
                    }
                    Err(crowded) => {
                        clients.spawn(turn_away(stream, crowded.to_string()));
                    }
                },
                Err(error) => {
                    // no more files: they come back
                    tracing::warn!(%error, "console listener");
                    sleep(Duration::from_millis(200)).await;
                }
            },
        }
    }
    drop(listener);
    // they were told by the hub; whoever does not read is not waited for
    let _ = timeout(Duration::from_secs(1), async { while clients.join_next().await.is_some() {} }).await;
}

async fn turn_away(mut stream: TcpStream, why: String) {
    let _ = timeout(STALLED, stream.write_all(&notice(&why))).await;
}

/// What Ferric itself has to say, between what the machine says.
fn notice(text: &str) -> Bytes {
    Bytes::from(format!("\r\n[Ferric: {text}]\r\n"))
}

async fn client(stream: TcpStream, attachment: Attachment, idle: Option<Duration>) {
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let alive = tokio::sync::watch::Sender::new(Instant::now());
    tokio::select! {
        () = listen(read, &attachment, &alive) => {}
        () = show(write, &attachment, &alive) => {}
        () = silence(&alive, idle) => {}
    }
}

/// Ends when nothing was said in either direction for so long (`[console] terminal_timeout`).
async fn silence(alive: &tokio::sync::watch::Sender<Instant>, idle: Option<Duration>) {
    let Some(idle) = idle else { return std::future::pending().await };
    loop {
        let until = *alive.borrow() + idle;
        if Instant::now() >= until {
            return;
        }
        sleep_until(until).await;
    }
}

async fn listen(
    mut read: OwnedReadHalf,
    attachment: &Attachment,
    alive: &tokio::sync::watch::Sender<Instant>,
) {
    let mut buffer = vec![0; PIECE];
    loop {
        match read.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(len) => {
                alive.send_replace(Instant::now());
                match attachment.write(Bytes::copy_from_slice(&buffer[..len])).await {
                    Ok(()) | Err(Unheard::Watching | Unheard::Offline) => {}
                    Err(Unheard::Closed) => return,
                }
            }
        }
    }
}

async fn show(
    mut write: OwnedWriteHalf,
    attachment: &Attachment,
    alive: &tokio::sync::watch::Sender<Instant>,
) {
    let mut wrote = None;
    loop {
        let (bytes, last) = match attachment.next().await {
            Told::Bytes(bytes) => {
                alive.send_replace(Instant::now());
                (bytes, false)
            }
            Told::State(text) => (notice(&text), false),
            Told::Missed(count) => (notice(&format!("{count} bytes were not shown: too slow")), false),
            // how many watch is none of a plain terminal's business
            Told::Role { writer, .. } if wrote == Some(writer) => continue,
            Told::Role { writer, .. } => {
                wrote = Some(writer);
                let text = if writer { "you type" } else { "someone else types, you watch" };
                (notice(text), false)
            }
            Told::Closed(why) => (notice(&why), true),
        };
        let sent = timeout(STALLED, write.write_all(&bytes)).await;
        if last || !matches!(sent, Ok(Ok(()))) {
            let _ = write.shutdown().await;
            return;
        }
    }
}
