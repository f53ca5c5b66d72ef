//! What a request is answered, as a function of data alone.

use std::net::{Ipv4Addr, SocketAddrV4};

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption};
use dhcproto::{Encodable, Encoder};
use ferric_machine::Timestamp;

use super::request::{Kind, Request, Vendor};
use super::{BootVia, DhcpMode, DhcpSettings, Known, Leases, Mac, PortIndex};

/// Where clients listen, and relays and servers.
const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// Old ROMs drop what is shorter (RFC 1542 §2.1 makes a BOOTP message 300 bytes).
const SHORTEST: usize = 300;
/// Option 43 {6: 8, end}: no boot server discovery, the boot file in this answer is the one (PXE 2.1 §2.2.3).
const BOOT_FILE_NOW: [u8; 4] = [6, 1, 8, 255];
/// Option 175 {176: 1}: iPXE need not wait for a proxy DHCP server.
const NO_PROXY: [u8; 3] = [176, 1, 1];

/// An answer and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message.
    pub message: Message,
    /// Destination.
    pub to: SocketAddrV4,
}

/// Why a request stays without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// No enrolled node has a port with this address.
    UnknownMac(Mac),
    /// It speaks to another server.
    OtherServer,
    /// It came through a relay of a network for which there is no pool.
    OtherNetwork(Ipv4Addr),
    /// No address is left.
    PoolExhausted(Mac),
    /// As proxy: this client does not boot from the network, or is not to.
    NothingToBoot,
    /// Nothing is due (RELEASE, DECLINE).
    NoneDue,
}

impl Reply {
    /// The bytes for the wire.
    ///
    /// # Errors
    /// dhcproto's, when an option does not fit its field.
    pub fn encode(&self) -> Result<Vec<u8>, dhcproto::error::EncodeError> {
        let mut bytes = Vec::with_capacity(512);
        self.message.encode(&mut Encoder::new(&mut bytes))?;
        bytes.resize(bytes.len().max(SHORTEST), 0);
        Ok(bytes)
    }
}

/// Decides about a packet that came to port 67.
///
/// # Errors
/// [`Silence`] says why there is no answer.
pub fn answer(
    request: &Request,
    settings: &DhcpSettings,
    ports: &PortIndex,
    leases: &mut Leases,
    now: Timestamp,
) -> Result<Reply, Silence> {
    let known = ports.get(request.mac);
    if known.is_none() && settings.known_only {
        return Err(Silence::UnknownMac(request.mac));
    }
    match settings.mode {
        DhcpMode::Off => Err(Silence::NoneDue),
        DhcpMode::Proxy => match request.kind {
            Kind::Discover => proxy_reply(request, settings, known, MessageType::Offer),
            Kind::Request | Kind::Inform => Err(Silence::OtherServer),
            Kind::Decline | Kind::Release => Err(Silence::NoneDue),
        },
        DhcpMode::Full => full(request, settings, known, leases, now),
    }
}

/// Decides about a packet that came to port 4011 from `source`: a ROM that asks the boot server.
///
/// # Errors
/// [`Silence`] says why there is no answer.
pub fn answer_boot_server(
    request: &Request,
    source: SocketAddrV4,
    settings: &DhcpSettings,
    ports: &PortIndex,
) -> Result<Reply, Silence> {
    let known = ports.get(request.mac);
    if known.is_none() && settings.known_only {
        return Err(Silence::UnknownMac(request.mac));
    }
    match request.kind {
        Kind::Request | Kind::Inform | Kind::Discover => {
            let reply = proxy_reply(request, settings, known, MessageType::Ack)?;
            Ok(Reply { to: source, ..reply })
        }
        Kind::Decline | Kind::Release => Err(Silence::NoneDue),
    }
}

