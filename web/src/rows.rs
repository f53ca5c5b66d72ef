//! Pages of nodes as the text of their answer, straight from the columns: nothing is decoded that is not shown, and no
//! node is ever put together. Says what [`crate::views::NodeView`] says, to the byte; a test compares the two.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{self, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;
use ferric_machine::{State, Timestamp};
use ferric_schema::{BadColumn, Conn, NodeColumn, NodeQuery, NodeRow, StoreError, each_node};

use crate::context::Context;
use crate::gates::{AVAILABLE_NAMED, Field, INSPECT_WAIT_NAMED, NodeField};
use crate::mask;
use crate::policy::{Caller, Part, Target};
use crate::views::{self, HIDDEN_DRIVER_INFO, HIDDEN_INTERNAL_INFO, HIDDEN_LAST_ERROR, HIDDEN_RESERVATION};

/// Bytes that are put together before the next piece begins. A piece at a time goes to the socket's buffer.
const PIECE: usize = 64 * 1024;

/// The text of an answer in pieces, none of which is large.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    done: VecDeque<Bytes>,
    bytes: u64,
}

impl Pieces {
    fn push(&mut self, piece: Vec<u8>) {
        if !piece.is_empty() {
            self.bytes += piece.len() as u64;
            self.done.push_back(Bytes::from(piece));
        }
    }

    /// Ends a collection that was begun with its name: with the address of the next page, if there is one.
    pub(crate) fn end(mut self, next: Option<&str>) -> Pieces {
        let mut end = b"]".to_vec();
        if let Some(next) = next {
            end.extend_from_slice(b",\"next\":");
            string(next, &mut end);
        }
        end.push(b'}');
        self.push(end);
        self
    }
}

impl MessageBody for Pieces {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(self.done.pop_front().map(Ok))
    }
}

/// A page that was read.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Its text, without the end ([`Pieces::end`]).
    pub(crate) text: Pieces,
    /// How many nodes there are on it.
    pub(crate) count: usize,
    /// The last one of them.
    pub(crate) last: Option<String>,
}

/// Whose conductor it is: asked with hardware type and conductor group.
pub(crate) type ConductorOf = Box<dyn Fn(&str, &str) -> Option<String> + Send>;

/// How a value gets from its column (by its place in the row) to the wire.
#[derive(Clone, Copy, Debug)]
enum How {
    Text(usize),
    /// Text, unless the caller may not see it.
    Guarded(usize, Guard),
    Flag(usize),
    Moment(usize),
    Object(usize),
    Secret(usize, Guard),
    State(usize),
    Traits(usize),
    Conductor,
    Links(&'static str),
}

/// What some callers are not shown.
#[derive(Clone, Copy, Debug)]
enum Guard {
    DriverInfo,
    InternalInfo,
    InstanceInfo,
    LastError,
    Reservation,
}

/// What a caller may see of the nodes that belong to the same projects.
#[derive(Clone, Copy, Debug)]
enum Sight {
    Hidden,
    Masked,
    Plain,
}

impl Guard {
    const ALL: [Guard; 5] =
        [Guard::DriverInfo, Guard::InternalInfo, Guard::InstanceInfo, Guard::LastError, Guard::Reservation];

    fn sight(self, context: &Context, target: Target<'_>) -> Sight {
        let (seen, plain) = match self {
            Guard::DriverInfo => (Some(Part::DriverInfo), Some(Part::Passwords)),
            Guard::InternalInfo => (Some(Part::DriverInternalInfo), Some(Part::Passwords)),
            Guard::InstanceInfo => (None, Some(Part::InstanceSecrets)),
            Guard::LastError => (Some(Part::LastError), None),
            Guard::Reservation => (Some(Part::Reservation), None),
        };
        let hidden = seen.is_some_and(|part| !context.sees(part, target));
        if hidden {
            Sight::Hidden
        } else if plain.is_some_and(|part| context.sees(part, target)) {
            Sight::Plain
        } else {
            Sight::Masked
        }
    }

