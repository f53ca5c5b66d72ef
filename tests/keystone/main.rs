//! Ferric beside a real Keystone (from PyPI, on SQLite): who is let in, what they may, and what happens when Keystone
//! does not answer.
#![allow(clippy::unwrap_used)] // tests say what broke by panicking

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Method, Response};
use serde_json::{Value, json};

/// What does not happen within this time does not happen.
const WITHIN: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(100);

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn here(name: &str) -> String {
    format!("{}/tests/keystone/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A Keystone with people in it.
struct Keystone {
    process: Option<Process>,
    python: String,
    folder: tempfile::TempDir,
    /// Its own, so that nobody takes its port while it is stopped.
    address: String,
    url: String,
    people: BTreeMap<String, Value>,
}

impl Keystone {
    /// A copy of the one that `install.sh` makes, with these people logged in. `seconds`: how long tokens last.
    fn start(seconds: u32, people: &[&str]) -> Keystone {
        let installed = Command::new(here("install.sh")).stderr(Stdio::inherit()).output().unwrap();
        assert!(installed.status.success(), "Keystone cannot be installed");
        let there = String::from_utf8(installed.stdout).unwrap();
        let there = Path::new(there.trim());
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("keystone");
        let copied = Command::new("cp").arg("-a").args([&there.join("template"), &copy]).status().unwrap();
        assert!(copied.success());
        let python = there.join("venv/bin/python").display().to_string();
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = format!("127.35.{high}.{}", low.clamp(1, 254));
        let mut keystone =
            Keystone { process: None, python, folder, address, url: String::new(), people: BTreeMap::new() };
        keystone.run(0, seconds);
        let mut login = Command::new(&keystone.python);
        let login = login.args([&here("people.py"), &keystone.url, "login"]).args(people).output().unwrap();
        assert!(login.status.success(), "{}", String::from_utf8_lossy(&login.stderr));
        keystone.people = serde_json::from_slice(&login.stdout).unwrap();
        keystone
    }

    fn run(&mut self, port: u16, seconds: u32) {
        let mut child = Command::new(&self.python)
            .arg(here("serve.py"))
            .arg(self.folder.path().join("keystone"))
            .args([port.to_string(), seconds.to_string(), self.address.clone()])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(self.folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.process = Some(Process(child));
        self.url = line
            .strip_prefix("ready ")
            .unwrap_or_else(|| {
                panic!("{line}{}", std::fs::read_to_string(self.folder.path().join("stderr")).unwrap())
            })
            .trim()
            .to_owned();
    }

    fn of(&self, name: &str, key: &str) -> &str {
        self.people.get(name).and_then(|one| one[key].as_str()).unwrap_or_else(|| panic!("{name}: {key}"))
    }

    fn token(&self, name: &str) -> &str {
        self.of(name, "token")
    }

    fn project(&self, name: &str) -> &str {
        self.of(&format!("{name}-reader"), "project")
    }

    /// A token in the project one, newly given.
    async fn log_in(&self, http: &reqwest::Client, user: &str) -> String {
        let answer = http
            .post(format!("{}/v3/auth/tokens", self.url))
            .json(&json!({"auth": {
                "identity": {"methods": ["password"], "password": {
                    "user": {"name": user, "domain": {"id": "default"}, "password": "secret"}}},
                "scope": {"project": {"name": "one", "domain": {"id": "default"}}},
            }}))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
        answer.headers()["x-subject-token"].to_str().unwrap().to_owned()
    }

    async fn revoke(&self, http: &reqwest::Client, token: &str) {
        let answer = http
            .delete(format!("{}/v3/auth/tokens", self.url))
            .header("X-Auth-Token", token)
            .header("X-Subject-Token", token)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 204);
    }
}

/// A real `ferric serve`.
struct Ferric {
    _process: Process,
    base: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Ferric {
    async fn start(keystone: &Keystone, more: &[&str]) -> Ferric {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferric"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FERRIC_") {
                command.env_remove(name);
            }
        }
        command.args(["serve", "--data-dir"]).arg(folder.path().join("data"));
        let mut set = |what: &str| {
            command.args(["--set", what]);
        };
        set(&format!("api.port={port}"));
        set("hardware.enabled_hardware_types=fake-hardware");
        set("auth.strategy=keystone");
        set(&format!("keystone_authtoken.auth_url={}/v3", keystone.url));
        set("keystone_authtoken.www_authenticate_uri=https://keystone.example.org/v3");
        for option in [
            "username=ferric",
            "project_name=service",
            "user_domain_name=Default",
            "project_domain_id=default",
        ] {
            set(&format!("keystone_authtoken.{option}"));
        }
        more.iter().for_each(|option| set(option));
        // a password does not stand on command lines
        command.env("FERRIC_KEYSTONE_AUTHTOKEN__PASSWORD", "secret").env("NO_PROXY", "*");
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        // no connection is kept: starting Keystone again blocks this thread for longer than the server keeps an idle one,
        // and a client that does not look meanwhile sends its next request into a closed connection
        let http = reqwest::Client::builder().no_proxy().timeout(WITHIN).pool_max_idle_per_host(0);
        let http = http.build().unwrap();
        let ferric = Ferric {
            _process: Process(child),
            base: format!("http://127.0.0.1:{port}"),
            http,
            _folder: folder,
        };
        let deadline = Instant::now() + WITHIN;
        while ferric.http.get(format!("{}/v1", ferric.base)).send().await.is_err() {
            let log = std::fs::read_to_string(ferric._folder.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "ferric does not come up:\n{log}");
            tokio::time::sleep(LOOK).await;
        }
        ferric
    }

    async fn ask(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Response {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        request = request.header("X-OpenStack-Ironic-API-Version", "1.115");
        if let Some(token) = token {
            request = request.header("X-Auth-Token", token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str, token: &str) -> (u16, Value) {
        let answer = self.ask(Method::GET, path, Some(token), None).await;
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    async fn enrol(&self, token: &str, more: Value) -> (u16, Value) {
        let mut body = json!({"driver": "fake-hardware"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.ask(Method::POST, "/v1/nodes", Some(token), Some(body)).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn log(&self) -> String {
        std::fs::read_to_string(self._folder.path().join("log")).unwrap()
    }
}

fn names(list: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        list["nodes"].as_array().unwrap().iter().filter_map(|node| node["name"].as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn everybody_may_what_their_roles_say_and_sees_what_is_theirs() {
    let keystone = Keystone::start(
        3600,
        &[
            "system-reader",
            "system-member",
            "system-admin",
            "system-service",
            "one-reader",
            "one-member",
            "one-manager",
            "one-admin",
            "one-service",
            "two-reader",
            "two-admin",
            "service-service",
            "service-admin",
            "unscoped",
        ],
    );
    let ferric = Ferric::start(&keystone, &[]).await;
    let (one, two) = (keystone.project("one").to_owned(), keystone.project("two").to_owned());
    let root = keystone.token("system-admin");
    for (name, owner, lessee) in [
        ("of-one", Some(&one), None),
        ("lent-to-one", Some(&two), Some(&one)),
        ("of-two", Some(&two), None),
        ("nobodys", None, None),
    ] {
        let body = json!({"name": name, "owner": owner, "lessee": lessee, "driver_info": {"key": "inner"}});
        let (status, made) = ferric.enrol(root, body).await;
        assert_eq!((status, made["owner"].as_str()), (201, owner.map(String::as_str)), "{made}");
    }

    // lists are of the caller's project, unless it is of the system
    for (who, seen) in [
        ("system-reader", &["lent-to-one", "nobodys", "of-one", "of-two"][..]),
        ("system-service", &["lent-to-one", "nobodys", "of-one", "of-two"]),
        ("one-reader", &["lent-to-one", "of-one"]),
        ("one-service", &["lent-to-one", "of-one"]),
        ("two-admin", &["lent-to-one", "of-two"]),
        ("service-service", &[]),
    ] {
        let (status, list) = ferric.get("/v1/nodes", keystone.token(who)).await;
        assert_eq!((status, names(&list)), (200, seen.to_vec()), "{who}");
    }
    assert_eq!(ferric.get("/v1/nodes", keystone.token("unscoped")).await.0, 403);
    assert_eq!(ferric.get(&format!("/v1/nodes?project={two}"), keystone.token("one-admin")).await.0, 403);

    // hidden is 404, seen but not allowed is 403
    let power = json!({"target": "power on"});
    let active = json!({"target": "manage"});
    for (who, node, method, tail, body, status) in [
        ("one-reader", "of-one", "GET", "", None, 200),
        ("one-reader", "lent-to-one", "GET", "", None, 200),
        ("one-reader", "of-two", "GET", "", None, 404),
        ("one-reader", "nobodys", "GET", "", None, 404),
        ("unscoped", "of-one", "GET", "", None, 404),
        ("service-admin", "of-one", "GET", "", None, 404),
        ("one-reader", "of-one", "GET", "/history", None, 200),
        ("one-reader", "lent-to-one", "GET", "/history", None, 403),
        ("one-reader", "of-one", "PUT", "/states/power", Some(&power), 403),
        ("one-reader", "of-two", "PUT", "/states/power", Some(&power), 404),
        ("one-member", "lent-to-one", "PUT", "/states/power", Some(&power), 202),
        ("one-member", "lent-to-one", "PUT", "/states/provision", Some(&active), 403),
        ("one-manager", "lent-to-one", "PUT", "/states/provision", Some(&active), 202),
        ("one-member", "of-one", "PUT", "/states/provision", Some(&active), 202),
        ("one-member", "of-one", "PUT", "/management/boot_device", Some(&json!({"boot_device": "pxe"})), 403),
        (
            "one-manager",
            "of-one",
            "PUT",
            "/management/boot_device",
            Some(&json!({"boot_device": "pxe"})),
            204,
        ),
        (
            "one-admin",
            "lent-to-one",
            "PUT",
            "/management/boot_device",
            Some(&json!({"boot_device": "pxe"})),
            403,
        ),
        ("one-admin", "lent-to-one", "DELETE", "", None, 403),
        ("system-member", "of-one", "DELETE", "", None, 403),
        ("system-reader", "of-one", "PUT", "/states/power", Some(&power), 403),
        ("system-member", "of-one", "PUT", "/maintenance", Some(&json!({"reason": "x"})), 202),
        ("one-admin", "of-two", "DELETE", "", None, 404),
        ("one-admin", "of-one", "PUT", "/traits", Some(&json!({"traits": ["CUSTOM_A"]})), 204),
        ("one-member", "of-one", "PUT", "/traits", Some(&json!({"traits": ["CUSTOM_A"]})), 403),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = format!("/v1/nodes/{node}{tail}");
        let answer = ferric.ask(method.clone(), &path, Some(keystone.token(who)), body.cloned()).await;
        let found = answer.status().as_u16();
        assert_eq!(found, status, "{who} {method} {path}: {}", answer.text().await.unwrap());
    }
    for (who, path, status) in [
        ("one-admin", "/v1/drivers", 403),
        ("one-admin", "/v1/conductors", 403),
        ("one-admin", "/v1/deploy_templates", 403),
        ("one-admin", "/v1/deploy_templates/none", 403),
        ("one-admin", "/v1/inspection_rules", 403),
        ("one-admin", "/v1/ferric/doing", 403),
        ("one-admin", "/v1/ferric/events", 403),
        ("one-reader", "/v1/runbooks", 200),
        ("system-reader", "/v1/drivers", 200),
        ("system-reader", "/v1/conductors", 200),
        ("system-reader", "/v1/deploy_templates", 200),
        ("system-reader", "/v1/deploy_templates/none", 404),
        ("system-reader", "/v1/ferric/doing", 200),
    ] {
        assert_eq!(ferric.get(path, keystone.token(who)).await.0, status, "{who} {path}");
    }

    // what is not for a lessee is not shown to it
    for (who, node, shown) in [
        ("system-reader", "lent-to-one", true),
        ("two-reader", "lent-to-one", true),
        ("one-reader", "of-one", true),
        ("one-reader", "lent-to-one", false),
        ("one-admin", "lent-to-one", false),
    ] {
        for path in [format!("/v1/nodes/{node}"), "/v1/nodes/detail".to_owned()] {
            let (_, body) = ferric.get(&path, keystone.token(who)).await;
            let body = match body["nodes"].as_array() {
                Some(all) => all.iter().find(|one| one["name"] == node).unwrap().clone(),
                None => body,
            };
            assert_eq!(body["driver_info"] == json!({"key": "inner"}), shown, "{who} {path}: {body}");
            for field in ["last_error", "reservation", "driver_internal_info"] {
                assert_eq!(
                    body[field].to_string().contains("edacted"),
                    !shown,
                    "{who} {path} {field}: {body}"
                );
            }
        }
    }
}

#[tokio::test]
async fn projects_have_nodes_of_their_own_and_fields_have_policies_of_their_own() {
    let keystone = Keystone::start(
        3600,
        &[
            "system-member",
            "system-admin",
            "one-reader",
            "one-member",
            "one-manager",
            "one-admin",
            "two-reader",
            "two-member",
            "two-admin",
            "unscoped",
        ],
    );
    let ferric = Ferric::start(&keystone, &[]).await;
    let one = keystone.project("one").to_owned();
    let two = keystone.project("two").to_owned();
    let (status, made) = ferric.enrol(keystone.token("one-admin"), json!({"name": "own"})).await;
    assert_eq!((status, made["owner"].as_str()), (201, Some(one.as_str())));
    let (status, refusal) = ferric.enrol(keystone.token("one-admin"), json!({"owner": two})).await;
    assert_eq!(status, 400);
    assert!(refusal["error_message"].as_str().unwrap().contains("project scoped admin"), "{refusal}");
    for who in ["one-manager", "one-member", "one-reader", "system-member", "unscoped"] {
        assert_eq!(ferric.enrol(keystone.token(who), json!({})).await.0, 403, "{who}");
    }
    let replace = |path: &str, value: Value| json!([{"op": "replace", "path": path, "value": value}]);
    for (who, patch, status) in [
        ("one-reader", replace("/extra", json!({"a": 1})), 403),
        ("one-member", replace("/extra", json!({"a": 1})), 200),
        ("one-member", replace("/description", json!("d")), 200),
        ("one-member", replace("/driver_info", json!({"a": 1})), 200),
        ("one-member", replace("/power_interface", json!("fake")), 403),
        ("one-manager", replace("/power_interface", json!("fake")), 200),
        ("one-admin", replace("/owner", json!(two)), 403),
        ("one-admin", replace("/conductor_group", json!("")), 403),
        ("one-admin", replace("/automated_clean", json!(false)), 403),
        ("one-member", replace("/automated_clean", json!(true)), 200),
        ("one-admin", replace("/shard", json!("s")), 403),
        ("system-member", replace("/shard", json!("s")), 403),
        ("system-admin", replace("/shard", json!("s")), 200),
        ("one-member", replace("/lessee", json!(two)), 200),
        ("two-member", replace("/extra", json!({"a": 2})), 200),
        ("two-member", replace("/name", json!("mine")), 403),
        ("two-admin", replace("/instance_info", json!({"a": 2})), 200),
        ("two-member", replace("/instance_info", json!({"a": 3})), 403),
    ] {
        let answer =
            ferric.ask(Method::PATCH, "/v1/nodes/own", Some(keystone.token(who)), Some(patch.clone())).await;
        let found = answer.status().as_u16();
        assert_eq!(found, status, "{who} {patch}: {}", answer.text().await.unwrap());
    }
    let delete = |who| ferric.ask(Method::DELETE, "/v1/nodes/own", Some(keystone.token(who)), None);
    assert_eq!(delete("two-admin").await.status(), 403, "a lessee");
    assert_eq!(delete("one-manager").await.status(), 403);
    assert_eq!(delete("one-admin").await.status(), 204);
}

#[tokio::test]
async fn tokens_are_believed_as_long_as_keystone_stands_by_them() {
    let mut keystone = Keystone::start(3600, &["one-reader"]);
    let cached = Ferric::start(&keystone, &["keystone_authtoken.token_cache_time=3600"]).await;
    let asking = Ferric::start(
        &keystone,
        &["keystone_authtoken.token_cache_time=0", "keystone_authtoken.http_connect_timeout=60"],
    )
    .await;

    for token in [None, Some("nonsense"), Some("")] {
        let answer = cached.ask(Method::GET, "/v1/nodes", token, None).await;
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["www-authenticate"], "Keystone uri=\"https://keystone.example.org/v3\"");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(
            body,
            json!({"error": {"code": 401, "title": "Unauthorized",
                "message": "The request you have made requires authentication."}})
        );
    }
    assert_eq!(cached.ask(Method::GET, "/v1", None, None).await.status(), 200);
    assert_eq!(
        cached.ask(Method::GET, "/v1/lookup?addresses=52:54:00:00:00:01", None, None).await.status(),
        404
    );

    let token = keystone.log_in(&cached.http, "one-reader").await;
    assert_eq!(cached.get("/v1/nodes", &token).await.0, 200);
    assert_eq!(asking.get("/v1/nodes", &token).await.0, 200);
    keystone.revoke(&cached.http, &token).await;
    assert_eq!(cached.get("/v1/nodes", &token).await.0, 200, "what is remembered is not asked about again");
    assert_eq!(
        asking.get("/v1/nodes", &token).await.0,
        401,
        "what is revoked is refused once Keystone is asked"
    );

    // Keystone away: what is remembered still counts, the rest is told to come again, and is let in when it is back
    let port: u16 = keystone.url.rsplit(':').next().unwrap().parse().unwrap();
    keystone.process.take();
    assert_eq!(cached.get("/v1/nodes", &token).await.0, 200);
    let answer = asking.ask(Method::GET, "/v1/nodes", Some(keystone.token("one-reader")), None).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(asking.ask(Method::GET, "/v1", None, None).await.status(), 200);
    keystone.run(port, 3600);
    assert_eq!(asking.get("/v1/nodes", keystone.token("one-reader")).await.0, 200);
    for ferric in [&cached, &asking] {
        let log = ferric.log().await;
        assert!(
            !log.contains(keystone.token("one-reader")) && !log.contains(&token),
            "no token stands in the log"
        );
    }
}

#[tokio::test]
async fn a_token_ends_when_it_says_and_ours_is_renewed() {
    // a token of ours is not used in its last thirty seconds: with these, each question takes a new one
    let keystone = Keystone::start(15, &[]);
    let ferric = Ferric::start(&keystone, &[]).await;
    let token = keystone.log_in(&ferric.http, "one-reader").await;
    assert_eq!(ferric.get("/v1/nodes", &token).await.0, 200);
    let deadline = Instant::now() + WITHIN;
    while ferric.get("/v1/nodes", &token).await.0 == 200 {
        assert!(Instant::now() < deadline, "a token that has ended is still believed");
        tokio::time::sleep(LOOK).await;
    }
    assert_eq!(ferric.get("/v1/nodes", &token).await.0, 401);
    let token = keystone.log_in(&ferric.http, "one-reader").await;
    assert_eq!(ferric.get("/v1/nodes", &token).await.0, 200, "our own token has ended too, and was renewed");
}

#[tokio::test]
async fn a_policy_file_overrides_and_is_read_again_and_the_service_role_may_be_elevated() {
    let keystone = Keystone::start(
        3600,
        &["system-reader", "system-admin", "one-admin", "one-service", "service-service"],
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    std::fs::write(&file, "\"baremetal:driver:get\": \"role:admin\"\n").unwrap();
    let option = format!("oslo_policy.policy_file={}", file.display());
    let ferric = Ferric::start(&keystone, &[&option, "auth.rbac_service_role_elevated_access=true"]).await;
    // the scope still has to be the system's
    assert_eq!(ferric.get("/v1/drivers", keystone.token("one-admin")).await.0, 403);
    assert_eq!(ferric.get("/v1/drivers", keystone.token("system-admin")).await.0, 200);
    assert_eq!(ferric.get("/v1/drivers", keystone.token("system-reader")).await.0, 403);
    assert_eq!(ferric.get("/v1/conductors", keystone.token("service-service")).await.0, 200);
    assert_eq!(ferric.get("/v1/conductors", keystone.token("one-service")).await.0, 403);

    replace(&file, "\"baremetal:conductor:get\": \"!\"\n");
    let deadline = Instant::now() + WITHIN;
    while ferric.get("/v1/conductors", keystone.token("system-admin")).await.0 != 403 {
        assert!(Instant::now() < deadline, "the policy file is not read again");
        tokio::time::sleep(LOOK).await;
    }
    assert_eq!(ferric.get("/v1/drivers", keystone.token("system-reader")).await.0, 200);
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}
