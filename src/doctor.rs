//! `ferric doctor`: what would keep `ferric serve` from working, each finding with what to do about it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use ferric_drivers::interface::Kind;

use crate::cli::ConfigArgs;
use crate::config::value::{AuthStrategy, DhcpMode};
use crate::config::{Config, Loaded};
use crate::wire::{
    Places, WireError, certificate_end, left_out, policy_doubts, ramdisk_api_url, store_options,
};

/// What was found.
enum Finding {
    /// Nothing to do.
    Good(String),
    /// Works, but not for every machine.
    Doubtful { what: String, remedy: String },
    /// `ferric serve` would fail.
    Bad { what: String, remedy: String },
}

use Finding::{Bad, Doubtful, Good};

/// Prints every finding; 1 when one is bad.
pub(crate) fn run(from: &ConfigArgs) -> ExitCode {
    let mut bad = 0;
    for finding in examine(from) {
        match finding {
            Good(what) => println!("ok      {what}"),
            Doubtful { what, remedy } => println!("doubt   {what}\n        -> {remedy}"),
            Bad { what, remedy } => {
                bad += 1;
                println!("bad     {what}\n        -> {remedy}");
            }
        }
    }
    if bad > 0 {
        println!("{bad} thing(s) to put right before ferric serve");
        return ExitCode::FAILURE;
    }
    match crate::lock::holder(&from.data_dir) {
        Some(_) => println!("ferric serve runs; what is found here is for its next start"),
        None => println!("ferric serve can start"),
    }
    ExitCode::SUCCESS
}

fn examine(from: &ConfigArgs) -> Vec<Finding> {
    let loaded = match Loaded::read(from.config.as_deref(), crate::environment(), &from.set) {
        Ok(loaded) => loaded,
        Err(error) => {
            let what = crate::Failure::from(error).0;
            return vec![Bad {
                what,
                remedy: "put it right; ferric config show prints every option".to_owned(),
            }];
        }
    };
    let config = &loaded.config;
    let places = Places::new(config, &from.data_dir);
    let mut all = vec![Good("configuration".to_owned())];
    all.extend(readable(&loaded));
    let runs = crate::lock::holder(&from.data_dir);
    all.extend(runs.iter().map(|pid| Good(format!("Ferric runs here, pid {pid}"))));
    all.push(database(config, &from.data_dir));
    all.extend(strangers(config, &from.data_dir));
    all.push(door(config));
    all.extend(certificate(config));
    all.extend(policies(config));
    let api: IpAddr = config.api.host_ip.parse().expect("Config::check has read this address");
    let own = runs.is_some();
    all.push(tcp(own, "API", SocketAddr::new(api, config.api.port), "api.port"));
    if config.http.enabled {
        all.push(tcp(
            own,
            "HTTP boot",
            listen(config, config.http.host_ip.as_ref(), config.http.port),
            "http.port",
        ));
    }
    if config.tftp.enabled {
        all.push(udp(
            own,
            "TFTP",
            listen(config, config.tftp.host_ip.as_ref(), config.tftp.port),
            "tftp.port",
        ));
    }
    if config.dhcp.mode != DhcpMode::Off {
        all.push(udp(own, "DHCP", SocketAddr::from(([0, 0, 0, 0], 67)), "dhcp.mode"));
        all.push(interface(config.dhcp.interface.as_deref().unwrap_or_default()));
    }
    if config.tftp.enabled || config.http.enabled || config.dhcp.mode != DhcpMode::Off {
        all.extend(loaders(config, &places));
    }
    all.extend(ramdisk(config));
    all.extend(boots(config));
    all.extend(open_door(config));
    all
}

