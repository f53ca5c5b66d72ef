//! A TCP connection that carries PDUs one at a time: for logging in, and for discovery.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::IscsiError;
use super::login::{Established, Login, LoginConfig, Moved, Step};
use super::pdu::{Decoder, Digests, Pdu};
use super::settings::{IscsiSettings, IscsiTarget, portal};

/// How often a target may send us elsewhere.
const MAX_REDIRECTS: usize = 4;

pub(super) struct Wire {
    pub(super) stream: TcpStream,
    pub(super) decoder: Decoder,
    pub(super) digests: Digests,
    limit: usize,
}

impl Wire {
    async fn connect(host: &str, port: u16, within: Duration) -> Result<Self, IscsiError> {
        let failed = |reason: String| IscsiError::Connect { portal: portal(host, port), reason };
        let stream = match timeout(within, TcpStream::connect((host, port))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("no answer within {} s", within.as_secs_f32()))),
        };
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        Ok(Self { stream, decoder: Decoder::default(), digests: Digests::default(), limit: 64 * 1024 })
    }

    pub(super) async fn send(&mut self, pdu: &Pdu) -> Result<(), IscsiError> {
        let mut out = BytesMut::new();
        pdu.encode(self.digests, &mut out).map_err(|error| IscsiError::Protocol(error.to_string()))?;
        self.stream.write_all(&out).await.map_err(|error| lost(&error))
    }

    pub(super) async fn receive(&mut self) -> Result<Pdu, IscsiError> {
        loop {
            let pdu = self.decoder.next(self.digests, self.limit);
            if let Some(pdu) = pdu.map_err(|error| IscsiError::Protocol(error.to_string()))? {
                return Ok(pdu);
            }
            match self.stream.read_buf(&mut self.decoder.buffer).await {
                Ok(0) => return Err(IscsiError::Lost("the target closed it".to_owned())),
                Ok(_) => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    pub(super) async fn exchange(&mut self, pdu: &Pdu, within: Duration) -> Result<Pdu, IscsiError> {
        let both = async {
            self.send(pdu).await?;
            self.receive().await
        };
        let silent = || IscsiError::Silent { command: "the login".to_owned(), after: within };
        timeout(within, both).await.map_err(|_| silent())?
    }

    /// One login at one portal.
    async fn log_in(
        &mut self,
        config: LoginConfig,
        within: Duration,
    ) -> Result<Result<Established, Moved>, IscsiError> {
        let mut login = Login::new(config);
        let mut request = login.start();
        loop {
            let answer = self.exchange(&request, within).await?;
            match login.receive(&answer)? {
                Step::Send(next) => request = next,
                Step::Moved(moved) => return Ok(Err(moved)),
                Step::Done(established) => {
                    self.digests = established.limits.digests;
                    self.limit = established.limits.max_recv_data as usize;
                    return Ok(Ok(established));
                }
            }
        }
    }

    /// Connects and logs in, where the target sends us elsewhere there.
    pub(super) async fn open(
        host: &str,
        port: u16,
        config: &LoginConfig,
        settings: &IscsiSettings,
    ) -> Result<(Self, Established), IscsiError> {
        let (mut host, mut port) = (host.to_owned(), port);
        for _ in 0..=MAX_REDIRECTS {
            let mut wire = Self::connect(&host, port, settings.connect_timeout).await?;
            let mut config = config.clone();
            config.challenge = random();
            match wire.log_in(config, settings.login_timeout).await? {
                Ok(established) => return Ok((wire, established)),
                Err(moved) if !settings.redirects_elsewhere && moved.host != host => {
                    return Err(IscsiError::Protocol(format!(
                        "the target sends us to {}, which is not the host that exports the disk",
                        portal(&moved.host, moved.port)
                    )));
                }
                Err(moved) => {
                    tracing::info!(to = %portal(&moved.host, moved.port), permanent = moved.permanent, "redirected");
                    (host, port) = (moved.host, moved.port);
                }
            }
        }
        Err(IscsiError::Redirected(MAX_REDIRECTS))
    }
}

pub(super) fn lost(error: &io::Error) -> IscsiError {
    IscsiError::Lost(error.to_string())
}

/// Random bytes for challenges and session numbers.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel has random numbers");
    bytes
}

/// A session number of the random kind, RFC 7143 §11.12.5.
pub(super) fn isid() -> [u8; 6] {
    let mut isid: [u8; 6] = random();
    isid[0] = 0x80;
    isid
}

/// The session number of this initiator at this target: always the same, so that a login ends a session that was left
/// behind, with all commands that it still has there (RFC 7143 §6.3.5).
pub(super) fn isid_of(initiator: &str, target: &IscsiTarget) -> [u8; 6] {
    let digest = Sha256::digest(format!("{initiator}\n{}\n{}", target.iqn, target.lun));
    let mut isid = [0x80; 6];
    isid[1..].copy_from_slice(&digest[..5]);
    isid
}
