//! `inject_files`: puts files into the file systems of the disk just written, as ironic-python-agent does.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::console::say;
use crate::disk::Disk;
use crate::error::Failure;
use crate::partition::label::{self, Entry};
use crate::partition::mounts::{Host, Mounts, What};
use crate::partition::probe::{self, Found, Kind};
use crate::partition::{device, kernel_name};
use crate::table;

/// The longest file that is fetched from a URL, bytes.
pub const FILE_BYTES: u64 = 64 << 20;

/// One file, as it is asked for.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Where, from the root of its file system.
    pub path: String,
    /// Number, `/dev/…` or label of the partition; absent: the one that has the path's first folder.
    #[serde(default)]
    partition: Option<Value>,
    /// base64, or an http(s) URL. It may hold passwords: it does not print.
    #[serde(default)]
    pub content: Option<String>,
    /// Whether the file is deleted instead.
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    mode: Option<Value>,
    #[serde(default)]
    dirmode: Option<Value>,
    #[serde(default)]
    owner: Option<u32>,
    #[serde(default)]
    group: Option<u32>,
}

/// What is to be done with a file, checked.
pub struct Task {
    path: PathBuf,
    partition: Option<Value>,
    /// None: deleted.
    content: Option<Vec<u8>>,
    mode: Option<u32>,
    dirmode: u32,
    owner: Option<u32>,
    group: Option<u32>,
}

/// The files of `properties.inject_files`, then those of the step's argument. Errors: `Parameters`.
pub fn gather(properties: Option<&Value>, argument: Option<&Value>) -> Result<Vec<Wanted>, Failure> {
    let mut all = Vec::new();
    let lists = [properties.and_then(|properties| properties.get("inject_files")), argument];
    for list in lists.into_iter().flatten().filter(|list| !list.is_null()) {
        let Value::Array(files) = list else {
            return Err(Failure::Parameters("files to inject must be a list".to_owned()));
        };
        for (n, file) in files.iter().enumerate() {
            // the text of the error could quote a content
            let wanted = Wanted::deserialize(file).map_err(|_| {
                Failure::Parameters(format!(
                    "file {n} to inject: needs path, and knows partition, content, deleted, mode, dirmode, owner \
                     (number), group (number)"
                ))
            })?;
            all.push(wanted);
        }
    }
    Ok(all)
}

impl Wanted {
    /// The URL to fetch the content from, if it is one.
    pub fn url(&self) -> Option<&str> {
        let content = self.content.as_deref()?;
        (content.starts_with("http://") || content.starts_with("https://")).then_some(content)
    }

    /// Checks all that can be checked before anything is mounted. `fetched` is what was behind the URL.
    /// Errors: `Parameters`.
    pub fn check(self, fetched: Option<Vec<u8>>) -> Result<Task, Failure> {
        let wrong = |why: &str| Failure::Parameters(format!("file {:?} to inject: {why}", self.path));
        let path: PathBuf = Path::new(&self.path)
            .components()
            .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
            .collect();
        if path.file_name().is_none() || path.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(wrong("the path must name a file, without .."));
        }
        let content = match (fetched, &self.content, self.deleted) {
            (_, None, true) => None,
            (_, Some(_), true) => return Err(wrong("it is to be deleted and has a content")),
            (Some(bytes), ..) => Some(bytes),
            (None, Some(text), false) => {
                let text: String = text.split_whitespace().collect();
                Some(STANDARD.decode(text).map_err(|_| wrong("the content is no base64"))?)
            }
            (None, None, false) => return Err(wrong("it has no content")),
        };
        let mode = |value: &Option<Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(value) => octal(value).map(Some).ok_or_else(|| wrong("a mode is an octal number")),
        };
        Ok(Task {
            content,
            mode: mode(&self.mode)?,
            dirmode: mode(&self.dirmode)?.unwrap_or(0o755),
            path,
            partition: self.partition.filter(|partition| !partition.is_null()),
            owner: self.owner,
            group: self.group,
        })
    }
}

/// `"0644"`, or the number itself.
fn octal(value: &Value) -> Option<u32> {
    let number = match value {
        Value::String(text) => u32::from_str_radix(text.trim_start_matches("0o"), 8).ok()?,
        Value::Number(number) => u32::try_from(number.as_u64()?).ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (number <= 0o7777).then_some(number)
}

/// Where the work is done.
pub struct Place<'a> {
    /// The disk just written.
    pub disk: &'a Disk,
    /// As in [`crate::options::Options`].
    pub sys: &'a Path,
    /// As in [`crate::options::Options`].
    pub dev: &'a Path,
    /// An empty folder may be made here.
    pub scratch: &'a Path,
}

