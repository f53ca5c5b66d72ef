//! The command line as a person or script meets it: exit codes, help, remedies.
#![allow(clippy::unwrap_used)] // tests say what broke by panicking

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn ferric(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferric"));
    command.args(arguments);
    // what the developer's shell holds must not decide
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FERRIC_") {
            command.env_remove(name);
        }
    }
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = ferric(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().expect("no signal ended it"), text(stdout), text(stderr))
}

/// A process that is stopped with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn terminate(child: &Child) {
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The status line of `GET path`, `None` when nobody answers.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.lines().next().map(str::to_owned)
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        &[][..],
        &["serve"],
        &["demo"],
        &["sim"],
        &["ramdisk", "build"],
        &["states"],
        &["db", "migrate"],
        &["db", "check"],
        &["doctor"],
        &["config", "show"],
    ] {
        let (code, out, _) = run(&[command, &["--help"]].concat());
        assert_eq!(code, 0, "{command:?}");
        assert!(out.contains("Example"), "{command:?} has no example:\n{out}");
    }
}

#[test]
fn usage_errors_exit_2_and_other_errors_1_on_stderr() {
    for usage in [
        &["sevre"][..],
        &["serve", "--prot"],
        &["demo", "--nodes", "0"],
        &["states", "--format", "xml"],
        &["states", "--log", "a=b=c"],
    ] {
        let (code, out, err) = run(usage);
        assert_eq!((code, out.as_str()), (2, ""), "{usage:?}");
        assert!(!err.is_empty());
    }
    let (code, out, err) = run(&["config", "show", "--set", "api.prot=1"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("did you mean api.port?"), "{err}");
    let (code, _, err) = run(&["serve", "--config", "/nonexistent/ferric.toml"]);
    assert_eq!(code, 1);
    assert!(err.contains("/nonexistent/ferric.toml") && err.contains("--config"), "{err}");
}

#[test]
fn config_show_names_sources_and_masks_the_password() {
    let output = ferric(&["config", "show", "--set", "database.connection=postgres://u:hunter2@h/d"])
        .env("FERRIC_API__PORT", "7000")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines().any(|line| line.starts_with("port = 7000") && line.contains("FERRIC_API__PORT")),
        "{text}"
    );
    assert!(text.contains("postgres://u:******@h/d") && !text.contains("hunter2"), "{text}");
    assert!(
        text.lines().any(|line| line.starts_with("max_limit = 1000") && line.ends_with("# default")),
        "{text}"
    );
}

#[test]
fn states_come_in_three_formats() {
    assert!(run(&["states", "--format", "dot"]).1.contains("digraph"));
    serde_json::from_str::<serde_json::Value>(&run(&["states", "--format", "json"]).1).unwrap();
    assert!(run(&["states"]).1.contains("wait call-back"));
}

#[test]
fn doctor_names_a_port_in_use_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let (code, out, _) = run(&["doctor", "--data-dir", data, "--set", &format!("api.port={port}")]);
    assert_eq!(code, 1);
    assert!(out.contains("bad") && out.contains("api.port") && out.contains("ss -tlnp"), "{out}");
    drop(taken);
    let (code, out, _) = run(&["doctor", "--data-dir", data, "--set", &format!("api.port={}", free_port())]);
    assert_eq!(code, 0, "{out}");
    assert!(!folder.path().join("ferric.sqlite").exists(), "doctor looks and makes nothing");
}

#[test]
fn a_reader_that_goes_away_ends_nothing_badly() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let port = format!("api.port={}", free_port());
    for command in
        [&["doctor", "--data-dir", data, "--set", &port][..], &["db", "migrate", "--data-dir", data]]
    {
        let mut piped =
            ferric(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map(Running).unwrap();
        drop(piped.0.stdout.take());
        let mut told = String::new();
        piped.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(piped.0.wait().unwrap().code(), Some(0), "{told}");
        assert!(!told.contains("panicked"), "{told}");
    }
}

#[test]
fn doctor_doubts_a_file_with_a_password_that_everybody_may_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ferric.toml");
    std::fs::write(&file, "[keystone_authtoken]\npassword = \"hunter2\"\n").unwrap();
    let port = format!("api.port={}", free_port());
    let (data, config) = (folder.path().to_str().unwrap(), file.to_str().unwrap());
    for (mode, doubted) in [(0o644, true), (0o640, false)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let out = run(&["doctor", "--data-dir", data, "--config", config, "--set", &port]).1;
        assert_eq!(out.contains(&format!("chmod o= {config}")), doubted, "{out}");
        assert!(!out.contains("hunter2"), "{out}");
    }
}

#[test]
fn db_check_refuses_an_empty_database_and_accepts_a_migrated_one() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new");
    let data = new.to_str().unwrap();
    let (code, _, err) = run(&["db", "check", "--data-dir", data]);
    assert_eq!(code, 1);
    assert!(err.contains("ferric.sqlite") && err.contains("ferric db migrate"), "{err}");
    assert!(!new.exists(), "a check makes nothing");
    assert_eq!(run(&["db", "migrate", "--data-dir", data]).0, 0);
    assert_eq!(run(&["db", "check", "--data-dir", data]).0, 0);
}

#[test]
fn a_file_that_is_no_database_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    std::fs::write(
        folder.path().join("ferric.sqlite"),
        "a letter to my grandmother, and nothing else ".repeat(40),
    )
    .unwrap();
    let port = format!("api.port={}", free_port());
    for command in ["doctor", "serve"] {
        let (code, out, err) = run(&[command, "--data-dir", data, "--set", &port]);
        let told = out + &err;
        assert_eq!(code, 1, "{told}");
        assert!(told.contains("ferric.sqlite") && told.contains("not a database"), "{told}");
        assert!(told.contains("put a backup in its place"), "{told}");
    }
}

