//! `ferric ramdisk build`: a kernel and an initramfs with `ferric-agent`, from Debian's packages.
//!
//! Nothing here needs root: packages are downloaded into a cache folder and unpacked there, the archive is written by
//! [`cpio`] with every file owned by root. The same inputs give the same bytes.

mod cpio;
mod modules;
mod tools;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use thiserror::Error;

/// Kernel and initramfs together may not be larger, bytes.
pub const LIMIT_BYTES: u64 = 64 << 20;

/// The scripts of the ramdisk.
const INIT: &str = include_str!("../agent/ramdisk/init");
const UDHCPC: &str = include_str!("../agent/ramdisk/udhcpc.sh");
const RESCUE: &str = include_str!("../agent/ramdisk/rescue.sh");
const PROFILE: &str = include_str!("../agent/ramdisk/profile.sh");

/// Nobody can log in: `rescue.finalize_rescue` gives the second one a password. It is root under another name, as the
/// rescue users of other ramdisks are by sudo.
const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nrescue:x:0:0:rescue:/root:/bin/sh\nsshd:x:74:74::/run:/bin/false\n";
const SHADOW: &str = "root:!:1::::::\nrescue:!:1::::::\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\n";

/// Where Debian keeps the certificate authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What `cargo` calls the target of the static agent.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Which of Debian's kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelFlavour {
    /// `linux-image-cloud-amd64`: small; virtual machines with virtio or the clouds' own cards. No e1000.
    Cloud,
    /// `linux-image-amd64`: real hardware's network and storage cards.
    #[default]
    Generic,
}

impl KernelFlavour {
    /// The package that depends on the current kernel.
    fn package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Generic => "linux-image-amd64",
        }
    }

    /// Its name as the command line knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
        }
    }
}

/// What to build.
#[derive(Clone, Debug)]
pub struct RamdiskOptions {
    /// Folder for `kernel` and `initramfs`; made if missing.
    pub out: PathBuf,
    /// The static agent; None: beside this program, else built from the checkout.
    pub agent: Option<PathBuf>,
    /// Which kernel.
    pub kernel_flavour: KernelFlavour,
    /// Folder for downloaded packages; made if missing.
    pub cache: PathBuf,
}

/// What was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// Both together.
    pub bytes: u64,
    /// The kernel's release, `6.1.0-56-cloud-amd64`.
    pub release: String,
    /// How many kernel modules are in it.
    pub modules: usize,
    /// Programs that are not in it because they are not installed here: `name (package)`.
    pub tools_left_out: Vec<String>,
    /// Modules that this kernel neither has nor holds built in.
    pub modules_left_out: Vec<&'static str>,
}