/// What `ferric serve` warns of at its start: it runs, and something will fail later.
pub(crate) fn concerns(config: &Config) -> Vec<String> {
    let boots_off =
        boots(config).into_iter().filter(|_| !config.tftp.enabled && !config.http.enabled).take(1);
    let ramdisk = ramdisk(config).into_iter().filter(|finding| matches!(finding, Bad { .. }));
    let told = |finding| match finding {
        Good(_) => None,
        Doubtful { what, remedy } | Bad { what, remedy } => Some(format!("{what}: {remedy}")),
    };
    boots_off.chain(ramdisk).chain(open_door(config)).filter_map(told).collect()
}

/// Real machines are to be booted over the network, and cannot be.
fn boots(config: &Config) -> Vec<Finding> {
    let of = &config.hardware;
    let enabled = |name: &str| {
        of.enabled_boot_interfaces.is_empty() || of.enabled_boot_interfaces.iter().any(|one| one == name)
    };
    let types: Vec<_> = ferric_drivers::hardware::all()
        .filter(|row| of.enabled_hardware_types.iter().any(|name| name == row.name))
        .filter(|row| row.supported(Kind::Power).contains(&"ipmitool"))
        .collect();
    // classic drivers bring theirs along, whatever is enabled
    let classic = types.iter().any(|row| row.classic && row.supported(Kind::Boot).contains(&"pxe"));
    let dynamic = types.iter().any(|row| !row.classic);
    let (pxe, ipxe) = (classic || dynamic && enabled("pxe"), dynamic && enabled("ipxe"));
    if !(pxe || ipxe) {
        return Vec::new();
    }
    let mut all = Vec::new();
    let servers = [
        ("tftp.enabled", config.tftp.enabled, "every network boot begins with it"),
        ("http.enabled", config.http.enabled || !ipxe, "iPXE fetches kernel and ramdisk by it"),
    ];
    let off: Vec<_> = servers.into_iter().filter(|(_, on, _)| !on).collect();
    if !off.is_empty() {
        let why: Vec<_> = off.iter().map(|(name, _, why)| format!("{name} is false ({why})")).collect();
        let set: Vec<_> = off.iter().map(|(name, _, _)| format!("{name}=true")).collect();
        all.push(Doubtful {
            what: format!("boot servers are off: {}", why.join(", ")),
            remedy: format!(
                "set {}; leave it if only simulated or fake machines are used",
                set.join(" and ")
            ),
        });
    }
    let url = ramdisk_api_url(config);
    if is_loopback(&url) {
        all.push(Doubtful {
            what: format!(
                "the ramdisks of real machines would look for the API at {url}, which is themselves"
            ),
            remedy:
                "set api.host_ip to this host's address on the provisioning network, or api.public_endpoint \
                     to a URL that reaches it"
                    .to_owned(),
        });
    }
    all
}

fn is_loopback(url: &str) -> bool {
    let parsed = reqwest::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or(host == "localhost", |address| address.is_loopback())
}

/// Whoever reaches the API commands the machines.
fn open_door(config: &Config) -> Option<Finding> {
    let api: IpAddr = config.api.host_ip.parse().expect("Config::check has read this address");
    match config.auth.strategy {
        AuthStrategy::Noauth if !api.is_loopback() => Some(Doubtful {
            what: format!(
                "the API on {api}:{} asks nobody who they are (auth.strategy = noauth)",
                config.api.port
            ),
            remedy: "let only administrators and the provisioning network reach it, or put it on 127.0.0.1 \
                     (api.host_ip) behind a proxy that asks"
                .to_owned(),
        }),
        AuthStrategy::Noauth => None,
        AuthStrategy::HttpBasic if !api.is_loopback() && !config.api.enable_ssl_api => Some(Doubtful {
            what: format!("passwords of callers come to {api}:{} unencrypted", config.api.port),
            remedy: "set api.enable_ssl_api with ssl.cert_file and ssl.key_file, or put the API on 127.0.0.1 behind a \
                     proxy with TLS"
                .to_owned(),
        }),
        AuthStrategy::HttpBasic | AuthStrategy::Keystone => None,
    }
}

