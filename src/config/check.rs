//! What no single option can know: values that must go together.

use std::net::{IpAddr, Ipv4Addr};

use ferric_drivers::hardware;
use ferric_drivers::interface::Kind;
use ferric_drivers::protocol::ipmi::states;

use super::options::Hardware;
use super::value::DhcpMode;
use super::{Config, nearest};

/// The hardware types that are built.
pub(crate) const HARDWARE_TYPES: &[&str] = &["ipmi", "redfish", "manual-management", "fake-hardware"];

/// Refuses what would be taken for something else, without repeating it: it may hold a password.
fn connection(url: &str) -> Result<(), String> {
    const FORM: &str = "it has to be postgres://user:password@host/name, or a path for SQLite";
    if !url.contains('/') && url.contains('=') {
        return Err(format!("database.connection is not a URL; {FORM}"));
    }
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let Some(rest) = rest else { return Ok(()) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if authority.matches('@').count() > 1
        || rest[authority.len()..].split('?').next().is_some_and(|path| path.contains('@'))
    {
        return Err(format!(
            "database.connection has a user or password with one of @ / ? # in it; write those as %40 %2F %3F %23: {FORM}"
        ));
    }
    Ok(())
}

impl Hardware {
    /// Each kind of interface with what is enabled (nothing said: all) and the default.
    pub(crate) fn interfaces(&self) -> [(Kind, &Vec<String>, &Option<String>); 13] {
        [
            (Kind::Bios, &self.enabled_bios_interfaces, &self.default_bios_interface),
            (Kind::Boot, &self.enabled_boot_interfaces, &self.default_boot_interface),
            (Kind::Console, &self.enabled_console_interfaces, &self.default_console_interface),
            (Kind::Firmware, &self.enabled_firmware_interfaces, &self.default_firmware_interface),
            (Kind::Network, &self.enabled_network_interfaces, &self.default_network_interface),
            (Kind::Storage, &self.enabled_storage_interfaces, &self.default_storage_interface),
            (Kind::Vendor, &self.enabled_vendor_interfaces, &self.default_vendor_interface),
            (Kind::Deploy, &self.enabled_deploy_interfaces, &self.default_deploy_interface),
            (Kind::Management, &self.enabled_management_interfaces, &self.default_management_interface),
            (Kind::Power, &self.enabled_power_interfaces, &self.default_power_interface),
            (Kind::Inspect, &self.enabled_inspect_interfaces, &self.default_inspect_interface),
            (Kind::Raid, &self.enabled_raid_interfaces, &self.default_raid_interface),
            (Kind::Rescue, &self.enabled_rescue_interfaces, &self.default_rescue_interface),
        ]
    }

    /// Refuses names of interfaces that nothing is called, and defaults that no node could get.
    fn check_interfaces(&self) -> Result<(), String> {
        for (kind, enabled, default) in self.interfaces() {
            let kind_name = kind.as_str();
            let mut known: Vec<_> = hardware::all().flat_map(|row| row.supported(kind)).copied().collect();
            known.sort_unstable();
            known.dedup();
            let list = format!("hardware.enabled_{kind_name}_interfaces");
            let option = format!("hardware.default_{kind_name}_interface");
            let all =
                enabled.iter().map(|name| (&list, name)).chain(default.iter().map(|name| (&option, name)));
            for (option, name) in all {
                if !known.contains(&name.as_str()) {
                    let near = nearest(name, known.iter().copied());
                    let near = near.map(|near| format!("did you mean '{near}'? ")).unwrap_or_default();
                    return Err(format!(
                        "{option} names '{name}', which is no {kind_name} interface of this release; {near}there are: {}",
                        known.join(", ")
                    ));
                }
            }
            let Some(default) = default else { continue };
            if !enabled.is_empty() && !enabled.contains(default) {
                return Err(format!(
                    "{option} = \"{default}\" is not enabled: add it to {list}, or choose one of: {}",
                    enabled.join(", ")
                ));
            }
            if enabled.is_empty() && hardware::enabled_by_name(kind, default) {
                return Err(format!(
                    "{option} = \"{default}\" is not enabled: it is so only where {list} names it, with every other that \
                     nodes use"
                ));
            }
            let of_a_type = |row: &&hardware::HardwareType| {
                self.enabled_hardware_types.iter().any(|name| name == row.name)
                    && row.supported(kind).contains(&default.as_str())
            };
            if !hardware::all().any(|row| of_a_type(&row)) {
                return Err(format!(
                    "{option} = \"{default}\" is an interface of none of the enabled hardware types ({}): choose \
                     another, or enable a type that has it with hardware.enabled_hardware_types",
                    self.enabled_hardware_types.join(", ")
                ));
            }
        }
        Ok(())
    }
}

impl Config {
    /// Refuses kinds of sensors that no sensor is of: it would never be told.
    fn check_sensor_kinds(&self) -> Result<(), String> {
        let known: Vec<String> = std::iter::once("ALL".to_owned()).chain(states::sensor_kinds()).collect();
        for kind in &self.sensor_data.data_types {
            if kind == "ALL" || known[1..].iter().any(|one| one.eq_ignore_ascii_case(kind)) {
                continue;
            }
            let near = nearest(kind, known.iter().map(String::as_str));
            let near = near.map(|near| format!("did you mean '{near}'? ")).unwrap_or_default();
            let usual = known.iter().filter(|one| !one.starts_with("OEM")).map(String::as_str);
            return Err(format!(
                "sensor_data.data_types names '{kind}', which no sensor is; {near}there are: {}; and OEM (0xC0) to OEM (0xFF)",
                usual.collect::<Vec<_>>().join(", ")
            ));
        }
        Ok(())
    }

    /// Says what does not fit together, and what would.
    pub(super) fn check(&self) -> Result<(), String> {
        for (name, text) in [
            ("api.host_ip", Some(&self.api.host_ip)),
            ("tftp.host_ip", self.tftp.host_ip.as_ref()),
            ("http.host_ip", self.http.host_ip.as_ref()),
        ] {
            if let Some(text) = text
                && text.parse::<IpAddr>().is_err()
            {
                return Err(format!("{name} = \"{text}\" is not an IP address, for example \"127.0.0.1\""));
            }
        }
        if self.api.enable_ssl_api && (self.ssl.cert_file.is_none() || self.ssl.key_file.is_none()) {
            return Err("api.enable_ssl_api is on, and ssl.cert_file and ssl.key_file do not both say with what: name a PEM \
                        certificate and its key"
                .to_owned());
        }
        if !self.api.enable_ssl_api && (self.ssl.cert_file.is_some() || self.ssl.key_file.is_some()) {
            return Err(
                "ssl.cert_file or ssl.key_file is set, and the API would still answer without TLS: set \
                        api.enable_ssl_api = true, or take them away"
                    .to_owned(),
            );
        }
        if self.keystone_authtoken.system_scope.as_deref().is_some_and(|scope| scope != "all") {
            return Err(
                "keystone_authtoken.system_scope can only be \"all\", or unset for a project".to_owned()
            );
        }
        if let Some(release) = &self.api.pin_release_version
            && ferric_web::version::of_release(release).is_none()
        {
            let all: Vec<&str> = ferric_web::version::RELEASES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "api.pin_release_version = \"{release}\" is no release of Ironic; there are: {}",
                all.join(", ")
            ));
        }
        if self.api.max_limit == 0 {
            return Err("api.max_limit = 0 would make every list empty; Ironic's default is 1000".to_owned());
        }
        if let Some(url) = &self.database.connection {
            connection(url.reveal())?;
        }
        for (name, text) in [
            ("dhcp.server_ip", self.dhcp.server_ip.as_ref()),
            ("dhcp.pool_start", self.dhcp.pool_start.as_ref()),
            ("dhcp.pool_end", self.dhcp.pool_end.as_ref()),
            ("dhcp.netmask", Some(&self.dhcp.netmask)),
            ("dhcp.router", self.dhcp.router.as_ref()),
            ("pxe.tftp_server", self.pxe.tftp_server.as_ref()),
            ("sim.bmc_address", Some(&self.sim.bmc_address)),
        ] {
            if let Some(text) = text
                && text.parse::<Ipv4Addr>().is_err()
            {
                return Err(format!("{name} = \"{text}\" is not an IPv4 address, for example \"10.9.0.1\""));
            }
        }
        for kind in &self.hardware.enabled_hardware_types {
            if !hardware::all().any(|row| row.name == kind) {
                let near = nearest(kind, hardware::all().map(|row| row.name));
                let near = near.map(|near| format!("did you mean '{near}'? ")).unwrap_or_default();
                let classic: Vec<&str> =
                    hardware::all().filter(|row| row.classic).map(|row| row.name).collect();
                return Err(format!(
                    "hardware.enabled_hardware_types names '{kind}', which this release does not have; {near}there are: \
                     {}; and the classic drivers {}",
                    HARDWARE_TYPES.join(", "),
                    classic.join(", ")
                ));
            }
        }
        if self.hardware.enabled_hardware_types.is_empty() {
            return Err(
                "hardware.enabled_hardware_types is empty: no node could be enrolled; name at least one, \
                        for example [\"ipmi\"]"
                    .to_owned(),
            );
        }
        self.hardware.check_interfaces()?;
        if self.dhcp.mode != DhcpMode::Off && self.dhcp.interface.is_none() {
            return Err(
                "dhcp.mode is on, and dhcp.interface does not say where: name the network interface of the \
                        provisioning network, for example dhcp.interface=br-provision"
                    .to_owned(),
            );
        }
        if self.dhcp.mode != DhcpMode::Off && self.dhcp.server_ip.is_none() {
            return Err(
                "dhcp.mode is on, and dhcp.server_ip is missing: set it to this host's address on the \
                        provisioning network, for example dhcp.server_ip=10.9.0.1"
                    .to_owned(),
            );
        }
        for dns in &self.dhcp.dns_servers {
            if dns.parse::<Ipv4Addr>().is_err() {
                return Err(format!("dhcp.dns_servers holds \"{dns}\", which is not an IPv4 address"));
            }
        }
        if self.dhcp.mode == DhcpMode::Full
            && (self.dhcp.pool_start.is_none() || self.dhcp.pool_end.is_none())
        {
            return Err("dhcp.mode is full, and the addresses to give are missing: set dhcp.pool_start and \
                        dhcp.pool_end, or use dhcp.mode=proxy beside another DHCP server"
                .to_owned());
        }
        for (name, steps) in [
            ("disallow_clean_steps", &self.api.disallow_clean_steps),
            ("disallow_deploy_steps", &self.api.disallow_deploy_steps),
            ("disallow_service_steps", &self.api.disallow_service_steps),
        ] {
            if let Some(step) = steps
                .iter()
                .find(|step| !step.contains('.') && step.parse::<ferric_machine::steps::Reserved>().is_err())
            {
                return Err(format!(
                    "api.{name} holds \"{step}\": name steps as interface.step, for example \"vendor.send_raw\""
                ));
            }
        }
        for path in &self.conductor.file_url_allowed_paths {
            if !std::path::Path::new(path).is_absolute() {
                return Err(format!(
                    "conductor.file_url_allowed_paths holds \"{path}\", which does not begin with /"
                ));
            }
        }
        if self.ipmi.cipher_suite_versions.iter().any(|suite| suite != "17" && suite != "3") {
            return Err("ipmi.cipher_suite_versions may hold 17 and 3, in the order of trial".to_owned());
        }
        self.check_sensor_kinds()?;
        if self.sim.boot_delay_min > self.sim.boot_delay_max {
            return Err("sim.boot_delay_min is longer than sim.boot_delay_max".to_owned());
        }
        Ok(())
    }
}
