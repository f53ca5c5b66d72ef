//! What a target sends: RFC 7143 §11.4, 6, 7.3, 8, 9, 11, 13, 15, 17, 19.

use super::{
    BHS, FINAL, Lun, NO_TAG, PduError, Stage, Window, bit, lun_at, put, put_lun, put_u32, put_window, u16_at,
    u32_at, window_at,
};

/// Codes of [`TaskResponse::response`].
pub mod task_response {
    /// Done.
    pub const COMPLETE: u8 = 0;
    /// The target does not (or no longer) know the command.
    pub const NO_TASK: u8 = 1;
    /// No such logical unit.
    pub const NO_LUN: u8 = 2;
    /// The function is not implemented.
    pub const NOT_SUPPORTED: u8 = 5;
    /// This initiator may not.
    pub const NOT_AUTHORIZED: u8 = 6;
    /// Anything else.
    pub const REJECTED: u8 = 255;
}

/// Codes of [`LogoutResponse::response`].
pub mod logout_response {
    /// Closed.
    pub const SUCCESS: u8 = 0;
    /// No such connection.
    pub const NO_CONNECTION: u8 = 1;
    /// Connection recovery is not implemented.
    pub const NO_RECOVERY: u8 = 2;
    /// The clean-up failed.
    pub const FAILED: u8 = 3;
}

/// Codes of [`Async::event`].
pub mod async_event {
    /// Sense data in the data segment.
    pub const SCSI: u8 = 0;
    /// Log out within parameter 3 seconds.
    pub const LOGOUT_REQUEST: u8 = 1;
    /// The connection of CID parameter 1 goes.
    pub const CONNECTION_DROP: u8 = 2;
    /// All connections go.
    pub const SESSION_DROP: u8 = 3;
    /// Negotiate again within parameter 3 seconds.
    pub const NEGOTIATE: u8 = 4;
    /// All commands of a logical unit are ended.
    pub const TASKS_TERMINATED: u8 = 5;
}

/// Codes of [`Reject::reason`].
pub mod reject_reason {
    /// The data did not fit its digest.
    pub const DATA_DIGEST: u8 = 0x02;
    /// SNACK refused.
    pub const SNACK: u8 = 0x03;
    /// The protocol was broken.
    pub const PROTOCOL: u8 = 0x04;
    /// Not implemented.
    pub const UNSUPPORTED: u8 = 0x05;
    /// Too many immediate commands.
    pub const TOO_MANY_IMMEDIATE: u8 = 0x06;
    /// A task is being done.
    pub const TASK_IN_PROGRESS: u8 = 0x07;
    /// Data acknowledgement without reason.
    pub const DATA_ACK: u8 = 0x08;
    /// A field makes no sense.
    pub const INVALID_FIELD: u8 = 0x09;
    /// Out of resources.
    pub const OUT_OF_RESOURCES: u8 = 0x0A;
    /// Negotiate anew.
    pub const NEGOTIATION_RESET: u8 = 0x0B;
    /// Waiting for a logout.
    pub const WAITING_FOR_LOGOUT: u8 = 0x0C;
}

/// NOP-In: a ping (`ttt` set, `itt` none), the answer to one (`itt` the initiator's), or only news of the window.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct NopIn {
    pub lun: Lun,
    pub itt: u32,
    pub ttt: u32,
    pub window: Window,
}

impl NopIn {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self { lun: lun_at(b), itt: u32_at(b, 16), ttt: u32_at(b, 20), window: window_at(b) })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = FINAL;
        put_lun(b, self.lun);
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.ttt);
        put_window(b, self.window);
    }
}

/// SCSI Response; its data segment is 2 bytes of sense length, then sense data.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct ScsiResponse {
    /// O: the command wanted to move `residual` bytes more than expected.
    pub overflow: bool,
    /// U: `residual` bytes of what was expected were not moved.
    pub underflow: bool,
    /// 0 completed at target, 1 target failure.
    pub response: u8,
    /// The SCSI status, if `response` is 0.
    pub status: u8,
    pub itt: u32,
    pub snack_tag: u32,
    pub window: Window,
    /// How many Data-In and R2T were sent for the command.
    pub exp_data_sn: u32,
    pub residual: u32,
}

