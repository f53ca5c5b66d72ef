//! The kernel's own target (LIO), set up through configfs as Linux' Documentation/target and its `target_core_configfs`
//! describe: folders are objects, files are settings, a link puts a device behind a LUN.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ferric_agent_wire::ISCSI_LUN;

use super::Export;
use crate::error::Failure;
use crate::options::Options;
use crate::partition::tool;

/// The name of our device among LIO's. What bears another name is not ours and stays.
const NAME: &str = "ferric";

/// What the kernel calls it when loaded by hand; each brings what it needs.
const MODULES: [&str; 3] = ["configfs", "target_core_iblock", "iscsi_target_mod"];

/// Longest time for `modprobe`.
const LOADING: Duration = Duration::from_secs(60);

/// One change of the tree. Paths are below `target`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    /// Makes an object; one that is there is taken.
    Make(String),
    /// Makes the first of these that the kernel takes.
    MakeOne(Vec<String>),
    /// Sets it.
    Set(String, String),
    /// Sets it where the kernel or the device can.
    Try(String, &'static str),
    /// Puts the device (second) behind the LUN (first).
    Link(String, String),
}

fn root(options: &Options) -> PathBuf {
    options.sys.join("kernel/config/target")
}

fn core() -> String {
    format!("core/iblock_0/{NAME}")
}

fn group(iqn: &str) -> String {
    format!("iscsi/{iqn}/tpgt_1")
}

/// Loads the modules and mounts configfs, on a machine. Errors: why there is no LIO.
pub(super) fn prepare(options: &Options) -> Result<(), String> {
    let root = root(options);
    if options.machine {
        for module in MODULES {
            // built in, or missing: the folders tell
            if let Some(modprobe) = tool::find_applet("modprobe") {
                let mut modprobe = Command::from(modprobe);
                modprobe.args(["-q", module]);
                if let Err(failure) = tool::run(modprobe, "modprobe", LOADING) {
                    tracing::info!(module, %failure, "not loaded");
                }
            }
        }
        let configfs = options.sys.join("kernel/config");
        if configfs.is_dir() && !root.exists() {
            let flags = nix::mount::MsFlags::empty();
            let mounted =
                nix::mount::mount(Some("configfs"), &configfs, Some("configfs"), flags, None::<&str>);
            mounted.map_err(|error| format!("configfs cannot be mounted: {error}"))?;
        }
    }
    let there = root.join("core").is_dir();
    there.then_some(()).ok_or_else(|| format!("the kernel has no target: {} is missing", root.display()))
}

/// What makes the target, in order. The disk's blocks go straight to the device; UNMAP is offered where it can.
fn plan(export: &Export, serial: &str) -> Vec<Op> {
    let (core, group) = (core(), group(&export.iqn));
    let set = |file: &str, value: &str| Op::Set(format!("{group}/{file}"), value.to_owned());
    let lun = format!("{group}/lun/lun_{ISCSI_LUN}");
    let portal = |ip: IpAddr| format!("{group}/np/{}", SocketAddr::new(ip, export.port));
    let portals = if export.ip.is_unspecified() {
        // the first serves both families
        vec![portal(Ipv6Addr::UNSPECIFIED.into()), portal(Ipv4Addr::UNSPECIFIED.into())]
    } else {
        vec![portal(export.ip)]
    };
    vec![
        Op::Make("core/iblock_0".to_owned()),
        Op::Make(core.clone()),
        Op::Set(format!("{core}/control"), format!("udev_path={}", export.device.display())),
        Op::Set(format!("{core}/udev_path"), export.device.display().to_string()),
        Op::Set(format!("{core}/enable"), "1".to_owned()),
        Op::Try(format!("{core}/attrib/emulate_tpu"), "1"),
        Op::Try(format!("{core}/attrib/emulate_tpws"), "1"),
        Op::Set(format!("{core}/wwn/vpd_unit_serial"), serial.to_owned()),
        Op::Make("iscsi".to_owned()),
        Op::Make(format!("iscsi/{}", export.iqn)),
        Op::Make(group.clone()),
        // whoever comes may write: the network is the provisioning network, and the name is known to the conductor
        set("attrib/authentication", "0"),
        set("attrib/generate_node_acls", "1"),
        set("attrib/demo_mode_write_protect", "0"),
        Op::Make(lun.clone()),
        Op::Link(format!("{lun}/{NAME}"), core),
        Op::MakeOne(portals),
        set("enable", "1"),
    ]
}

/// Makes the target; what could be made of it is taken away again when the rest cannot. Errors: `Iscsi`.
pub(super) fn start(export: &Export, options: &Options) -> Result<(), Failure> {
    let root = root(options);
    let serial = uuid::Uuid::new_v4().simple().to_string();
    for op in plan(export, &serial) {
        if let Err(error) = carry_out(&root, &op) {
            if let Err(failure) = stop(options) {
                tracing::warn!(%failure, "what was made of the target stays");
            }
            let hint = if error.kind() == io::ErrorKind::AddrInUse {
                format!(": TCP port {} is taken", export.port)
            } else if error.kind() == io::ErrorKind::ResourceBusy {
                format!(": {} is in use", export.device.display())
            } else {
                String::new()
            };
            return Err(Failure::Iscsi(format!("LIO: {}: {error}{hint}", op.place())));
        }
    }
    Ok(())
}

impl Op {
    fn place(&self) -> &str {
        match self {
            Self::Make(place) | Self::Set(place, _) | Self::Try(place, _) | Self::Link(place, _) => place,
            Self::MakeOne(places) => places.last().map_or("", String::as_str),
        }
    }
}