    fn hidden(self) -> &'static str {
        match self {
            Guard::DriverInfo => HIDDEN_DRIVER_INFO,
            Guard::InternalInfo => HIDDEN_INTERNAL_INFO,
            Guard::LastError => HIDDEN_LAST_ERROR,
            Guard::Reservation => HIDDEN_RESERVATION,
            Guard::InstanceInfo => "",
        }
    }
}

/// A selection of columns, each of them once.
#[derive(Default)]
struct Columns(Vec<NodeColumn>);

impl Columns {
    fn place(&mut self, column: NodeColumn) -> usize {
        self.0.iter().position(|known| *known == column).unwrap_or_else(|| {
            self.0.push(column);
            self.0.len() - 1
        })
    }

    fn named(&mut self, name: &str) -> usize {
        self.place(NodeColumn::named(name).expect("what is stored of a node is a column of that name"))
    }
}

/// What a list shows, and how: made once for each list.
struct Plan {
    columns: Columns,
    /// Each field's key with what stands before it, and its value.
    parts: Vec<(Vec<u8>, How)>,
    uuid: usize,
    /// Where it is read whose a node is, if the caller's sight depends on it.
    projects: Option<(usize, usize)>,
    /// Where it is read what a node's conductor depends on, if that is shown.
    ring: Option<(usize, usize)>,
    /// What stands around the path in the two links of a node.
    links: [Vec<u8>; 3],
}

impl Plan {
    fn new(fields: &[NodeField], context: &Context) -> Plan {
        let mut columns = Columns::default();
        let uuid = columns.named("uuid");
        let mut parts = Vec::with_capacity(fields.len());
        for field in fields {
            let name = field.spec().name;
            let key = format!("{}\"{name}\":", if parts.is_empty() { '{' } else { ',' });
            parts.push((key.into_bytes(), how(*field, &mut columns)));
        }
        let depends = parts.iter().any(|(_, how)| matches!(how, How::Guarded(..) | How::Secret(..)));
        let asked = match &context.caller {
            Caller::Admin | Caller::User(_) => false,
            Caller::Token { .. } => depends,
        };
        let projects = asked.then(|| (columns.named("owner"), columns.named("lessee")));
        let shows_conductor = fields.contains(&NodeField::Conductor);
        let ring = shows_conductor.then(|| (columns.named("driver"), columns.named("conductor_group")));
        let base = {
            let mut base = Vec::new();
            string(&context.base, &mut base);
            base.pop();
            base
        };
        let links = [
            [b"[{\"href\":", &base[..], b"/v1/nodes/"].concat(),
            [b"\",\"rel\":\"self\"},{\"href\":", &base[..], b"/nodes/"].concat(),
            b"\",\"rel\":\"bookmark\"}]".to_vec(),
        ];
        Plan { columns, parts, uuid, projects, ring, links }
    }
}

fn how(field: NodeField, columns: &mut Columns) -> How {
    use NodeField as F;
    let mut own = || columns.named(field.spec().name);
    match field {
        F::AllocationUuid => How::Text(columns.place(NodeColumn::ALLOCATION)),
        F::Traits => How::Traits(columns.place(NodeColumn::TRAITS)),
        F::Conductor => How::Conductor,
        F::AutomatedClean
        | F::ConsoleEnabled
        | F::DisablePowerOff
        | F::Maintenance
        | F::Protected
        | F::Retired
        | F::SecureBoot => How::Flag(own()),
        F::CreatedAt
        | F::InspectionFinishedAt
        | F::InspectionStartedAt
        | F::ProvisionUpdatedAt
        | F::UpdatedAt => How::Moment(own()),
        F::CleanStep
        | F::DeployStep
        | F::Extra
        | F::NetworkData
        | F::Properties
        | F::RaidConfig
        | F::ServiceStep
        | F::TargetRaidConfig => How::Object(own()),
        F::DriverInfo => How::Secret(own(), Guard::DriverInfo),
        F::DriverInternalInfo => How::Secret(own(), Guard::InternalInfo),
        F::InstanceInfo => How::Secret(own(), Guard::InstanceInfo),
        F::LastError => How::Guarded(own(), Guard::LastError),
        F::Reservation => How::Guarded(own(), Guard::Reservation),
        F::ProvisionState | F::TargetProvisionState => How::State(own()),
        F::BiosInterface
        | F::BootInterface
        | F::BootMode
        | F::ChassisUuid
        | F::ConductorGroup
        | F::ConsoleInterface
        | F::DeployInterface
        | F::Description
        | F::Driver
        | F::Fault
        | F::FirmwareInterface
        | F::Health
        | F::InspectInterface
        | F::InstanceName
        | F::InstanceUuid
        | F::Lessee
        | F::MaintenanceReason
        | F::ManagementInterface
        | F::Name
        | F::NetworkInterface
        | F::Owner
        | F::ParentNode
        | F::PowerInterface
        | F::PowerState
        | F::ProtectedReason
        | F::RaidInterface
        | F::RescueInterface
        | F::ResourceClass
        | F::RetiredReason
        | F::Shard
        | F::StorageInterface
        | F::TargetPowerState
        | F::Uuid
        | F::VendorInterface => How::Text(own()),
        F::Links => How::Links(""),
        F::Ports => How::Links("/ports"),
        F::States => How::Links("/states"),
        F::Portgroups => How::Links("/portgroups"),
        F::Volume => How::Links("/volume"),
    }
}