/// Why there is no ramdisk; each says what to do.
#[derive(Debug, Error)]
pub enum RamdiskError {
    /// A tool is not installed.
    #[error("{tool} is missing: apt-get install {package}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// Debian's package.
        package: &'static str,
    },
    /// A tool failed.
    #[error("{command} failed: {output}")]
    Failed {
        /// What was run.
        command: String,
        /// What it said.
        output: String,
    },
    /// No agent anywhere.
    #[error(
        "no static ferric-agent: give --agent PATH, put one beside {beside}, or run in a checkout with cargo installed"
    )]
    NoAgent {
        /// Where one was looked for.
        beside: PathBuf,
    },
    /// The agent would not start in a ramdisk.
    #[error(
        "{path} is not a static executable: build it with RUSTFLAGS=\"-C target-feature=+crt-static\" --target {TARGET}"
    )]
    NotStatic {
        /// Which file.
        path: PathBuf,
    },
    /// The package does not look like Debian's kernel packages.
    #[error("{what} not found in {package}; try another --kernel, or empty the cache folder")]
    Package {
        /// What was looked for.
        what: String,
        /// In which package.
        package: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why; part of the text because this error is shown as it is.
        source: io::Error,
    },
    /// More than firmware and memory should be asked to load.
    #[error("kernel and initramfs take {bytes} bytes together, more than {LIMIT_BYTES}; use --kernel cloud")]
    TooLarge {
        /// Both together.
        bytes: u64,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RamdiskError {
    let path = path.to_owned();
    move |source| RamdiskError::File { path, source }
}

/// Builds it. Downloads Debian's kernel and busybox packages unless they are in the cache. Blocks, for seconds to
/// minutes. Errors: [`RamdiskError`].
pub fn build(options: &RamdiskOptions) -> Result<Built, RamdiskError> {
    fs::create_dir_all(&options.out).map_err(at(&options.out))?;
    fs::create_dir_all(&options.cache).map_err(at(&options.cache))?;
    let agent = find_agent(options.agent.as_deref())?;
    let package = kernel_package(options.kernel_flavour)?;
    let tree = unpacked(&options.cache, &package)?;
    let busybox_tree = unpacked(&options.cache, "busybox-static")?;
    let missing = |what: &str| RamdiskError::Package { what: what.to_owned(), package: package.clone() };
    let release =
        package.strip_prefix("linux-image-").unwrap_or(&package).trim_end_matches("-unsigned").to_owned();
    let kernel = tree.join("boot").join(format!("vmlinuz-{release}"));
    let folder = tree.join("lib/modules").join(&release);
    if !kernel.exists() || !folder.exists() {
        return Err(missing("its kernel or modules"));
    }
    let modules = modules::select(&folder, options.kernel_flavour)?;
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|path| busybox_tree.join(path));
    let busybox = busybox.iter().find(|path| path.exists()).ok_or_else(|| RamdiskError::Package {
        what: "bin/busybox".to_owned(),
        package: "busybox-static".to_owned(),
    })?;
    let tools = tools::find()?;
    let modules_left_out = modules::left_out(&folder, options.kernel_flavour, &modules);
    let archive = archive(&agent, busybox, &modules, &tools, &release)?;
    let out_kernel = options.out.join("kernel");
    let out_initramfs = options.out.join("initramfs");
    let kernel = fs::read(&kernel).map_err(at(&kernel))?;
    let packed = compress(&archive).map_err(at(&out_initramfs))?;
    let bytes = (packed.len() + kernel.len()) as u64;
    if bytes > LIMIT_BYTES {
        return Err(RamdiskError::TooLarge { bytes });
    }
    replace(&[(&out_kernel, &kernel), (&out_initramfs, &packed)])?;
    Ok(Built {
        kernel: out_kernel,
        initramfs: out_initramfs,
        bytes,
        release,
        modules: modules.len(),
        tools_left_out: tools.left_out,
        modules_left_out,
    })
}

