//! iSCSI (RFC 7143): a codec and session logic without I/O, and an initiator on tokio that needs neither root nor
//! kernel modules.
//!
//! The layers, from the wire up: [`pdu`] (framing, digests, every PDU of both sides), [`text`] (keys and values),
//! [`Negotiation`], [`Login`] with CHAP, [`scsi`] (commands and sense data), [`Core`] (a session without I/O),
//! `link` (one connection on a task of its own), [`Session`] (a disk that outlives its connections), [`Writer`].
//!
//! # How a disk is written
//! ```ignore
//! let target = IscsiTarget {
//!     address: "192.0.2.7".into(), port: 3260, iqn: "iqn-…".into(), lun: 1,
//!     chap: None, // or Some(Chap { user, secret: Secret::new(…), mutual: None })
//! };
//! let session = Session::open(&target, &IscsiSettings::default()).await?;   // Clone: handles of one session
//! session.capacity()                     // Capacity { blocks, block_bytes }, .bytes()
//! session.read_at(offset, length).await? // Bytes; any offset and length within the disk
//! session.write_at(offset, bytes).await? // parts of blocks are read, merged and written
//! session.zero_at(offset, length).await? // reads back as zeroes; unmapped by WRITE SAME where it can
//! session.sync().await?                  // SYNCHRONIZE CACHE of the whole disk: all that returned before is durable,
//!                                        // or Forgotten: what was not synced has to be written again
//!
//! let mut writer = session.writer(WriteOptions { start: 0, holes: Holes::Zero }); // or Holes::Skip: disk is zero
//! let progress = writer.progress();      // watch::Receiver<u64>: all below this offset is acknowledged
//! writer.write(offset, bytes).await?;    // ascending offsets; waits while the window is full (backpressure)
//! writer.hole(offset, length).await?;
//! writer.checkpoint().await?;            // u64: all below this offset is durable; the writes in flight go on
//! writer.finish().await?;                // u64: the end; everything is durable
//! session.logout().await;                // at most `goodbye`; dropping the last handle does the same in a task
//! ```
//! Connections that break are made anew and the commands in flight sent again, until nothing succeeded for
//! `IscsiSettings::patience`. Errors are [`IscsiError`]: text for `last_error` with what to do;
//! `is_transient()` tells whether the same call may succeed later.

mod chap;
mod discovery;
mod engine;
mod error;
mod limits;
mod link;
mod login;
pub mod pdu;
mod reaction;
pub mod scsi;
mod session;
mod settings;
pub mod text;
mod wire;
mod writer;
mod zero;

pub use chap::{Chap, MutualChap, response as chap_response};
pub use discovery::{Discovered, discover};
pub use engine::{Broken, Core, Event, Outcome, Token};
pub use error::IscsiError;
pub use limits::{BadKey, DigestChoice, Limits, Negotiation, Offer};
pub use login::{Established, Login, LoginConfig, LoginError, Moved, Step};
pub use session::{Disk, Session};
pub use settings::{IscsiSettings, IscsiTarget};
pub use writer::{Chunk, Holes, WriteOptions, Writer};
