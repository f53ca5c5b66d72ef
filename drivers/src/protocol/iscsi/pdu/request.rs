//! What an initiator sends: RFC 7143 §11.3, 5, 7, 10, 12, 14, 16, 18.

use super::{
    BHS, FINAL, IMMEDIATE, Lun, PduError, Stage, bit, lun_at, put, put_lun, put_u32, u16_at, u32_at,
};

/// Codes of [`TaskRequest::function`].
pub mod task_function {
    /// One command.
    pub const ABORT_TASK: u8 = 1;
    /// All commands of this session on a logical unit.
    pub const ABORT_TASK_SET: u8 = 2;
    /// Ends an auto contingent allegiance.
    pub const CLEAR_ACA: u8 = 3;
    /// All commands of all sessions on a logical unit.
    pub const CLEAR_TASK_SET: u8 = 4;
    /// The logical unit starts anew.
    pub const LOGICAL_UNIT_RESET: u8 = 5;
    /// The target starts anew.
    pub const TARGET_WARM_RESET: u8 = 6;
    /// The target starts anew and drops its sessions.
    pub const TARGET_COLD_RESET: u8 = 7;
    /// A command moves to this connection.
    pub const TASK_REASSIGN: u8 = 8;
}

/// Codes of [`LogoutRequest::reason`].
pub mod logout_reason {
    /// All connections of the session.
    pub const CLOSE_SESSION: u8 = 0;
    /// The connection named by the CID.
    pub const CLOSE_CONNECTION: u8 = 1;
    /// The connection is given up, its commands move.
    pub const REMOVE_CONNECTION: u8 = 2;
}

/// NOP-Out: a ping (`itt` set, `ttt` none) or the answer to one (`itt` none, `ttt` the target's).
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct NopOut {
    pub immediate: bool,
    pub lun: Lun,
    pub itt: u32,
    pub ttt: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

impl NopOut {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            immediate: b[0] & IMMEDIATE != 0,
            lun: lun_at(b),
            itt: u32_at(b, 16),
            ttt: u32_at(b, 20),
            cmd_sn: u32_at(b, 24),
            exp_stat_sn: u32_at(b, 28),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[0] |= bit(self.immediate, IMMEDIATE);
        b[1] = FINAL;
        put_lun(b, self.lun);
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.ttt);
        put_u32(b, 24, self.cmd_sn);
        put_u32(b, 28, self.exp_stat_sn);
    }
}

/// SCSI Command; its data segment is immediate data.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct ScsiCommand {
    pub immediate: bool,
    /// F: no unsolicited Data-Out follows.
    pub last: bool,
    pub read: bool,
    pub write: bool,
    /// Task attribute: 0 untagged, 1 simple, 2 ordered, 3 head of queue, 4 ACA.
    pub attribute: u8,
    pub lun: Lun,
    pub itt: u32,
    /// Expected Data Transfer Length, in bytes.
    pub expected_length: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
    pub cdb: [u8; 16],
}

impl ScsiCommand {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        let mut cdb = [0; 16];
        cdb.copy_from_slice(&b[32..48]);
        Ok(Self {
            immediate: b[0] & IMMEDIATE != 0,
            last: b[1] & FINAL != 0,
            read: b[1] & 0x40 != 0,
            write: b[1] & 0x20 != 0,
            attribute: b[1] & 7,
            lun: lun_at(b),
            itt: u32_at(b, 16),
            expected_length: u32_at(b, 20),
            cmd_sn: u32_at(b, 24),
            exp_stat_sn: u32_at(b, 28),
            cdb,
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[0] |= bit(self.immediate, IMMEDIATE);
        b[1] = bit(self.last, FINAL) | bit(self.read, 0x40) | bit(self.write, 0x20) | (self.attribute & 7);
        put_lun(b, self.lun);
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.expected_length);
        put_u32(b, 24, self.cmd_sn);
        put_u32(b, 28, self.exp_stat_sn);
        put(b, 32, self.cdb);
    }
}

/// Task Management Function Request.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct TaskRequest {
    pub immediate: bool,
    /// One of [`task_function`].
    pub function: u8,
    pub lun: Lun,
    pub itt: u32,
    /// The ITT of the command that is meant, or `NO_TAG`.
    pub referenced_tag: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
    pub ref_cmd_sn: u32,
    pub exp_data_sn: u32,
}

impl TaskRequest {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            immediate: b[0] & IMMEDIATE != 0,
            function: b[1] & 0x7F,
            lun: lun_at(b),
            itt: u32_at(b, 16),
            referenced_tag: u32_at(b, 20),
            cmd_sn: u32_at(b, 24),
            exp_stat_sn: u32_at(b, 28),
            ref_cmd_sn: u32_at(b, 32),
            exp_data_sn: u32_at(b, 36),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[0] |= bit(self.immediate, IMMEDIATE);
        b[1] = FINAL | (self.function & 0x7F);
        put_lun(b, self.lun);
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.referenced_tag);
        put_u32(b, 24, self.cmd_sn);
        put_u32(b, 28, self.exp_stat_sn);
        put_u32(b, 32, self.ref_cmd_sn);
        put_u32(b, 36, self.exp_data_sn);
    }
}

