//! An image of chance, served on loopback to the simulator's agents.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::options::Image;

/// An image for deployments; what is served here ends with this value.
pub(crate) struct Served {
    pub(crate) url: String,
    pub(crate) checksum: String,
    server: Option<JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl Served {
    /// The image as the options want it.
    pub(crate) async fn start(image: &Image, seed: u64) -> std::io::Result<Self> {
        let bytes = match image {
            Image::Url { url, checksum } => {
                return Ok(Self { url: url.clone(), checksum: checksum.clone(), server: None });
            }
            Image::Own { bytes } => *bytes,
        };
        let content = of_chance(seed, bytes);
        let checksum = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let url = format!("http://{}/swarm.img", listener.local_addr()?);
        let server = Some(tokio::spawn(serve(listener, content)));
        Ok(Self { url, checksum, server })
    }

    /// The name of the checksum's algorithm, by its length.
    pub(crate) fn algorithm(&self) -> &'static str {
        if self.checksum.len() > 64 { "sha512" } else { "sha256" }
    }
}

async fn serve(listener: TcpListener, content: Bytes) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // out of descriptors, most likely: others may close theirs meanwhile
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let content = content.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
                let known = matches!(*request.method(), Method::GET | Method::HEAD)
                    && request.uri().path() == "/swarm.img";
                let mut response =
                    Response::new(Full::new(if known { content.clone() } else { Bytes::new() }));
                if !known {
                    *response.status_mut() = StatusCode::NOT_FOUND;
                }
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            // a client that goes away is its own affair
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

fn of_chance(seed: u64, bytes: usize) -> Bytes {
    let mut state = seed;
    let mut content = Vec::with_capacity(bytes + 8);
    while content.len() < bytes {
        content.extend_from_slice(&splitmix(&mut state).to_le_bytes());
    }
    content.truncate(bytes);
    Bytes::from(content)
}

/// The next number of chance (splitmix64).
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