fn full(
    request: &Request,
    settings: &DhcpSettings,
    known: Option<Known>,
    leases: &mut Leases,
    now: Timestamp,
) -> Result<Reply, Silence> {
    let mac = request.mac;
    if !request.giaddr.is_unspecified() && !settings.same_network(request.giaddr) {
        return Err(Silence::OtherNetwork(request.giaddr));
    }
    let for_us = request.server_id.is_none_or(|id| id == settings.address);
    let give = |kind, address| Ok(address_reply(request, settings, known, kind, address));
    match request.kind {
        Kind::Discover => {
            let address = leases.offer(mac, request.requested, settings, now);
            give(MessageType::Offer, address.ok_or(Silence::PoolExhausted(mac))?)
        }
        Kind::Request if !for_us => {
            leases.withdraw(mac);
            Err(Silence::OtherServer)
        }
        Kind::Request => {
            // option 50 when it selects or reboots, ciaddr when it renews or rebinds (RFC 2131 §4.3.2)
            let wanted = request.requested.unwrap_or(request.ciaddr);
            if leases.bind(mac, wanted, settings, now) {
                give(MessageType::Ack, wanted)
            } else if request.server_id.is_some() || settings.in_pool(wanted) {
                Ok(nak(request, settings))
            } else {
                // somebody else's address, asked for again after a reboot: not ours to refuse (RFC 2131 §4.3.2)
                Err(Silence::OtherServer)
            }
        }
        Kind::Decline => {
            if let Some(address) = request.requested.filter(|_| for_us) {
                leases.decline(mac, address, now);
            }
            Err(Silence::NoneDue)
        }
        Kind::Release => {
            if for_us {
                leases.release(mac, request.ciaddr, now);
            }
            Err(Silence::NoneDue)
        }
        Kind::Inform => {
            let mut reply = address_reply(request, settings, known, MessageType::Ack, Ipv4Addr::UNSPECIFIED);
            for code in [OptionCode::AddressLeaseTime, OptionCode::Renewal, OptionCode::Rebinding] {
                reply.message.opts_mut().remove(code);
            }
            Ok(reply)
        }
    }
}

/// An OFFER or ACK that gives an address, and a boot file where one is due.
fn address_reply(
    request: &Request,
    settings: &DhcpSettings,
    known: Option<Known>,
    kind: MessageType,
    address: Ipv4Addr,
) -> Reply {
    let mut message = blank(request, settings, kind);
    message.set_yiaddr(address);
    let lease = u32::try_from(settings.lease_time.as_secs()).unwrap_or(u32::MAX);
    let options = message.opts_mut();
    options.insert(DhcpOption::SubnetMask(settings.netmask));
    options.insert(DhcpOption::BroadcastAddr(settings.broadcast()));
    options.insert(DhcpOption::AddressLeaseTime(lease));
    options.insert(DhcpOption::Renewal(lease / 2));
    options.insert(DhcpOption::Rebinding(lease / 8 * 7));
    if let Some(router) = settings.router {
        options.insert(DhcpOption::Router(vec![router]));
    }
    if !settings.dns.is_empty() {
        options.insert(DhcpOption::DomainNameServer(settings.dns.clone()));
    }
    if request.ipxe {
        options.insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(175), NO_PROXY.to_vec())));
    }
    if let Some(file) = known.and_then(|known| known.boot).and_then(|via| boot_file(request, via, settings)) {
        file.put(&mut message, request, settings);
    }
    Reply { message, to: destination(request) }
}

/// An answer without an address, beside another server.
fn proxy_reply(
    request: &Request,
    settings: &DhcpSettings,
    known: Option<Known>,
    kind: MessageType,
) -> Result<Reply, Silence> {
    if request.vendor == Vendor::Other {
        return Err(Silence::NothingToBoot);
    }
    let via = known.and_then(|known| known.boot).ok_or(Silence::NothingToBoot)?;
    let file = boot_file(request, via, settings).ok_or(Silence::NothingToBoot)?;
    let mut message = blank(request, settings, kind);
    file.put(&mut message, request, settings);
    Ok(Reply { message, to: destination(request) })
}

fn nak(request: &Request, settings: &DhcpSettings) -> Reply {
    let mut message = blank(request, settings, MessageType::Nak);
    message.set_ciaddr(Ipv4Addr::UNSPECIFIED).set_siaddr(Ipv4Addr::UNSPECIFIED);
    let options = message.opts_mut();
    options.insert(DhcpOption::Message("this address is not yours; ask again".to_owned()));
    if request.giaddr.is_unspecified() {
        return Reply { message, to: SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT) };
    }
    // the client cannot be reached at the address it is refused, so the relay has to broadcast
    message.set_flags(Flags::new(request.flags).set_broadcast());
    Reply { message, to: SocketAddrV4::new(request.giaddr, SERVER_PORT) }
}