impl ScsiResponse {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            overflow: b[1] & 4 != 0,
            underflow: b[1] & 2 != 0,
            response: b[2],
            status: b[3],
            itt: u32_at(b, 16),
            snack_tag: u32_at(b, 20),
            window: window_at(b),
            exp_data_sn: u32_at(b, 36),
            residual: u32_at(b, 44),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = FINAL | bit(self.overflow, 4) | bit(self.underflow, 2);
        b[2] = self.response;
        b[3] = self.status;
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.snack_tag);
        put_window(b, self.window);
        put_u32(b, 36, self.exp_data_sn);
        put_u32(b, 44, self.residual);
    }
}

/// Task Management Function Response.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct TaskResponse {
    /// One of [`task_response`].
    pub response: u8,
    pub itt: u32,
    pub window: Window,
}

impl TaskResponse {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self { response: b[2], itt: u32_at(b, 16), window: window_at(b) })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = FINAL;
        b[2] = self.response;
        put_u32(b, 16, self.itt);
        put_window(b, self.window);
    }
}

/// Login Response; its data segment is keys and values.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct LoginResponse {
    /// C: the text goes on in the next PDU.
    pub more: bool,
    pub stage: Stage,
    /// T and NSG: the stage that begins now, if the target agrees to leave this one.
    pub next: Option<Stage>,
    pub version_max: u8,
    pub version_active: u8,
    pub isid: [u8; 6],
    pub tsih: u16,
    pub itt: u32,
    pub window: Window,
    /// 0 success, 1 redirection, 2 the initiator's error, 3 the target's.
    pub status_class: u8,
    pub status_detail: u8,
}

impl LoginResponse {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        let mut isid = [0; 6];
        isid.copy_from_slice(&b[8..14]);
        // a refusal need not fill in its stages with care
        let refused = b[36] != 0;
        let stage =
            |bits| if refused { Ok(Stage::of(bits).unwrap_or(Stage::Security)) } else { Stage::of(bits) };
        Ok(Self {
            more: b[1] & 0x40 != 0,
            stage: stage(b[1] >> 2)?,
            next: if b[1] & FINAL == 0 { None } else { Some(stage(b[1])?) },
            version_max: b[2],
            version_active: b[3],
            isid,
            tsih: u16_at(b, 14),
            itt: u32_at(b, 16),
            window: window_at(b),
            status_class: b[36],
            status_detail: b[37],
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = bit(self.more, 0x40) | (self.stage as u8) << 2;
        b[1] |= self.next.map_or(0, |next| FINAL | next as u8);
        b[2] = self.version_max;
        b[3] = self.version_active;
        put(b, 8, self.isid);
        put(b, 14, self.tsih.to_be_bytes());
        put_u32(b, 16, self.itt);
        put_window(b, self.window);
        b[36] = self.status_class;
        b[37] = self.status_detail;
    }
}

/// Text Response; its data segment is keys and values.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct TextResponse {
    /// F: all was said.
    pub last: bool,
    /// C: the text goes on in the next PDU.
    pub more: bool,
    pub lun: Lun,
    pub itt: u32,
    /// Set where the initiator is to go on asking.
    pub ttt: u32,
    pub window: Window,
}

impl TextResponse {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            last: b[1] & FINAL != 0,
            more: b[1] & 0x40 != 0,
            lun: lun_at(b),
            itt: u32_at(b, 16),
            ttt: u32_at(b, 20),
            window: window_at(b),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = bit(self.last, FINAL) | bit(self.more, 0x40);
        put_lun(b, self.lun);
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.ttt);
        put_window(b, self.window);
    }
}

/// SCSI Data-In.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct DataIn {
    /// F: the last of this sequence.
    pub last: bool,
    /// A: wants to be acknowledged (error recovery above 0 only).
    pub acknowledge: bool,
    /// With `status`: see [`ScsiResponse::overflow`].
    pub overflow: bool,
    /// With `status`: see [`ScsiResponse::underflow`].
    pub underflow: bool,
    /// S: the command ended with this SCSI status, no SCSI Response follows. `window.stat_sn` counts only then.
    pub status: Option<u8>,
    pub lun: Lun,
    pub itt: u32,
    pub ttt: u32,
    pub window: Window,
    pub data_sn: u32,
    /// Where the data belongs within the command's, in bytes.
    pub buffer_offset: u32,
    pub residual: u32,
}

