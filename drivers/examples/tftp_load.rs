//! Many TFTP clients at once, for measurements: `tftp_load ADDRESS:PORT FILE [clients=200] [times=1] [blksize=1468]
//! [windowsize=1] [probe=0] [source=127.0.0.1]`. Each client fetches the file so many times, one after the other, and
//! asks as iPXE (blksize, tsize), EDK2 (a tsize probe that it breaks off, then blksize and windowsize) and GRUB do.
//! What comes is checked for length and against what the first client got. Prints one line of JSON.
//!
//! `FILE` may hold `{}`: it becomes the number of the transfer, counted over all clients.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::UdpSocket;

/// Silence after which the last packet is sent again, as firmware does.
const PATIENCE: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 15;

#[derive(Debug)]
struct Load {
    server: SocketAddr,
    file: String,
    blksize: usize,
    windowsize: u16,
    probe: bool,
    source: IpAddr,
    seen: AtomicU64,
    bytes: AtomicU64,
    packets: AtomicU64,
    repeated: AtomicU64,
    content: OnceLock<(u64, u32)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let usage = "tftp_load ADDRESS:PORT FILE [clients=N] [times=N] [blksize=N] [windowsize=N] [probe=1] [source=ADDRESS]";
    let mut load = Load {
        server: words.next().ok_or(usage)?.parse()?,
        file: words.next().ok_or(usage)?,
        blksize: 1468,
        windowsize: 1,
        probe: false,
        source: "127.0.0.1".parse()?,
        seen: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        packets: AtomicU64::new(0),
        repeated: AtomicU64::new(0),
        content: OnceLock::new(),
    };
    let (mut clients, mut times) = (200_u32, 1_u32);
    for word in words {
        let (name, value) = word.split_once('=').ok_or(usage)?;
        match name {
            "clients" => clients = value.parse()?,
            "times" => times = value.parse()?,
            "blksize" => load.blksize = value.parse()?,
            "windowsize" => load.windowsize = value.parse()?,
            "probe" => load.probe = value == "1",
            "source" => load.source = value.parse()?,
            _ => return Err(usage.into()),
        }
    }
    let load = Arc::new(load);
    let began = Instant::now();
    let all: Vec<_> = (0..clients)
        .map(|_| {
            let load = load.clone();
            tokio::spawn(async move {
                let mut failures = Vec::new();
                for _ in 0..times {
                    if let Err(error) = load.fetch().await {
                        failures.push(error);
                    }
                }
                failures
            })
        })
        .collect();
    let mut failures = Vec::new();
    for one in all {
        failures.extend(one.await?);
    }
    let took = began.elapsed().as_secs_f64();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let report = serde_json::json!({
        "transfers": u64::from(clients) * u64::from(times),
        "failed": failures.len(),
        "first_failure": failures.first(),
        "seconds": took,
        "bytes": count(&load.bytes),
        "packets": count(&load.packets),
        "repeated": count(&load.repeated),
        "mb_per_second": count(&load.bytes) as f64 / 1e6 / took,
        "transfers_per_second": (u64::from(clients) * u64::from(times)) as f64 / took,
    });
    println!("{report}");
    Ok(())
}

/// One transfer's own memory of what it sent last.
struct Transfer<'a> {
    load: &'a Load,
    socket: UdpSocket,
    to: SocketAddr,
    last: Vec<u8>,
    buffer: Vec<u8>,
}

impl Load {
    async fn fetch(&self) -> Result<(), String> {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        let file = self.file.replace("{}", &number.to_string());
        if self.probe {
            let mut probe = self.begin(&file, 0).await?;
            let len = probe.receive().await?;
            if probe.buffer[..len].first_chunk() != Some(&[0, 6]) {
                return Err("no OACK for the size".to_owned());
            }
            probe.send(vec![0, 5, 0, 8, 0]).await?;
        }
        let mut transfer = self.begin(&file, self.windowsize).await?;
        let got = transfer.run().await?;
        self.bytes.fetch_add(got.0, Ordering::Relaxed);
        if !self.file.contains("{}") && *self.content.get_or_init(|| got) != got {
            return Err(format!("{} bytes that are not what another client got", got.0));
        }
        Ok(())
    }