/// Puts every file where it belongs. Whatever the outcome, nothing stays mounted. Blocks.
/// Errors: `Step` naming the file, I/O.
pub(crate) fn inject(place: &Place<'_>, tasks: &[Task], host: &mut dyn Host) -> Result<Value, Failure> {
    let parts = partitions(place.disk)?;
    for task in tasks {
        let shown = task.path.display();
        let at = one(place, &parts, task, host)?;
        say(format!(
            "inject /{shown} {} on {at}",
            if task.content.is_some() { "written" } else { "deleted" }
        ));
    }
    Ok(json!(format!("{} files injected", tasks.len())))
}

struct Part {
    entry: Entry,
    found: Found,
    name: String,
}

/// The partitions with a file system.
fn partitions(disk: &Disk) -> Result<Vec<Part>, Failure> {
    let file = table::open(disk)?;
    let mut parts = Vec::new();
    for entry in label::read(disk)? {
        let Some(found) = probe::probe(&file, entry.span)? else { continue };
        if found.kind != Kind::Swap {
            parts.push(Part { entry, found, name: kernel_name(disk, entry.number) });
        }
    }
    Ok(parts)
}

/// Does one task. The partition's name.
fn one(place: &Place<'_>, parts: &[Part], task: &Task, host: &mut dyn Host) -> Result<String, Failure> {
    let failed =
        |why: String| Failure::Step(format!("file /{} could not be injected: {why}", task.path.display()));
    let named = task.partition.is_some();
    let first = task.path.components().next().map(|part| PathBuf::from(part.as_os_str())).unwrap_or_default();
    let tree = place.scratch.join("ferric-inject");
    for part in
        parts.iter().filter(|part| task.partition.as_ref().is_none_or(|wanted| is_named(part, wanted)))
    {
        let device = device(place.disk, part.entry.number, part.entry.span, place.sys, place.dev)?;
        let mut mounts = Mounts::new(host);
        mounts.add(What::Data(device, part.found.kind.name()), &tree)?;
        let done = if named || tree.join(&first).symlink_metadata().is_ok() {
            Some(apply(&tree, task))
        } else {
            None
        };
        mounts.close()?;
        if let Some(done) = done {
            return done.map(|()| part.name.clone()).map_err(|error| failed(error.to_string()));
        }
    }
    let seen: Vec<String> =
        parts.iter().map(|part| format!("{} {:?}", part.name, part.found.label)).collect();
    let asked = match &task.partition {
        Some(partition) => format!("there is no partition {partition} with a file system"),
        None => format!("no partition has {}: name the partition", first.display()),
    };
    Err(failed(format!("{asked}; seen: {}", seen.join(", "))))
}

fn is_named(part: &Part, wanted: &Value) -> bool {
    match wanted {
        Value::Number(number) => number.as_u64() == Some(part.entry.number.into()),
        Value::String(text) => {
            text.parse() == Ok(part.entry.number)
                || text.strip_prefix("/dev/") == Some(part.name.as_str())
                || *text == part.found.label
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Writes or deletes below the tree, and nowhere else: an image may hold links that lead out of it.
fn apply(tree: &Path, task: &Task) -> io::Result<()> {
    let folder =
        folder(tree, task.path.parent().unwrap_or(Path::new("")), task.content.is_some(), task.dirmode)?;
    let name = task.path.file_name().ok_or_else(|| io::Error::other("no name"))?;
    let Some(folder) = folder else { return Ok(()) };
    let target = folder.join(name);
    let before = target.symlink_metadata().ok();
    let Some(content) = &task.content else {
        return match before {
            Some(meta) if meta.is_dir() => fs::remove_dir_all(target),
            Some(_) => fs::remove_file(target),
            None => Ok(()),
        };
    };
    if before.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(io::Error::other("it is a folder"));
    }
    let kept = before.as_ref().filter(|meta| meta.is_file());
    let mode = task.mode.or(kept.map(|meta| meta.permissions().mode() & 0o7777)).unwrap_or(0o644);
    let owner = task.owner.or(kept.map(MetadataExt::uid)).unwrap_or(0);
    let group = task.group.or(kept.map(MetadataExt::gid)).unwrap_or(0);
    // complete or not there at all; and a link in its place is replaced, not followed
    let (part, mut file) = new_file(&folder)?;
    let written = file
        .write_all(content)
        .and_then(|()| std::os::unix::fs::fchown(&file, Some(owner), Some(group)))
        .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&part, &target));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

/// A new, empty file under a name that nobody can have put something at before, readable for nobody else.
fn new_file(folder: &Path) -> io::Result<(PathBuf, fs::File)> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let path = folder.join(format!(".{:032x}.ferric", u128::from_ne_bytes(random)));
    let file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&path)?;
    Ok((path, file))
}

