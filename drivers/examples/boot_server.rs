//! The boot servers alone, for measurements: `boot_server FOLDER HTTP-ADDRESS TFTP-ADDRESS` serves a folder until its
//! standard input ends. `ferric serve` runs the same servers beside everything else.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use ferric_drivers::protocol::{http, tftp};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let usage = "boot_server FOLDER HTTP-ADDRESS:PORT TFTP-ADDRESS:PORT";
    let mut next = || words.next().ok_or(usage);
    let root = PathBuf::from(next()?);
    let (http_listen, tftp_listen): (SocketAddr, SocketAddr) = (next()?.parse()?, next()?.parse()?);
    let http = http::start(&http::HttpSettings { listen: http_listen, root: root.clone() }).await?;
    let tftp = tftp::start(&tftp::TftpSettings { listen: tftp_listen, root }).await?;
    println!("http {} tftp {}", http.address(), tftp.address());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    http.stop().await;
    tftp.stop().await;
    Ok(())
}
