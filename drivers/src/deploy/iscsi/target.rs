//! The disks of machines as iSCSI targets.

use std::net::IpAddr;
use std::sync::Arc;

use super::device::{BlockDevice, Synced};
use crate::error::DriverError;
use crate::interface::Result;
use crate::protocol::iscsi::{IscsiError, IscsiSettings, IscsiTarget, Session};
use async_trait::async_trait;
use bytes::Bytes;

/// Where a ramdisk exports the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) iqn: String,
    pub(crate) lun: u64,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}, unit {}", self.iqn, std::net::SocketAddr::new(self.address, self.port), self.lun)
    }
}

/// Logs into targets.
#[async_trait]
pub(crate) trait Connect: Send + Sync {
    /// The disk behind the target.
    async fn open(&self, target: &Target) -> Result<Arc<dyn BlockDevice>>;
}

/// By Ferric's own initiator.
pub(super) struct Initiator(pub(super) IscsiSettings);

#[async_trait]
impl Connect for Initiator {
    async fn open(&self, target: &Target) -> Result<Arc<dyn BlockDevice>> {
        let lun = u16::try_from(target.lun).map_err(|_| DriverError::Invalid {
            section: "driver_internal_info",
            key: "ramdisk_called".into(),
            reason: format!("unit {} of the target is out of range", target.lun),
        })?;
        let to = IscsiTarget {
            address: target.address.to_string(),
            port: target.port,
            iqn: target.iqn.clone(),
            lun,
            chap: None,
        };
        let session = Session::open(&to, &self.0).await.map_err(|error| told(error, &to))?;
        Ok(Arc::new(Disk(session)))
    }
}

/// The disk behind a session.
struct Disk(Session);

impl Disk {
    fn told(&self, error: IscsiError) -> DriverError {
        told(error, self.0.target())
    }
}

/// A deployment has no place for a secret.
fn told(error: IscsiError, target: &IscsiTarget) -> DriverError {
    if matches!(error, IscsiError::Credentials(_)) && target.chap.is_none() {
        return DriverError::Refused {
            what: target.to_string(),
            command: "the login".to_owned(),
            reason: "it wants CHAP; export the disk without: a deployment has no place for a secret"
                .to_owned(),
        };
    }
    error.of(target)
}

#[async_trait]
impl BlockDevice for Disk {
    fn capacity(&self) -> u64 {
        self.0.capacity().bytes()
    }

    fn block(&self) -> u64 {
        u64::from(self.0.capacity().block_bytes)
    }

    fn zeroes_cheaply(&self) -> bool {
        let limits = &self.0.disk().limits;
        limits.write_same_unmap || limits.max_write_same > 0
    }

    async fn read_at(&self, at: u64, len: usize) -> Result<Bytes> {
        self.0.read_at(at, len).await.map_err(|error| self.told(error))
    }

    async fn write_at(&self, at: u64, data: Bytes) -> Result<()> {
        self.0.write_at(at, data).await.map_err(|error| self.told(error))
    }

    async fn zero(&self, at: u64, len: u64) -> Result<()> {
        self.0.zero_at(at, len).await.map_err(|error| self.told(error))
    }

    fn identity(&self) -> String {
        let disk = self.0.disk();
        format!("{} {}", disk.name, disk.serial.as_deref().unwrap_or_default())
    }

    async fn sync(&self) -> Result<Synced> {
        match self.0.sync().await {
            Ok(()) => Ok(Synced::Kept),
            Err(IscsiError::Forgotten) => Ok(Synced::Lost),
            Err(error) => Err(self.told(error)),
        }
    }

    async fn close(&self) -> Result<()> {
        self.0.clone().logout().await;
        Ok(())
    }
}