/// The files that authentication and TLS need.
fn door(config: &Config) -> Finding {
    match crate::wire::door(config) {
        Ok(()) => Good("authentication and TLS".to_owned()),
        Err(error) => Bad {
            what: error.to_string(),
            remedy: "put it right as it says; ferric config show tells the options".to_owned(),
        },
    }
}

/// A configuration file with passwords that everybody on this host can read.
fn readable(loaded: &Loaded) -> Option<Finding> {
    let path = loaded.file_with_secrets()?;
    let mode = std::fs::metadata(&path).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| Doubtful {
        what: format!("{} holds a password, and every user of this host may read it", path.display()),
        remedy: format!("chmod o= {}", path.display()),
    })
}

/// A certificate that has ended, or soon will.
fn certificate(config: &Config) -> Option<Finding> {
    let end = certificate_end(config)?;
    let left = end - time::OffsetDateTime::now_utc();
    let remedy =
        "put a new one where ssl.cert_file and ssl.key_file name it; a running Ferric takes it within a \
                  second"
            .to_owned();
    if left.is_negative() {
        let what = format!("the certificate of the API expired on {}: clients refuse it", end.date());
        return Some(Bad { what, remedy });
    }
    if left <= ferric_web::Tls::EXPIRES_SOON {
        let what = format!("the certificate of the API expires on {}", end.date());
        return Some(Doubtful { what, remedy });
    }
    Some(Good(format!("certificate of the API: good until {}", end.date())))
}

/// What the policy file says to no effect.
fn policies(config: &Config) -> Vec<Finding> {
    let remedy = "correct it in oslo_policy.policy_file; a running Ferric takes it within a second";
    policy_doubts(config)
        .into_iter()
        .map(|what| Doubtful { what: format!("policy file: {what}"), remedy: remedy.to_owned() })
        .collect()
}

/// Nodes whose hardware type is not enabled. A database that cannot be read has its finding already.
fn strangers(config: &Config, data_dir: &Path) -> Vec<Finding> {
    let options = store_options(config, data_dir);
    if crate::database::sqlite_file(&options).is_some_and(|file| !file.exists()) {
        return Vec::new();
    }
    let nodes = crate::database::nodes_by_driver(&options).unwrap_or_default();
    let remedy = "enable it, or give the nodes another driver".to_owned();
    left_out(config, &nodes).into_iter().map(|what| Doubtful { what, remedy: remedy.clone() }).collect()
}

fn database(config: &Config, data_dir: &Path) -> Finding {
    let options = store_options(config, data_dir);
    let file = crate::database::sqlite_file(&options);
    let answer =
        file.as_ref().map_or(Ok(()), |file| crate::database::writable(file)).and_then(|()| match &file {
            // one that is not there yet is made by serve: no reason to make it here
            Some(file) if !file.exists() => Ok(Err(file)),
            Some(_) | None => crate::database::pending(&options).map(Ok),
        });
    match answer {
        Ok(Err(file)) => Good(format!("database: ferric serve will make {}", file.display())),
        Ok(Ok(late)) if late.is_empty() => Good("database: answers, tables up to date".to_owned()),
        Ok(Ok(late)) => Doubtful {
            what: format!("database: {} step(s) behind this program", late.len()),
            remedy: "ferric serve applies them at its start; ferric db migrate does it now".to_owned(),
        },
        Err(WireError::Database { file, cause, remedy }) => {
            Bad { what: format!("database {}: {cause}", file.display()), remedy: remedy.to_owned() }
        }
        Err(error) => Bad {
            what: format!("database: {}", crate::Failure::from(error).0),
            remedy: "check database.connection".to_owned(),
        },
    }
}

fn listen(config: &Config, host: Option<&String>, port: u16) -> SocketAddr {
    let host = host.or(config.dhcp.server_ip.as_ref()).map(String::as_str).unwrap_or("0.0.0.0");
    SocketAddr::new(host.parse().expect("Config::check has read this address"), port)
}

/// `own`: a Ferric with the same data runs, which will be what uses the port.
fn tcp(own: bool, what: &str, at: SocketAddr, option: &str) -> Finding {
    port(own, what, "tcp", at, option, TcpListener::bind(at).map(drop))
}