/// Puts new files in the place of the old ones. Those keep their bytes: nodes that boot at this moment have them as
/// hard links. None is replaced before all are written.
fn replace(files: &[(&Path, &[u8])]) -> Result<(), RamdiskError> {
    let temporary = |path: &Path| path.with_extension(format!("{}.tmp", std::process::id()));
    let write = |path: &Path, bytes: &[u8]| {
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    let done =
        files.iter().try_for_each(|(path, bytes)| write(&temporary(path), bytes).map_err(at(path))).and_then(
            |()| files.iter().try_for_each(|(path, _)| fs::rename(temporary(path), path).map_err(at(path))),
        );
    if done.is_err() {
        for (path, _) in files {
            // the error is what counts; a leftover is in nobody's way
            let _ = fs::remove_file(temporary(path));
        }
    }
    done
}

/// gzip: every kernel and every boot loader can read it. No name and no time inside.
fn compress(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    gzip.write_all(archive)?;
    gzip.finish()
}

/// The whole file system of the ramdisk as a cpio archive.
fn archive(
    agent: &Path,
    busybox: &Path,
    modules: &[modules::Module],
    tools: &tools::Tools,
    release: &str,
) -> Result<Vec<u8>, RamdiskError> {
    let mut archive = cpio::Archive::default();
    for folder in ["bin", "dev", "etc/ssl/certs", "mnt", "proc", "root", "run", "sbin", "sys", "tmp"]
        .into_iter()
        .chain(["usr/bin", "usr/sbin", "var/log", "var/run"])
    {
        archive.folders_above(folder);
        archive.folder(folder);
    }
    let read = |path: &Path| fs::read(path).map_err(at(path));
    archive.file("init", 0o755, INIT.into());
    archive.file("bin/busybox", 0o755, read(busybox)?);
    archive.file("bin/ferric-agent", 0o755, read(agent)?);
    archive.file("etc/udhcpc.sh", 0o755, UDHCPC.into());
    archive.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n".to_vec());
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n".to_vec());
    archive.file("etc/passwd", 0o644, PASSWD.into());
    archive.file("etc/group", 0o644, GROUP.into());
    archive.file("etc/shadow", 0o600, SHADOW.into());
    archive.file("etc/rescue.sh", 0o755, RESCUE.into());
    archive.file("etc/profile", 0o644, PROFILE.into());
    // what the kernel, getty and scripts call by these names
    for applet in ["bin/sh", "bin/login", "sbin/modprobe"] {
        archive.link(applet, "/bin/busybox");
    }
    for (name, path) in &tools.programs {
        archive.file(&format!("usr/sbin/{name}"), 0o755, read(path)?);
    }
    for path in &tools.files {
        let place = path.to_string_lossy();
        let place = place.trim_start_matches('/');
        archive.folders_above(place);
        archive.file(place, 0o755, read(path)?);
    }
    archive.file("etc/ferric-ramdisk", 0o644, format!("{release}\n").into_bytes());
    // without it images come by http only, or by https with ipa-insecure=1
    if let Ok(authorities) = fs::read(AUTHORITIES) {
        archive.file("etc/ssl/certs/ca-certificates.crt", 0o644, authorities);
    }
    let folder = format!("lib/modules/{release}");
    archive.folders_above(&format!("{folder}/"));
    for module in modules {
        archive.file(&format!("{folder}/{}.ko", module.name), 0o644, module.read()?);
    }
    archive.file(&format!("{folder}/modules.dep"), 0o644, modules::dep_file(modules).into_bytes());
    archive.file(&format!("{folder}/modules.alias"), 0o644, modules::alias_file(modules).into_bytes());
    Ok(archive.finish())
}

/// The package that a flavour's meta package depends on.
fn kernel_package(flavour: KernelFlavour) -> Result<String, RamdiskError> {
    let text = run(Command::new("apt-cache").args(["depends", flavour.package()]), "apt-cache", "apt")?;
    let found = text.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    found.map(|name| name.trim().to_owned()).ok_or_else(|| RamdiskError::Package {
        what: "a kernel".to_owned(),
        package: format!("{} (apt-get update?)", flavour.package()),
    })
}

/// The package's files, downloaded and unpacked into the cache unless they are there.
fn unpacked(cache: &Path, package: &str) -> Result<PathBuf, RamdiskError> {
    let tree = cache.join(package);
    if tree.exists() {
        return Ok(tree);
    }
    // a name of our own until it is complete: two builds may share a cache, and either may be interrupted
    let work = cache.join(format!(".{package}.{}", std::process::id()));
    fs::create_dir_all(&work).map_err(at(&work))?;
    let done = download(&work, package).and_then(|()| {
        let renamed = fs::rename(work.join("tree"), &tree);
        if tree.exists() { Ok(()) } else { renamed.map_err(at(&tree)) }
    });
    fs::remove_dir_all(&work).map_err(at(&work))?;
    done.map(|()| tree)
}

fn download(work: &Path, package: &str) -> Result<(), RamdiskError> {
    run(Command::new("apt-get").args(["download", "-q", package]).current_dir(work), "apt-get", "apt")?;
    let mut files = fs::read_dir(work).map_err(at(work))?.flatten().map(|entry| entry.path());
    let deb = files
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .ok_or_else(|| RamdiskError::Package { what: "a .deb".to_owned(), package: package.to_owned() })?;
    run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(work.join("tree")), "dpkg-deb", "dpkg")?;
    Ok(())
}

/// The agent given, beside this program, or built by cargo from the checkout.
fn find_agent(given: Option<&Path>) -> Result<PathBuf, RamdiskError> {
    if let Some(path) = given {
        return checked(path.to_owned());
    }
    let program = std::env::current_exe().map_err(at(Path::new("/proc/self/exe")))?;
    let beside = program.with_file_name("ferric-agent");
    // in a checkout `target/debug` holds a dynamic one, which is not meant
    if beside.exists() && is_static(&beside) {
        return Ok(beside);
    }
    let checkout = program.ancestors().chain(Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().take(1));
    let checkout = checkout.map(Path::to_owned).find(|folder| folder.join("agent/Cargo.toml").exists());
    let Some(checkout) = checkout else { return Err(RamdiskError::NoAgent { beside }) };
    let built = Command::new("cargo")
        .args(["build", "--release", "-q", "-p", "ferric-agent", "--target", TARGET])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .current_dir(&checkout)
        .output();
    match built {
        Err(_) => Err(RamdiskError::NoAgent { beside }),
        Ok(output) => {
            text_of(&output, "cargo build -p ferric-agent")?;
            let target =
                std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout.join("target"), PathBuf::from);
            checked(target.join(TARGET).join("release/ferric-agent"))
        }
    }
}

fn checked(path: PathBuf) -> Result<PathBuf, RamdiskError> {
    fs::metadata(&path).map_err(at(&path))?;
    if is_static(&path) { Ok(path) } else { Err(RamdiskError::NotStatic { path }) }
}