/// The page of `query` (`None`: of no nodes), with these fields of them. `usual`: many lists show the same fields.
pub(crate) fn page(
    conn: &mut Conn,
    query: Option<&NodeQuery>,
    fields: &[NodeField],
    usual: bool,
    context: &Context,
    conductor_of: ConductorOf,
) -> Result<Page, StoreError> {
    let plan = Plan::new(fields, context);
    let mut writer = Writer {
        plan: &plan,
        context,
        conductor_of,
        sight: Guard::ALL.map(|guard| guard.sight(context, Target::NONE)),
        whose: (None, None),
        ring: (String::new(), String::new()),
        conductor: None,
        uuid: String::new(),
        piece: Vec::with_capacity(PIECE + PIECE / 4),
        page: Page::default(),
    };
    writer.conductor = (writer.conductor_of)("", "");
    writer.piece.extend_from_slice(b"{\"nodes\":[");
    if let Some(query) = query {
        each_node(conn, query, &plan.columns.0, usual, |row| writer.node(row))?;
    }
    let Writer { mut page, piece, uuid, .. } = writer;
    page.text.push(piece);
    page.last = Some(uuid).filter(|_| page.count > 0);
    Ok(page)
}

/// A page in the making.
struct Writer<'a> {
    plan: &'a Plan,
    context: &'a Context,
    conductor_of: ConductorOf,
    /// What the caller may see of the node before, whose it was, and who its conductor is: mostly those of the next.
    sight: [Sight; 5],
    whose: (Option<String>, Option<String>),
    ring: (String, String),
    conductor: Option<String>,
    uuid: String,
    piece: Vec<u8>,
    page: Page,
}