fn udp(own: bool, what: &str, at: SocketAddr, option: &str) -> Finding {
    port(own, what, "udp", at, option, UdpSocket::bind(at).map(drop))
}

fn port(
    own: bool,
    what: &str,
    kind: &str,
    at: SocketAddr,
    option: &str,
    bound: std::io::Result<()>,
) -> Finding {
    let Err(error) = bound else { return Good(format!("{what}: {kind} {at} is free")) };
    let is = |kind| error.kind() == kind;
    if own && is(ErrorKind::AddrInUse) {
        return Good(format!("{what}: {kind} {at} is in use, as it is while Ferric runs"));
    }
    let remedy = if is(ErrorKind::AddrInUse) {
        let flag = if kind == "tcp" { 't' } else { 'u' };
        format!("stop what uses it (ss -{flag}lnp 'sport = :{}' names it), or change {option}", at.port())
    } else if is(ErrorKind::PermissionDenied) {
        format!("ports below 1024 need CAP_NET_BIND_SERVICE (or root); or change {option}")
    } else if is(ErrorKind::AddrNotAvailable) {
        "no interface of this host has the address; change host_ip".to_owned()
    } else {
        format!("change {option}")
    };
    Bad { what: format!("{what}: {kind} {at}: {error}"), remedy }
}

fn interface(name: &str) -> Finding {
    if Path::new("/sys/class/net").join(name).exists() {
        return Good(format!("DHCP: interface {name}"));
    }
    let there: Vec<_> = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    Bad {
        what: format!("DHCP: there is no interface {name}"),
        remedy: format!("set dhcp.interface to one of: {}", there.join(", ")),
    }
}

fn loaders(config: &Config, places: &Places) -> Vec<Finding> {
    let of = &config.pxe;
    let wanted = [
        (&of.ipxe_bootfile_name, "ipxe", "iPXE on BIOS"),
        (&of.uefi_ipxe_bootfile_name, "ipxe", "iPXE on UEFI"),
        (&of.pxe_bootfile_name, "pxelinux", "PXE on BIOS"),
        (&of.uefi_pxe_bootfile_name, "shim-signed grub-efi-amd64-signed", "PXE on UEFI"),
    ];
    let other = |name: &str| if name == "bootx64.efi" { "shimx64.efi.signed" } else { "" }.to_owned();
    wanted
        .into_iter()
        .map(|(name, package, used)| {
            let folders = of.loader_paths.iter().map(Path::new).chain([places.tftp_root.as_path()]);
            let found = folders.flat_map(|folder| [folder.join(name), folder.join(other(name))]);
            match found.into_iter().find(|path| path.is_file()) {
                Some(path) => Good(format!("loader for {used}: {}", path.display())),
                None => Doubtful {
                    what: format!("loader for {used}: {name} is nowhere in pxe.loader_paths"),
                    remedy: format!("apt-get install {package}; needed only where machines boot that way"),
                },
            }
        })
        .collect()
}

fn ramdisk(config: &Config) -> Vec<Finding> {
    let of = &config.conductor;
    [("deploy_kernel", &of.deploy_kernel), ("deploy_ramdisk", &of.deploy_ramdisk)]
        .into_iter()
        .map(|(key, value)| match value {
            None => Doubtful {
                what: format!("conductor.{key} is not set: each node needs its own in driver_info"),
                remedy: "ferric ramdisk build --out DIR makes both; set them to the files".to_owned(),
            },
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
                Good(format!("{key}: {url} (not fetched here)"))
            }
            Some(path) if Path::new(path.trim_start_matches("file://")).is_file() => {
                Good(format!("{key}: {path}"))
            }
            Some(path) => Bad {
                what: format!("conductor.{key}: there is no file {path}"),
                remedy: "ferric ramdisk build --out DIR makes one".to_owned(),
            },
        })
        .collect()
}