    /// Windowsize 0 asks for the size alone.
    async fn begin(&self, file: &str, windowsize: u16) -> Result<Transfer<'_>, String> {
        let socket = UdpSocket::bind((self.source, 0)).await.map_err(|error| error.to_string())?;
        // a window must fit, or the client is what is measured
        let _ = SockRef::from(&socket).set_recv_buffer_size(1 << 20);
        let mut request = [b"\0\x01", file.as_bytes(), b"\0octet\0tsize\x000\0"].concat();
        if windowsize > 0 {
            request.extend_from_slice(format!("blksize\0{}\0", self.blksize).as_bytes());
        }
        if windowsize > 1 {
            request.extend_from_slice(format!("windowsize\0{windowsize}\0").as_bytes());
        }
        let buffer = vec![0; 4 + 65464];
        let mut transfer = Transfer { load: self, socket, to: self.server, last: Vec::new(), buffer };
        transfer.send(request).await?;
        Ok(transfer)
    }
}

impl Transfer<'_> {
    async fn send(&mut self, packet: Vec<u8>) -> Result<(), String> {
        self.last = packet;
        self.again().await
    }

    async fn again(&self) -> Result<(), String> {
        self.socket.send_to(&self.last, self.to).await.map(|_| ()).map_err(|error| error.to_string())
    }

    /// The next packet's length; what was sent last is sent again in silence.
    async fn receive(&mut self) -> Result<usize, String> {
        for _ in 0..ATTEMPTS {
            let received = tokio::time::timeout(PATIENCE, self.socket.recv_from(&mut self.buffer)).await;
            match received {
                Ok(Ok((len, from))) => {
                    // the server answers from a port of the transfer's own
                    self.to = from;
                    self.load.packets.fetch_add(1, Ordering::Relaxed);
                    if self.buffer[..len].first_chunk() == Some(&[0, 5]) {
                        return Err(format!("ERROR {}", String::from_utf8_lossy(&self.buffer[4..len])));
                    }
                    return Ok(len);
                }
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => {
                    self.load.repeated.fetch_add(1, Ordering::Relaxed);
                    self.again().await?;
                }
            }
        }
        Err("the server fell silent".to_owned())
    }

    /// Length and CRC of the whole file.
    async fn run(&mut self) -> Result<(u64, u32), String> {
        let (mut blksize, mut window, mut size) = (512, 1, None::<u64>);
        let (mut got, mut crc, mut block, mut in_window) = (0_u64, 0, 0_u64, 0);
        let mut told_gap = false;
        loop {
            let len = self.receive().await?;
            let packet = &self.buffer[..len];
            match packet {
                [0, 6, options @ ..] if block == 0 => {
                    let mut words = options.split(|byte| *byte == 0).map(String::from_utf8_lossy);
                    while let (Some(name), Some(value)) = (words.next(), words.next()) {
                        match name.to_ascii_lowercase().as_str() {
                            "blksize" => blksize = value.parse().map_err(|_| "blksize")?,
                            "windowsize" => window = value.parse().map_err(|_| "windowsize")?,
                            "tsize" => size = value.parse().ok(),
                            _ => {}
                        }
                    }
                    self.send(vec![0, 4, 0, 0]).await?;
                }
                [0, 3, high, low, data @ ..] => {
                    let number = u16::from_be_bytes([*high, *low]);
                    if number != (block + 1) as u16 {
                        // a gap: the server is told once where to go on
                        if !told_gap {
                            told_gap = true;
                            self.send([&[0, 4], &(block as u16).to_be_bytes()[..]].concat()).await?;
                        }
                        continue;
                    }
                    told_gap = false;
                    block += 1;
                    in_window += 1;
                    got += data.len() as u64;
                    crc = crc32c::crc32c_append(crc, data);
                    let ended = data.len() < blksize;
                    if in_window >= window || ended {
                        in_window = 0;
                        self.send([&[0, 4], &(block as u16).to_be_bytes()[..]].concat()).await?;
                    }
                    if ended {
                        return match size {
                            Some(size) if size != got => Err(format!("{got} bytes of {size}")),
                            Some(_) | None => Ok((got, crc)),
                        };
                    }
                }
                _ => {}
            }
        }
    }
}