/// The folder inside the tree, made as far as it is missing. None when it is missing and not to be made. Links are
/// followed as the image's own system would, with the tree as root.
pub(crate) fn folder(tree: &Path, path: &Path, make: bool, mode: u32) -> io::Result<Option<PathBuf>> {
    let mut at = tree.to_owned();
    let mut left: Vec<PathBuf> =
        path.components().rev().map(|part| PathBuf::from(part.as_os_str())).collect();
    let mut links = 0;
    while let Some(part) = left.pop() {
        match part.components().next() {
            Some(Component::ParentDir) => {
                if at != *tree {
                    at.pop();
                }
                continue;
            }
            Some(Component::RootDir) => {
                at = tree.to_owned();
                continue;
            }
            Some(Component::CurDir | Component::Prefix(_)) | None => continue,
            Some(Component::Normal(_)) => {}
        }
        let next = at.join(&part);
        match next.symlink_metadata() {
            Ok(meta) if meta.is_symlink() => {
                links += 1;
                if links > 40 {
                    return Err(io::Error::other("too many links"));
                }
                let target = fs::read_link(&next)?;
                left.extend(target.components().rev().map(|part| PathBuf::from(part.as_os_str())));
            }
            Ok(meta) if meta.is_dir() => at = next,
            Ok(_) => return Err(io::Error::other(format!("{} is no folder", part.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && make => {
                fs::create_dir(&next)?;
                fs::set_permissions(&next, Permissions::from_mode(mode))?;
                at = next;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(at))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, symlink};

    use super::*;

    fn task(file: Value) -> Result<Task, Failure> {
        let wanted = gather(None, Some(&json!([file])))?.remove(0);
        wanted.check(None)
    }

    fn own(mut file: Value) -> Task {
        let mine = tempfile::tempfile().and_then(|file| file.metadata()).expect("temp file");
        file["owner"] = json!(mine.uid());
        file["group"] = json!(mine.gid());
        task(file).expect("a good task")
    }

    #[test]
    fn files_arrive_with_content_and_mode_and_links_never_lead_out_of_the_image() {
        let base = tempfile::tempdir().expect("temp dir");
        let tree = base.path().join("tree");
        fs::create_dir_all(tree.join("usr/lib/x")).expect("dirs");
        fs::write(base.path().join("outside"), "mine").expect("file");
        // as images have them: absolute, relative, and hostile
        symlink("/usr/lib", tree.join("lib")).expect("link");
        symlink("../../../..", tree.join("up")).expect("link");
        symlink(base.path().join("outside"), tree.join("usr/leak")).expect("link");
        symlink(base.path().join("outside"), tree.join("usr/.old.ferric")).expect("link");
        fs::write(tree.join("usr/old"), "old").expect("file");
        fs::set_permissions(tree.join("usr/old"), Permissions::from_mode(0o600)).expect("mode");
        for file in [
            json!({"path": "/etc/new/motd", "content": "aGVsbG8=", "mode": "0640", "dirmode": "0700"}),
            json!({"path": "lib/x/a", "content": "aGVs\nbG8="}),
            json!({"path": "up/b", "content": "aGVsbG8="}),
            json!({"path": "usr/leak", "content": "aGVsbG8="}),
            json!({"path": "usr/old", "content": "aGVsbG8="}),
        ] {
            apply(&tree, &own(file)).expect("written");
        }
        for (path, mode) in [
            ("etc/new/motd", 0o640),
            ("usr/lib/x/a", 0o644),
            ("b", 0o644),
            ("usr/leak", 0o644),
            ("usr/old", 0o600),
        ] {
            assert_eq!(fs::read(tree.join(path)).expect("there"), b"hello", "{path}");
            assert_eq!(fs::symlink_metadata(tree.join(path)).expect("meta").mode() & 0o7777, mode, "{path}");
        }
        assert_eq!(fs::metadata(tree.join("etc/new")).expect("meta").mode() & 0o7777, 0o700);
        assert_eq!(fs::read(base.path().join("outside")).expect("there"), b"mine");
        for file in ["/etc/new", "usr/old", "not/there"] {
            apply(&tree, &own(json!({"path": file, "deleted": true}))).expect("deleted");
            assert!(!tree.join(file).exists());
        }
        assert!(
            apply(&tree, &own(json!({"path": "usr", "content": ""}))).is_err(),
            "a folder stays a folder"
        );
        symlink("loop", tree.join("loop")).expect("link");
        assert!(apply(&tree, &own(json!({"path": "loop/a", "content": ""}))).is_err());
        assert_eq!(
            fs::read_dir(tree.join("usr")).expect("folder").count(),
            3,
            "nothing half-written is left"
        );
    }

    #[test]
    fn nonsense_is_refused_without_quoting_a_content() {
        for bad in [
            json!({"content": "aGVsbG8="}),
            json!({"path": "/etc/../../x", "content": "aGVsbG8="}),
            json!({"path": "/", "content": "aGVsbG8="}),
            json!({"path": "/x"}),
            json!({"path": "/x", "content": "s3cret!"}),
            json!({"path": "/x", "content": "aGVsbG8=", "deleted": true}),
            json!({"path": "/x", "content": "aGVsbG8=", "mode": "rw"}),
            json!({"path": "/x", "content": 5}),
            json!({"path": "/x", "content": "aGVsbG8=", "colour": "red"}),
        ] {
            let refused = task(bad.clone()).err().expect("refused");
            assert!(matches!(refused, Failure::Parameters(_)), "{bad}");
            assert!(!refused.to_string().contains("s3cret"), "{refused}");
        }
        assert!(gather(Some(&json!({"inject_files": "x"})), None).is_err());
        let both = gather(
            Some(&json!({"inject_files": [{"path": "/a", "deleted": true}]})),
            Some(&json!([{"path": "/b", "content": "http://x/y"}])),
        );
        let both = both.expect("two");
        assert_eq!((both.len(), both[0].url(), both[1].url()), (2, None, Some("http://x/y")));
    }

    /// Each device's tree is a folder; mounting is a link to it.
    struct Fake {
        base: PathBuf,
        mounted: usize,
    }

    impl Host for Fake {
        fn mount(&mut self, what: &What, at: &Path) -> io::Result<()> {
            let What::Data(device, _) = what else { return Err(io::Error::other("no device")) };
            fs::remove_dir(at)?;
            symlink(self.base.join(device.file_name().expect("name")), at)?;
            self.mounted += 1;
            Ok(())
        }

        fn unmount(&mut self, at: &Path) -> io::Result<()> {
            self.mounted -= 1;
            fs::remove_file(at)
        }

        fn run(&mut self, _: &Path, _: &[&str]) -> Result<String, Failure> {
            Err(Failure::Step("nothing is run".to_owned()))
        }
    }

    #[test]
    fn the_partition_is_found_by_its_folders_number_name_or_label_and_is_unmounted_again() {
        let base = tempfile::tempdir().expect("temp dir");
        let path = base.path().join("vda");
        let file = fs::File::create(&path).expect("disk");
        file.set_len(64 << 20).expect("sparse");
        let done = std::process::Command::new("sgdisk")
            .args(["-o", "-n", "1:2048:+8M", "-n", "2:0:+8M", "-n", "3:0:+8M"])
            .arg(&path)
            .output();
        assert!(done.expect("sgdisk").status.success());
        // ext superblocks on 1 and 2 (labels boot, root), nothing on 3
        for (at, label) in [(1_u64 << 20, &b"boot"[..]), (9 << 20, b"root")] {
            file.write_all_at(&[0x53, 0xef], at + 1024 + 56).expect("magic");
            file.write_all_at(label, at + 1024 + 120).expect("label");
        }
        fs::create_dir_all(base.path().join("vda1/grub")).expect("tree");
        fs::create_dir_all(base.path().join("vda2/etc")).expect("tree");
        let disk = Disk { kernel_name: "vda".into(), path, size: 64 << 20, block: 512, ..Disk::default() };
        let scratch = base.path();
        let place = Place { disk: &disk, sys: scratch, dev: scratch, scratch };
        let mut host = Fake { base: base.path().to_owned(), mounted: 0 };
        let file = |path: &str, partition: Value| {
            own(json!({"path": path, "partition": partition, "content": "aGVsbG8="}))
        };
        let tasks = [
            file("/etc/a", Value::Null),
            file("/grub/a", Value::Null),
            file("/new/b", json!(2)),
            file("/new/c", json!("/dev/vda1")),
            file("/new/d", json!("root")),
        ];
        let told = inject(&place, &tasks, &mut host).expect("injected");
        assert_eq!(told, json!("5 files injected"));
        for path in ["vda2/etc/a", "vda1/grub/a", "vda2/new/b", "vda1/new/c", "vda2/new/d"] {
            assert!(base.path().join(path).is_file(), "{path}");
        }
        for (bad, word) in [
            (file("/var/x", Value::Null), "name the partition"),
            (file("/var/x", json!(3)), "no partition 3"),
            (file("/etc", json!("root")), "it is a folder"),
        ] {
            let text = inject(&place, &[bad], &mut host).expect_err("fails").to_string();
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(host.mounted, 0, "nothing stays mounted");
    }
}