/// An x86-64 ELF executable that asks for no interpreter.
fn is_static(path: &Path) -> bool {
    let Ok(bytes) = fs::read(path) else { return false };
    let number = |at: usize, len: usize| {
        let mut all = [0; 8];
        all[..len].copy_from_slice(bytes.get(at..at + len)?);
        usize::try_from(u64::from_le_bytes(all)).ok()
    };
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return false;
    };
    // PT_INTERP = 3
    (0..count).all(|n| number(table + n * size, 4).is_some_and(|kind| kind != 3))
}

fn run(command: &mut Command, tool: &'static str, package: &'static str) -> Result<String, RamdiskError> {
    let name = format!("{command:?}");
    let output = command.env("LC_ALL", "C").output().map_err(|_| RamdiskError::Tool { tool, package })?;
    text_of(&output, &name)
}

fn text_of(output: &Output, command: &str) -> Result<String, RamdiskError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(RamdiskError::Failed { command: command.to_owned(), output: text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_told_from_a_static_one() {
        assert!(is_static(Path::new("/bin/busybox")));
        assert!(!is_static(Path::new("/bin/sh")) && !is_static(Path::new("/etc/passwd")));
        let error = find_agent(Some(Path::new("/bin/sh"))).expect_err("dynamic");
        assert!(error.to_string().contains("crt-static"), "{error}");
    }

    #[test]
    fn a_new_build_leaves_the_files_alone_that_nodes_boot_from() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = |name: &str| folder.path().join(name);
        let (kernel, initramfs) = (path("kernel"), path("initramfs"));
        replace(&[(&kernel, b"old"), (&initramfs, b"old")]).expect("written");
        fs::hard_link(&kernel, path("node")).expect("linked");
        replace(&[(&kernel, b"new"), (&initramfs, b"new")]).expect("written");
        let read = |name: &str| fs::read(path(name)).expect("read");
        assert_eq!(
            (read("node"), read("kernel"), read("initramfs")),
            (b"old".into(), b"new".into(), b"new".into())
        );
        fs::create_dir(path("folder")).expect("made");
        replace(&[(&kernel, b"newer"), (&path("missing/initramfs"), b"newer")]).expect_err("no such folder");
        assert_eq!(read("kernel"), b"new", "all or none");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 4, "nothing is left behind");
    }

    #[test]
    fn nobody_can_log_in_to_a_ramdisk_as_it_is_built() {
        for line in SHADOW.lines() {
            assert_eq!(line.split(':').nth(1), Some("!"), "{line}");
        }
        let shells = PASSWD.lines().filter(|line| line.ends_with("/bin/sh"));
        for user in shells.filter_map(|line| line.split(':').next()) {
            assert!(SHADOW.lines().any(|line| line.starts_with(&format!("{user}:"))), "{user}");
        }
        for word in ["getty", "login", "dropbear", "telnetd"] {
            assert!(!INIT.contains(word), "only rescue.sh starts a login: {word}");
        }
    }

    #[test]
    fn the_same_input_gives_the_same_archive_and_cpio_reads_it() {
        let module = modules::Module {
            name: "x".into(),
            path: "/etc/hostname".into(),
            needs: Vec::new(),
            aliases: Vec::new(),
        };
        let tools = tools::find().expect("ldd is there");
        let made = || {
            let modules = std::slice::from_ref(&module);
            let (agent, busybox) = (Path::new("/bin/true"), Path::new("/bin/busybox"));
            archive(agent, busybox, modules, &tools, "r").expect("made")
        };
        let bytes = made();
        assert_eq!(bytes, made());
        assert_eq!(compress(&bytes).expect("packed"), compress(&bytes).expect("packed"));
        let folder = tempfile::tempdir().expect("temp dir");
        fs::write(folder.path().join("a"), &bytes).expect("written");
        let listed =
            Command::new("sh").args(["-c", "busybox cpio -t < a"]).current_dir(folder.path()).output();
        let text = String::from_utf8_lossy(&listed.expect("busybox runs").stdout).into_owned();
        for name in [
            "usr/sbin/blkid",
            "lib64/ld-linux-x86-64.so.2",
            "etc/shadow",
            "bin/login",
            "init",
            "bin/ferric-agent",
            "lib/modules/r/modules.dep",
            "etc/ferric-ramdisk",
        ] {
            assert!(text.lines().any(|line| line == name), "{name} in {text}");
        }
    }
}