/// Login Request; its data segment is keys and values.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct LoginRequest {
    /// C: the text goes on in the next PDU.
    pub more: bool,
    pub stage: Stage,
    /// T and NSG: the stage that is asked for next, if this one is done.
    pub next: Option<Stage>,
    pub version_max: u8,
    pub version_min: u8,
    pub isid: [u8; 6],
    pub tsih: u16,
    pub itt: u32,
    pub cid: u16,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

impl LoginRequest {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        let mut isid = [0; 6];
        isid.copy_from_slice(&b[8..14]);
        Ok(Self {
            more: b[1] & 0x40 != 0,
            stage: Stage::of(b[1] >> 2)?,
            next: if b[1] & FINAL == 0 { None } else { Some(Stage::of(b[1])?) },
            version_max: b[2],
            version_min: b[3],
            isid,
            tsih: u16_at(b, 14),
            itt: u32_at(b, 16),
            cid: u16_at(b, 20),
            cmd_sn: u32_at(b, 24),
            exp_stat_sn: u32_at(b, 28),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[0] |= IMMEDIATE;
        b[1] = bit(self.more, 0x40) | (self.stage as u8) << 2;
        b[1] |= self.next.map_or(0, |next| FINAL | next as u8);
        b[2] = self.version_max;
        b[3] = self.version_min;
        put(b, 8, self.isid);
        put(b, 14, self.tsih.to_be_bytes());
        put_u32(b, 16, self.itt);
        put(b, 20, self.cid.to_be_bytes());
        put_u32(b, 24, self.cmd_sn);
        put_u32(b, 28, self.exp_stat_sn);
    }
}

/// Text Request; its data segment is keys and values.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct TextRequest {
    pub immediate: bool,
    /// F: all was said.
    pub last: bool,
    /// C: the text goes on in the next PDU.
    pub more: bool,
    pub lun: Lun,
    pub itt: u32,
    pub ttt: u32,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

impl TextRequest {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            immediate: b[0] & IMMEDIATE != 0,
            last: b[1] & FINAL != 0,
            more: b[1] & 0x40 != 0,
            lun: lun_at(b),
            itt: u32_at(b, 16),
            ttt: u32_at(b, 20),
            cmd_sn: u32_at(b, 24),
            exp_stat_sn: u32_at(b, 28),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[0] |= bit(self.immediate, IMMEDIATE);
        b[1] = bit(self.last, FINAL) | bit(self.more, 0x40);
        put_lun(b, self.lun);
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.ttt);
        put_u32(b, 24, self.cmd_sn);
        put_u32(b, 28, self.exp_stat_sn);
    }
}

/// SCSI Data-Out.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct DataOut {
    /// F: the last of this sequence.
    pub last: bool,
    pub lun: Lun,
    pub itt: u32,
    /// The R2T's tag, or `NO_TAG` for unsolicited data.
    pub ttt: u32,
    pub exp_stat_sn: u32,
    pub data_sn: u32,
    /// Where the data belongs within the command's, in bytes.
    pub buffer_offset: u32,
}

impl DataOut {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            last: b[1] & FINAL != 0,
            lun: lun_at(b),
            itt: u32_at(b, 16),
            ttt: u32_at(b, 20),
            exp_stat_sn: u32_at(b, 28),
            data_sn: u32_at(b, 36),
            buffer_offset: u32_at(b, 40),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = bit(self.last, FINAL);
        put_lun(b, self.lun);
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.ttt);
        put_u32(b, 28, self.exp_stat_sn);
        put_u32(b, 36, self.data_sn);
        put_u32(b, 40, self.buffer_offset);
    }
}

/// Logout Request.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct LogoutRequest {
    pub immediate: bool,
    /// One of [`logout_reason`].
    pub reason: u8,
    pub itt: u32,
    pub cid: u16,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

impl LogoutRequest {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            immediate: b[0] & IMMEDIATE != 0,
            reason: b[1] & 0x7F,
            itt: u32_at(b, 16),
            cid: u16_at(b, 20),
            cmd_sn: u32_at(b, 24),
            exp_stat_sn: u32_at(b, 28),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[0] |= bit(self.immediate, IMMEDIATE);
        b[1] = FINAL | (self.reason & 0x7F);
        put_u32(b, 16, self.itt);
        put(b, 20, self.cid.to_be_bytes());
        put_u32(b, 24, self.cmd_sn);
        put_u32(b, 28, self.exp_stat_sn);
    }
}

/// SNACK Request: only with an error recovery level above 0, which Ferric does not ask for.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct Snack {
    /// 0 data or R2T, 1 status, 2 data acknowledgement, 3 R-data.
    pub kind: u8,
    pub lun: Lun,
    pub itt: u32,
    pub ttt: u32,
    pub exp_stat_sn: u32,
    pub begin: u32,
    pub run_length: u32,
}

impl Snack {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            kind: b[1] & 0x0F,
            lun: lun_at(b),
            itt: u32_at(b, 16),
            ttt: u32_at(b, 20),
            exp_stat_sn: u32_at(b, 28),
            begin: u32_at(b, 40),
            run_length: u32_at(b, 44),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = FINAL | (self.kind & 0x0F);
        put_lun(b, self.lun);
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.ttt);
        put_u32(b, 28, self.exp_stat_sn);
        put_u32(b, 40, self.begin);
        put_u32(b, 44, self.run_length);
    }
}