fn carry_out(root: &Path, op: &Op) -> io::Result<()> {
    match op {
        Op::Make(place) => make(&root.join(place)),
        Op::MakeOne(places) => {
            let mut last = Ok(());
            for place in places {
                last = make(&root.join(place));
                if last.is_ok() {
                    break;
                }
            }
            last
        }
        Op::Set(place, value) => set(&root.join(place), value),
        Op::Try(place, value) => {
            if let Err(error) = set(&root.join(place), value) {
                tracing::info!(place, %error, "not offered");
            }
            Ok(())
        }
        Op::Link(place, target) => std::os::unix::fs::symlink(root.join(target), root.join(place)),
    }
}

fn make(place: &Path) -> io::Result<()> {
    match fs::create_dir(place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// One write: the kernel takes each as a whole value.
fn set(place: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(place)?.write_all(value.as_bytes())
}

/// Whether exactly this target is up.
pub(super) fn serves(export: &Export, options: &Options) -> bool {
    let root = root(options);
    let group = root.join(group(&export.iqn));
    let linked = group.join(format!("lun/lun_{ISCSI_LUN}/{NAME}")).symlink_metadata().is_ok();
    let text = |place: PathBuf| fs::read_to_string(place).unwrap_or_default().trim().to_owned();
    let portal = names(&group.join("np")).iter().any(|np| {
        np.parse::<SocketAddr>().is_ok_and(|at| {
            at.port() == export.port
                && (at.ip() == export.ip || export.ip.is_unspecified() && at.ip().is_unspecified())
        })
    });
    linked && portal && text(group.join("enable")) == "1" && device(options).as_ref() == Some(&export.device)
}

/// The device that is exported under our name.
pub(super) fn device(options: &Options) -> Option<PathBuf> {
    let text = fs::read_to_string(root(options).join(core()).join("udev_path")).ok()?;
    Some(text.trim()).filter(|text| !text.is_empty()).map(PathBuf::from)
}

/// Ends sessions and takes the target away, in the opposite order. True if there was one. Errors: `Iscsi`.
pub(super) fn stop(options: &Options) -> Result<bool, Failure> {
    let root = root(options);
    let failed = |place: &Path, error: io::Error| {
        Failure::Iscsi(format!("LIO: {} cannot be taken away: {error}", place.display()))
    };
    for iqn in names(&root.join("iscsi")) {
        let target = root.join("iscsi").join(&iqn);
        // files, and what the kernel has put there itself
        if iqn == "discovery_auth" || !target.is_dir() {
            continue;
        }
        let group = root.join(group(&iqn));
        let lun = group.join(format!("lun/lun_{ISCSI_LUN}"));
        // an interrupted start may have come to the folder only; a device of another name is somebody else's
        if names(&lun).iter().any(|name| name != NAME && lun.join(name).is_symlink()) {
            continue;
        }
        if fs::read_to_string(group.join("enable")).is_ok_and(|text| text.trim() == "1") {
            set(&group.join("enable"), "0").map_err(|error| failed(&group, error))?;
        }
        let link = lun.join(NAME);
        if link.is_symlink() {
            fs::remove_file(&link).map_err(|error| failed(&link, error))?;
        }
        let portals = group.join("np");
        let portals: Vec<PathBuf> = names(&portals).into_iter().map(|np| portals.join(np)).collect();
        for folder in std::iter::once(lun).chain(portals).chain([group, target]) {
            if folder.is_dir() {
                fs::remove_dir(&folder).map_err(|error| failed(&folder, error))?;
            }
        }
    }
    let core = root.join(core());
    if !core.is_dir() {
        return Ok(false);
    }
    fs::remove_dir(&core).map_err(|error| failed(&core, error))?;
    Ok(true)
}

/// The names in a folder; none when it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export(ip: &str) -> Export {
        Export {
            iqn: "iqn.x:y".to_owned(),
            ip: ip.parse().expect("address"),
            port: 3260,
            device: "/dev/vda".into(),
        }
    }

    #[test]
    fn the_whole_disk_is_lun_1_writable_for_whoever_knows_the_name() {
        let ops = plan(&export("0.0.0.0"), "s");
        let lun = "iscsi/iqn.x:y/tpgt_1/lun/lun_1/ferric".to_owned();
        assert!(ops.contains(&Op::Link(lun, "core/iblock_0/ferric".to_owned())));
        for (file, value) in
            [("generate_node_acls", "1"), ("demo_mode_write_protect", "0"), ("authentication", "0")]
        {
            let place = format!("iscsi/iqn.x:y/tpgt_1/attrib/{file}");
            assert!(ops.contains(&Op::Set(place, value.to_owned())), "{file}");
        }
        let np = |at: &str| format!("iscsi/iqn.x:y/tpgt_1/np/{at}");
        assert!(ops.contains(&Op::MakeOne(vec![np("[::]:3260"), np("0.0.0.0:3260")])));
        assert!(plan(&export("fd00::1"), "s").contains(&Op::MakeOne(vec![np("[fd00::1]:3260")])));
        let last = Op::Set("iscsi/iqn.x:y/tpgt_1/enable".to_owned(), "1".to_owned());
        assert_eq!(ops.last(), Some(&last), "nobody comes in before all is set");
    }

    #[test]
    fn without_configfs_there_is_nothing_to_serve_and_nothing_to_stop() {
        let folder = tempfile::tempdir().expect("temp dir");
        let mut options = Options::new("http://127.0.0.1");
        options.sys = folder.path().to_owned();
        assert!(prepare(&options).expect_err("none").contains("kernel/config/target"));
        assert!(!serves(&export("0.0.0.0"), &options));
        assert!(!stop(&options).expect("nothing"));
    }
}