/// The fields and options that every answer has.
fn blank(request: &Request, settings: &DhcpSettings, kind: MessageType) -> Message {
    let mut message = Message::new_with_id(
        request.xid,
        request.ciaddr,
        Ipv4Addr::UNSPECIFIED,
        settings.tftp(),
        request.giaddr,
        &request.mac.0,
    );
    message.set_opcode(Opcode::BootReply).set_flags(Flags::new(request.flags));
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(settings.address));
    if let Some(id) = &request.client_id {
        options.insert(DhcpOption::ClientIdentifier(id.clone()));
    }
    if let Some(id) = &request.machine_id {
        options.insert(DhcpOption::ClientMachineIdentifier(id.clone()));
    }
    if let Some(info) = &request.relay_info {
        let echo = UnknownOption::new(OptionCode::RelayAgentInformation, info.clone());
        options.insert(DhcpOption::Unknown(echo));
    }
    message
}

/// Where an answer with an address goes. A client without address and without broadcast flag would have to be
/// reached by hardware address; a broadcast reaches it too (RFC 2131 §4.1 allows it).
fn destination(request: &Request) -> SocketAddrV4 {
    if !request.giaddr.is_unspecified() {
        SocketAddrV4::new(request.giaddr, SERVER_PORT)
    } else if !request.ciaddr.is_unspecified() && !request.wants_broadcast() {
        SocketAddrV4::new(request.ciaddr, CLIENT_PORT)
    } else {
        SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
    }
}

/// A boot file and how the client fetches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFile {
    /// File name below the TFTP root, or URL.
    pub name: String,
    /// True when the client is UEFI HTTP boot and takes URLs only.
    pub http_client: bool,
}

/// The file for the stage that asks: loader by architecture first, then iPXE's script.
#[must_use]
pub fn boot_file(request: &Request, via: BootVia, settings: &DhcpSettings) -> Option<BootFile> {
    let names = &settings.boot_files;
    let url = |file: &str| format!("{}/{file}", settings.http_url.trim_end_matches('/'));
    let (bios, uefi) = match via {
        BootVia::Ipxe if request.ipxe => {
            return Some(BootFile { name: url("boot.ipxe"), http_client: false });
        }
        BootVia::Ipxe => (&names.ipxe_bootfile_name, &names.uefi_ipxe_bootfile_name),
        BootVia::Pxe => (&names.pxe_bootfile_name, &names.uefi_pxe_bootfile_name),
    };
    match (request.vendor, via) {
        // 16 is x86-64 UEFI that boots from HTTP; GRUB's and shim's files are laid out for TFTP only
        (Vendor::Http, BootVia::Ipxe) if request.arch == Some(16) => {
            return Some(BootFile { name: url(uefi), http_client: true });
        }
        (Vendor::Http, BootVia::Ipxe | BootVia::Pxe) => return None,
        (Vendor::Pxe | Vendor::Other, BootVia::Ipxe | BootVia::Pxe) => {}
    }
    let name = match request.arch {
        None | Some(0) => bios,
        Some(7 | 9) => uefi,
        // no loader is installed for other processors
        Some(_) => return None,
    };
    Some(BootFile { name: name.clone(), http_client: false })
}

impl BootFile {
    fn put(&self, message: &mut Message, request: &Request, settings: &DhcpSettings) {
        let server = settings.tftp().to_string();
        // the fields of BOOTP as well as the options: EDK2 reads the field, others the option
        if self.name.len() < 128 {
            message.set_fname_str(&self.name);
        }
        if !self.http_client {
            message.set_sname_str(&server);
        }
        let options = message.opts_mut();
        options.insert(DhcpOption::BootfileName(self.name.clone().into_bytes()));
        if self.http_client {
            options.insert(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
            return;
        }
        options.insert(DhcpOption::TFTPServerName(server.into_bytes()));
        if request.vendor == Vendor::Pxe {
            options.insert(DhcpOption::ClassIdentifier(b"PXEClient".to_vec()));
            options.insert(DhcpOption::VendorExtensions(BOOT_FILE_NOW.to_vec()));
        }
    }
}
