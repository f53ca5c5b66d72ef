//! A console as a TCP port of plain bytes, as Ironic's `socat` offers it. The first client types, later ones watch until
//! he leaves: `socat` with `max-children=1` let them wait outside.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::hub::{Attachment, Hub, Told, Unheard};

/// Bytes read from a client at a time.
const PIECE: usize = 1024;
/// How long a client may take for what it is sent before it is let go.
const STALLED: Duration = Duration::from_secs(30);
/// How often a watcher who types is told that he watches, at the most.
const REMIND: Duration = Duration::from_secs(5);

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
    let unheard = Notify::new();
    tokio::select! {
        () = listen(read, &attachment, &alive, &unheard) => {}
        () = show(write, &attachment, &alive, &unheard) => {}
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
    unheard: &Notify,
) {
    let mut buffer = vec![0; PIECE];
    loop {
        match read.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(len) => {
                alive.send_replace(Instant::now());
                match attachment.write(Bytes::copy_from_slice(&buffer[..len])).await {
                    Ok(()) | Err(Unheard::Offline) => {}
                    Err(Unheard::Watching) => unheard.notify_one(),
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
    unheard: &Notify,
) {
    let mut part = Part::default();
    loop {
        let told = tokio::select! {
            told = attachment.next() => told,
            () = unheard.notified() => {
                let Some(text) = part.unheard(Instant::now()) else { continue };
                if !matches!(timeout(STALLED, write.write_all(&notice(text))).await, Ok(Ok(()))) {
                    return;
                }
                continue;
            }
        };
        let (bytes, last) = match told {
            Told::Bytes(bytes) => {
                alive.send_replace(Instant::now());
                (bytes, false)
            }
            Told::State(text) => {
                let mut bytes = notice(&text).to_vec();
                if let Some(text) = part.shown() {
                    bytes.extend_from_slice(&notice(text));
                }
                (bytes.into(), false)
            }
            Told::Missed(count) => (notice(&format!("{count} bytes were not shown: too slow")), false),
            // how many watch is none of a plain terminal's business
            Told::Role { writer, .. } => match part.is(writer) {
                Some(text) => (notice(text), false),
                None => continue,
            },
            Told::Closed(why) => (notice(&why), true),
        };
        let sent = timeout(STALLED, write.write_all(&bytes)).await;
        if last || !matches!(sent, Ok(Ok(()))) {
            let _ = write.shutdown().await;
            return;
        }
    }
}

/// Whether the client types or watches, and what he was told of it.
#[derive(Default)]
struct Part {
    writer: bool,
    told: Option<bool>,
    /// What was shown before he came is behind him: how the line is comes after it. A firmware's clear-screen in it would
    /// wipe away what was said before.
    caught_up: bool,
    reminded: Option<Instant>,
}

impl Part {
    /// It is this now; gives what to tell.
    fn is(&mut self, writer: bool) -> Option<&'static str> {
        self.writer = writer;
        if !self.caught_up || self.told == Some(writer) {
            return None;
        }
        self.told = Some(writer);
        Some(if writer { "you type" } else { "someone else types, you watch" })
    }

    /// What was shown before he came was sent; gives what to tell.
    fn shown(&mut self) -> Option<&'static str> {
        self.caught_up = true;
        self.is(self.writer)
    }

    /// He typed and watches; gives what to tell, now and then.
    fn unheard(&mut self, now: Instant) -> Option<&'static str> {
        let lately = self.reminded.is_some_and(|before| now < before + REMIND);
        if self.told != Some(false) || lately {
            return None;
        }
        self.reminded = Some(now);
        Some("someone else types, you watch: what you type goes nowhere")
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    async fn read_until(from: &mut TcpStream, what: &str) -> String {
        let (mut all, mut buffer) = (String::new(), [0; 4096]);
        while !all.contains(what) {
            match timeout(Duration::from_secs(60), from.read(&mut buffer)).await {
                Ok(Ok(len)) if len > 0 => all.push_str(&String::from_utf8_lossy(&buffer[..len])),
                other => panic!("'{what}' did not come ({other:?}): {all}"),
            }
        }
        all
    }

    #[tokio::test]
    async fn who_watches_is_told_so_after_what_was_shown_before_and_again_when_he_types() {
        let (hub, _input) = Hub::new();
        hub.show(b"\x1b[2J the screen".to_vec());
        hub.tell(true, "connected");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, hub.clone(), None, stop.clone()));
        let mut first = TcpStream::connect(at).await.expect("connected");
        let seen = read_until(&mut first, "[Ferric: you type]").await;
        assert!(seen.contains("the screen"), "{seen}");
        let mut second = TcpStream::connect(at).await.expect("connected");
        let seen = read_until(&mut second, "you watch]").await;
        assert!(seen.contains("the screen") && seen.contains("[Ferric: connected]"), "{seen}");
        second.write_all(b"x").await.expect("sent");
        read_until(&mut second, "you watch: what you type goes nowhere]").await;
        drop(first);
        read_until(&mut second, "[Ferric: you type]").await;
        stop.cancel();
        serving.await.expect("ends");
    }

    #[test]
    fn a_watcher_who_types_on_is_reminded_now_and_then() {
        let (mut part, now) = (Part::default(), Instant::now());
        assert_eq!((part.is(false), part.unheard(now)), (None, None), "the screen comes first");
        assert!(part.shown().is_some() && part.is(false).is_none());
        assert!(part.unheard(now).is_some());
        assert!(part.unheard(now + REMIND / 2).is_none());
        assert!(part.unheard(now + REMIND).is_some());
        assert_eq!(part.is(true), Some("you type"));
        assert!(part.unheard(now + 3 * REMIND).is_none(), "he is heard");
    }
}