impl Writer<'_> {
    fn node(&mut self, row: &NodeRow<'_, '_, '_>) -> Result<(), StoreError> {
        if self.page.count > 0 {
            self.piece.push(b',');
        }
        self.page.count += 1;
        let plan = self.plan;
        row.text(plan.uuid, |uuid| {
            self.uuid.clear();
            self.uuid.push_str(uuid.unwrap_or_default());
            Ok(())
        })?;
        self.look(row)?;
        for (key, how) in &plan.parts {
            self.piece.extend_from_slice(key);
            self.value(*how, row)?;
        }
        self.piece.push(b'}');
        if self.piece.len() >= PIECE {
            let full = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE + PIECE / 4));
            self.page.text.push(full);
        }
        Ok(())
    }

    /// Takes in what the node's values depend on besides themselves.
    fn look(&mut self, row: &NodeRow<'_, '_, '_>) -> Result<(), StoreError> {
        if let Some((owner, lessee)) = self.plan.projects {
            let mut other = false;
            for (at, known) in [(owner, &mut self.whose.0), (lessee, &mut self.whose.1)] {
                row.text(at, |text| {
                    if known.as_deref() != text {
                        *known = text.map(str::to_owned);
                        other = true;
                    }
                    Ok(())
                })?;
            }
            if other {
                let target = Target { owner: self.whose.0.as_deref(), lessee: self.whose.1.as_deref() };
                self.sight = Guard::ALL.map(|guard| guard.sight(self.context, target));
            }
        }
        if let Some((driver, group)) = self.plan.ring {
            let mut other = false;
            for (at, known) in [(driver, &mut self.ring.0), (group, &mut self.ring.1)] {
                row.text(at, |text| {
                    let text = text.unwrap_or_default();
                    if known != text {
                        text.clone_into(known);
                        other = true;
                    }
                    Ok(())
                })?;
            }
            if other {
                self.conductor = (self.conductor_of)(&self.ring.0, &self.ring.1);
            }
        }
        Ok(())
    }

    fn value(&mut self, how: How, row: &NodeRow<'_, '_, '_>) -> Result<(), StoreError> {
        let out = &mut self.piece;
        match how {
            How::Text(at) => row.text(at, |text| {
                maybe(text, out);
                Ok(())
            })?,
            How::Guarded(at, guard) => match self.sight[guard as usize] {
                Sight::Hidden => string(guard.hidden(), out),
                Sight::Masked | Sight::Plain => row.text(at, |text| {
                    maybe(text, out);
                    Ok(())
                })?,
            },
            How::Flag(at) => out.extend_from_slice(match row.flag(at)? {
                Some(true) => b"true",
                Some(false) => b"false",
                None => b"null",
            }),
            How::Moment(at) => match row.number(at)? {
                Some(micros) => {
                    let mut text = views::IsoText::default();
                    let moment = views::iso(Timestamp(micros), &mut text);
                    let moment = moment.ok_or_else(|| bad("", "moment"))?;
                    out.push(b'"');
                    out.extend_from_slice(moment.as_bytes());
                    out.push(b'"');
                }
                None => out.extend_from_slice(b"null"),
            },
            How::Object(at) => row.text(at, |text| object(text, false, out))?,
            How::Secret(at, guard) => match self.sight[guard as usize] {
                Sight::Hidden => {
                    out.extend_from_slice(b"{\"content\":");
                    string(guard.hidden(), out);
                    out.push(b'}');
                }
                Sight::Masked => row.text(at, |text| object(text, true, out))?,
                Sight::Plain => row.text(at, |text| object(text, false, out))?,
            },
            How::State(at) => {
                let version = self.context.version;
                row.text(at, |text| {
                    let parse = |text: &str| {
                        text.parse::<State>()
                            .map_err(|_| BadColumn { column: "provision_state", what: "state" })
                    };
                    let renamed = !version.has(AVAILABLE_NAMED) || !version.has(INSPECT_WAIT_NAMED);
                    match text {
                        Some(text) if renamed => maybe(views::state_name(Some(parse(text)?), version), out),
                        other => maybe(other, out),
                    }
                    Ok(())
                })?;
            }
            How::Traits(at) => row.text(at, |text| {
                let mut names: Vec<&str> = text.into_iter().flat_map(|text| text.split(',')).collect();
                names.sort_unstable();
                out.push(b'[');
                for (at, name) in names.into_iter().enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    string(name, out);
                }
                out.push(b']');
                Ok(())
            })?,
            How::Conductor => maybe(self.conductor.as_deref(), out),
            How::Links(tail) => {
                let [first, second, end] = &self.plan.links;
                for part in [first, self.uuid.as_bytes(), tail.as_bytes(), second, self.uuid.as_bytes()] {
                    out.extend_from_slice(part);
                }
                out.extend_from_slice(tail.as_bytes());
                out.extend_from_slice(end);
            }
        }
        Ok(())
    }
}

fn bad(column: &'static str, what: &'static str) -> StoreError {
    StoreError::other(BadColumn { column, what })
}

fn object(text: Option<&str>, hide: bool, out: &mut Vec<u8>) -> Result<(), BadColumn> {
    let text = text.unwrap_or("{}");
    mask::copy_object(text, hide, out).map(|_| ()).ok_or(BadColumn { column: "of JSON", what: "object" })
}

fn maybe(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => string(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// A JSON string.
fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut copied = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            0..0x20 => b'u',
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[copied..at]);
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let digits = [b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            out.extend_from_slice(&digits);
        }
        copied = at + 1;
    }
    out.extend_from_slice(&text.as_bytes()[copied..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests;
