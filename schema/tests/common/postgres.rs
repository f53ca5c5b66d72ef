//! A real PostgreSQL of its own for one test: from Debian's package, in a temporary folder, on a Unix socket only, as
//! an unprivileged user. Needs nothing but `tempfile`, so that other crates' tests can include the file by path.

use std::{
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; stopped, by its pid, when dropped.
pub struct Postgres {
    dir: tempfile::TempDir,
    bin: PathBuf,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a cluster and starts its server.
    pub fn start() -> Postgres {
        let bin = installed().expect("PostgreSQL is not installed. Remedy: apt-get install postgresql");
        let dir = tempfile::Builder::new().prefix("ferric-pg").tempdir().unwrap();
        if is_root() {
            chown(dir.path(), Some(id("-u")), Some(id("-g"))).unwrap();
        }
        let mut pg = Postgres { dir, bin, server: None };
        let made = pg
            .command("initdb")
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=postgres",
                "--locale=C.UTF-8",
                "--encoding=UTF8",
                "-D",
            ])
            .arg(pg.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        pg.up();
        pg
    }

    /// Starts the server again after [`Postgres::down`].
    pub fn up(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = self
            .command("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50", "-k"])
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(child);
        let end = Instant::now() + PATIENCE;
        while !self.psql("postgres", "SELECT 1") {
            let dead = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(
                dead.is_none() && Instant::now() < end,
                "PostgreSQL did not start: {}",
                std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the server, as an operator does in a hurry; connections are cut.
    pub fn down(&mut self) {
        let Some(mut child) = self.server.take() else { return };
        let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        let end = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes an empty database; returns its URL.
    pub fn database(&self, name: &str) -> String {
        assert!(self.psql("postgres", &format!("CREATE DATABASE \"{name}\"")), "CREATE DATABASE {name}");
        format!("postgres://postgres@/{name}?host={}", self.dir.path().display())
    }

    /// Runs one statement; tells whether it succeeded.
    pub fn psql(&self, database: &str, sql: &str) -> bool {
        self.command("psql")
            .args(["-q", "-U", "postgres", "-d", database, "-c", sql, "-h"])
            .arg(self.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A program of the package, as the `postgres` user when we are root: PostgreSQL refuses to run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = if is_root() {
            let mut c = Command::new("setpriv");
            c.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            c
        } else {
            Command::new(program)
        };
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.down();
    }
}

/// The newest version's programs.
fn installed() -> Option<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(Path::new("/usr/lib/postgresql"))
        .ok()?
        .filter_map(|e| Some(e.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    all.sort();
    all.pop()
}

fn is_root() -> bool {
    number(&["-u"]) == 0
}

fn id(which: &str) -> u32 {
    number(&[which, "postgres"])
}

fn number(args: &[&str]) -> u32 {
    let out = Command::new("id").args(args).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().parse().expect("`id` prints a number for the user postgres")
}