impl DataIn {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            last: b[1] & FINAL != 0,
            acknowledge: b[1] & 0x40 != 0,
            overflow: b[1] & 4 != 0,
            underflow: b[1] & 2 != 0,
            status: (b[1] & 1 != 0).then_some(b[3]),
            lun: lun_at(b),
            itt: u32_at(b, 16),
            ttt: u32_at(b, 20),
            window: window_at(b),
            data_sn: u32_at(b, 36),
            buffer_offset: u32_at(b, 40),
            residual: u32_at(b, 44),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = bit(self.last, FINAL) | bit(self.acknowledge, 0x40);
        b[1] |= bit(self.overflow, 4) | bit(self.underflow, 2) | bit(self.status.is_some(), 1);
        b[3] = self.status.unwrap_or(0);
        put_lun(b, self.lun);
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.ttt);
        put_window(b, self.window);
        put_u32(b, 36, self.data_sn);
        put_u32(b, 40, self.buffer_offset);
        put_u32(b, 44, self.residual);
    }
}

/// Logout Response.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct LogoutResponse {
    /// One of [`logout_response`].
    pub response: u8,
    pub itt: u32,
    pub window: Window,
    /// Seconds.
    pub time_to_wait: u16,
    /// Seconds.
    pub time_to_retain: u16,
}

impl LogoutResponse {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            response: b[2],
            itt: u32_at(b, 16),
            window: window_at(b),
            time_to_wait: u16_at(b, 40),
            time_to_retain: u16_at(b, 42),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = FINAL;
        b[2] = self.response;
        put_u32(b, 16, self.itt);
        put_window(b, self.window);
        put(b, 40, self.time_to_wait.to_be_bytes());
        put(b, 42, self.time_to_retain.to_be_bytes());
    }
}

/// Ready To Transfer.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct R2t {
    pub lun: Lun,
    pub itt: u32,
    pub ttt: u32,
    /// `stat_sn` is the next one, not this PDU's.
    pub window: Window,
    pub r2t_sn: u32,
    /// The first byte that is wanted, within the command's data.
    pub buffer_offset: u32,
    /// Desired Data Transfer Length, in bytes.
    pub desired_length: u32,
}

impl R2t {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            lun: lun_at(b),
            itt: u32_at(b, 16),
            ttt: u32_at(b, 20),
            window: window_at(b),
            r2t_sn: u32_at(b, 36),
            buffer_offset: u32_at(b, 40),
            desired_length: u32_at(b, 44),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = FINAL;
        put_lun(b, self.lun);
        put_u32(b, 16, self.itt);
        put_u32(b, 20, self.ttt);
        put_window(b, self.window);
        put_u32(b, 36, self.r2t_sn);
        put_u32(b, 40, self.buffer_offset);
        put_u32(b, 44, self.desired_length);
    }
}

/// Asynchronous Message; with [`async_event::SCSI`] its data segment is 2 bytes of sense length, then sense data.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct Async {
    pub lun: Lun,
    pub window: Window,
    /// One of [`async_event`].
    pub event: u8,
    pub vendor_code: u8,
    pub parameter1: u16,
    pub parameter2: u16,
    pub parameter3: u16,
}

impl Async {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self {
            lun: lun_at(b),
            window: window_at(b),
            event: b[36],
            vendor_code: b[37],
            parameter1: u16_at(b, 38),
            parameter2: u16_at(b, 40),
            parameter3: u16_at(b, 42),
        })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = FINAL;
        put_lun(b, self.lun);
        put_u32(b, 16, NO_TAG);
        put_window(b, self.window);
        b[36] = self.event;
        b[37] = self.vendor_code;
        put(b, 38, self.parameter1.to_be_bytes());
        put(b, 40, self.parameter2.to_be_bytes());
        put(b, 42, self.parameter3.to_be_bytes());
    }
}

/// Reject; its data segment is the header of the PDU that is meant.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // the fields are the wire's, named by RFC 7143
pub struct Reject {
    /// One of [`reject_reason`].
    pub reason: u8,
    pub window: Window,
    pub data_sn: u32,
}

impl Reject {
    pub(super) fn read(b: &[u8; BHS]) -> Result<Self, PduError> {
        Ok(Self { reason: b[2], window: window_at(b), data_sn: u32_at(b, 36) })
    }

    pub(super) fn write(&self, b: &mut [u8; BHS]) {
        b[1] = FINAL;
        b[2] = self.reason;
        put_u32(b, 16, NO_TAG);
        put_window(b, self.window);
        put_u32(b, 36, self.data_sn);
    }
}