#[test]
fn a_data_directory_has_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let serve = |port: u16| {
        let port = format!("api.port={port}");
        let mut command = ferric(&["serve", "--data-dir", data, "--set", &port]);
        let mut running = Running(command.stderr(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut told = String::new();
        while !told.contains("ready after") {
            told.push_str(&lines.next().expect("it gets ready"));
        }
        (running, lines, told)
    };
    let first_port = free_port();
    let (first, lines, told) = serve(first_port);
    assert!(told.contains("boot servers are off") && told.contains("tftp.enabled"), "{told}");
    assert!(told.contains("api=http://127.0.0.1:") && told.contains("auth=noauth"), "{told}");
    let pid = first.0.id().to_string();
    let own = format!("api.port={first_port}");
    let (code, out, _) = run(&["doctor", "--data-dir", data, "--set", &own]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains(&format!("ok      Ferric runs here, pid {pid}")), "{out}");
    let port = format!("api.port={}", free_port());
    for second in [&["serve", "--data-dir", data, "--set", &port][..], &["db", "migrate", "--data-dir", data]]
    {
        let (code, _, err) = run(second);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(&format!("process {pid} since")) && err.contains("--data-dir"), "{err}");
    }
    for looking in [&["db", "check", "--data-dir", data][..], &["config", "show", "--data-dir", data]] {
        assert_eq!(run(looking).0, 0, "{looking:?} only looks");
    }
    // Running kills it as nothing else could: the lock goes with the process
    drop((first, lines));
    let (_second, _lines, _) = serve(free_port());
}

#[test]
fn a_demo_leaves_the_data_of_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    assert_eq!(run(&["db", "migrate", "--data-dir", data]).0, 0);
    let (code, _, err) =
        run(&["demo", "--once", "--nodes", "1", "--listen", "127.0.0.1:0", "--data-dir", data]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no demo has made") && err.contains("--data-dir"), "{err}");
}

#[test]
fn doctor_doubts_an_open_api_and_ramdisks_that_would_call_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let port = format!("api.port={}", free_port());
    let open = run(&["doctor", "--data-dir", data, "--set", &port, "--set", "api.host_ip=0.0.0.0"]).1;
    assert!(open.contains("noauth"), "{open}");
    let own = run(&["doctor", "--data-dir", data, "--set", &port]).1;
    assert!(!own.contains("noauth") && own.contains("http.enabled") && own.contains("tftp.enabled"), "{own}");
    assert!(own.contains("api.host_ip") && own.contains("api.public_endpoint"), "{own}");
}

#[test]
fn a_fault_of_an_unknown_machine_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("faults.json");
    std::fs::write(&file, r#"{"machines": {"sim-0004": {"silent_bmc": true}}}"#).unwrap();
    let (code, _, err) = run(&["sim", "--nodes", "3", "--faults", file.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(err.contains("'sim-0004'") && err.contains("sim-0001 to sim-0003"), "{err}");
}

#[test]
fn a_port_in_use_ends_serve_with_the_option_and_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let (code, _, err) = run(&["serve", "--data-dir", data, "--set", &format!("api.port={port}")]);
    assert_eq!(code, 1);
    assert!(err.contains("api.port") && err.contains(&port.to_string()), "{err}");
    let api = format!("api.port={}", free_port());
    let http = format!("http.port={port}");
    let (code, _, err) = run(&[
        "serve",
        "--data-dir",
        data,
        "--set",
        &api,
        "--set",
        "http.enabled=true",
        "--set",
        "http.host_ip=127.0.0.1",
        "--set",
        &http,
    ]);
    assert_eq!(code, 1);
    assert!(err.contains("http.port") && err.contains(&port.to_string()), "{err}");
}

#[test]
fn serve_answers_within_a_second_and_stops_on_sigterm_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let began = Instant::now();
    let mut serve = Running(
        ferric(&[
            "serve",
            "--data-dir",
            folder.path().to_str().unwrap(),
            "--set",
            &format!("api.port={port}"),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap(),
    );
    let mut lines = BufReader::new(serve.0.stderr.take().unwrap()).lines();
    let ready =
        lines.find_map(|line| line.ok().filter(|line| line.contains("ready after"))).expect("it gets ready");
    assert!(get(port, "/v1").unwrap().contains("200"));
    // a second is the promise; a loaded build machine gets five
    assert!(began.elapsed() < Duration::from_secs(5), "{ready}");
    terminate(&serve.0);
    let rest = std::thread::spawn(move || lines.map_while(Result::ok).count());
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = serve.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it does not stop");
        std::thread::yield_now();
    };
    rest.join().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(get(port, "/v1").is_none());
}

#[test]
fn sim_writes_a_fleet_that_can_be_enrolled() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.json");
    let path = file.to_str().unwrap();
    let arguments = ["sim", "--nodes", "3", "--enroll-file", path, "--set", "sim.bmc_port=0"];
    let mut sim = Running(ferric(&arguments).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(sim.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("baremetal create")));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600, "it holds passwords");
    let fleet: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(fleet["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(fleet["nodes"][0]["driver"], "ipmi");
    terminate(&sim.0);
    assert_eq!(sim.0.wait().unwrap().code(), Some(0));
}
