//! Password files and TLS, over the wire.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ferric_web::Tls;
use ferric_web::auth::Auth;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Server};

const WITHIN: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(50);

/// At the least cost: tests are to be quick.
fn line(name: &str, password: &str) -> String {
    format!("{name}:{}\n", bcrypt::hash(password, 4).expect("a hash"))
}

/// A file that is replaced at once, as editors and deployment tools do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("it is written");
    std::fs::rename(new, path).expect("it is replaced");
}

struct Guarded {
    server: Server,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

fn guarded(text: &str) -> Guarded {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("htpasswd");
    replace(&file, text);
    let auth = Auth::http_basic(&file).expect("a password file");
    Guarded { server: Server::with(move |settings| settings.auth = auth), file, _folder: folder }
}

impl Guarded {
    async fn get(&self, path: &str, header: Option<&str>) -> Answer {
        let request =
            self.server.at(115).raw(Method::GET, path).header("X-OpenStack-Ironic-API-Version", "1.115");
        Answer::of(match header {
            Some(header) => request.header("Authorization", header),
            None => request,
        })
        .await
    }

    async fn as_user(&self, name: &str, password: &str) -> u16 {
        let request = self.server.at(115).raw(Method::GET, "/v1/nodes").basic_auth(name, Some(password));
        Answer::of(request).await.status.as_u16()
    }

    async fn until(&self, name: &str, password: &str, status: u16) {
        let deadline = Instant::now() + WITHIN;
        while self.as_user(name, password).await != status {
            assert!(Instant::now() < deadline, "{name} does not get {status}");
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[actix_web::test]
async fn who_is_in_the_password_file_is_an_administrator_and_nobody_else_comes_in() {
    let mut text = line("anna", "secret");
    text.push_str(&line("otto", "geheim").replace("$2b$", "$2y$"));
    text.push_str(&line("ida", "x:y").replace("$2b$", "$2a$"));
    let api = guarded(&text);
    for (name, password) in [("anna", "secret"), ("otto", "geheim"), ("ida", "x:y"), ("anna", "secret")] {
        assert_eq!(api.as_user(name, password).await, 200, "{name}");
    }
    for (name, password) in [("anna", "geheim"), ("nobody", "secret"), ("", ""), ("anna", "")] {
        let request = api.server.at(115).raw(Method::GET, "/v1/nodes").basic_auth(name, Some(password));
        let answer = Answer::of(request).await;
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"Baremetal API\""), "{name}");
        assert!(answer.header("openstack-request-id").is_some());
        assert_eq!(
            answer.is(401),
            json!({"error": {"message": "Incorrect username or password", "code": 401}}),
            "{name}"
        );
    }
    let answer = api.get("/v1/nodes", None).await;
    assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"Baremetal API\""));
    assert_eq!(answer.is(401), json!({"error": {"message": "Authorization required", "code": 401}}));
    for (header, said) in [
        ("Basic", "Could not parse Authorization header"),
        ("Bearer x", "Unsupported authorization type \"Bearer\""),
        ("Basic ***", "Could not decode authorization token"),
    ] {
        let answer = api.get("/v1/nodes", Some(header)).await;
        assert_eq!(answer.is(400), json!({"error": {"message": said, "code": 400}}));
    }
}

#[actix_web::test]
async fn ramdisks_and_discovery_need_no_password_and_everything_else_does() {
    let api = guarded(&line("anna", "secret"));
    for path in ["/", "/v1", "/v1/", "/healthz", "/readyz"] {
        api.get(path, None).await.is(200);
    }
    // asked by an agent, refused for what it says and not for who it is
    assert_eq!(api.get("/v1/lookup", None).await.status, 400);
    for path in [
        "/v1/nodes",
        "/nodes",
        "/v1/ferric/events",
        "/v1/ferric/doing",
        "/v1/nowhere",
        "/lookup",
        "/v1/drivers",
    ] {
        assert_eq!(api.get(path, None).await.status, 401, "{path}");
    }
}

#[actix_web::test]
async fn ramdisks_without_an_account_learn_nothing_but_whether_their_key_is_right() {
    let api = guarded(&line("anna", "secret"));
    let client = api.server.at(115);
    let body = serde_json::json!({"driver": "fake-hardware"});
    let request = client.raw(Method::POST, "/v1/nodes").basic_auth("anna", Some("secret")).json(&body);
    let request = request.header("X-OpenStack-Ironic-API-Version", "1.115");
    let node = Answer::of(request).await.is(201)["uuid"].as_str().expect("a UUID").to_owned();
    // the node's deploy interface is not iscsi
    for id in [node.as_str(), "1be26c0b-03f2-4d2e-ae87-c02d7f33c123"] {
        for path in ["/pass_deploy_info", "?method=pass_deploy_info", "/pass_bootloader_install_info"] {
            for http in [Method::POST, Method::PUT] {
                let path = format!("/v1/nodes/{id}/vendor_passthru{path}");
                let args = serde_json::json!({"key": "x"});
                let answer = client.send(http, &path, Some(args)).await;
                assert_eq!(answer.fails(400), "Deploy key does not match", "{path}");
            }
        }
        for query in
            ["method=send_raw", "method=pass_deploy_info&method=send_raw", "method=pass_deploy_info&x=y"]
        {
            let path = format!("/v1/nodes/{id}/vendor_passthru?{query}");
            assert_eq!(client.send(Method::POST, &path, None).await.status, 401, "{path}");
        }
    }
}

#[actix_web::test]
async fn a_changed_password_file_counts_and_a_broken_one_does_not() {
    let api = guarded(&line("anna", "secret"));
    assert_eq!(api.as_user("anna", "secret").await, 200);
    replace(&api.file, &(line("anna", "changed") + &line("otto", "geheim")));
    api.until("otto", "geheim", 200).await;
    assert_eq!(
        api.as_user("anna", "secret").await,
        401,
        "what was remembered of the old hash does not count"
    );
    assert_eq!(api.as_user("anna", "changed").await, 200);
    replace(&api.file, "anna:plain\n");
    replace(&api.file, "");
    // a user that is added after the broken file shows that it has been looked at
    replace(&api.file, &(line("anna", "again") + &line("ida", "new")));
    api.until("ida", "new", 200).await;
    assert_eq!(api.as_user("anna", "again").await, 200);
}

#[actix_web::test]
async fn a_stream_of_events_ends_with_its_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("htpasswd");
    replace(&file, &(line("anna", "secret") + &line("otto", "geheim")));
    let auth = Auth::http_basic(&file).expect("a password file");
    let server = Server::with(move |settings| {
        settings.auth = auth;
        settings.event_admission = Duration::from_millis(50);
    });
    let api = Guarded { server, file, _folder: folder };
    let follow = async |name: &str, password: &str| {
        let request = api.server.at(1).raw(Method::GET, "/v1/ferric/events").basic_auth(name, Some(password));
        request.send().await.expect("an answer")
    };
    let (mut anna, mut otto) = (follow("anna", "secret").await, follow("otto", "geheim").await);
    assert_eq!((anna.status().as_u16(), otto.status().as_u16()), (200, 200));
    replace(&api.file, &line("otto", "geheim"));
    let ended = async { while anna.chunk().await.expect("no error").is_some() {} };
    tokio::time::timeout(WITHIN, ended).await.expect("the stream of a user who is gone ends");
    api.until("anna", "secret", 401).await;
    assert!(otto.chunk().await.expect("no error").is_some(), "the greeting");
    let still = tokio::time::timeout(Duration::from_millis(300), otto.chunk()).await;
    assert!(still.is_err(), "who may follow goes on: {still:?}");
}

fn certificate(folder: &Path, name: &str) -> (PathBuf, PathBuf, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    replace(&key, &made.signing_key.serialize_pem());
    replace(&cert, &format!("# {name}\n{}", made.cert.pem()));
    (cert, key, made.cert.pem().into_bytes())
}

fn trusting(pem: &[u8]) -> reqwest::Client {
    let root = reqwest::Certificate::from_pem(pem).expect("a certificate");
    reqwest::Client::builder().tls_certs_only([root]).no_proxy().timeout(WITHIN).build().expect("a client")
}

#[actix_web::test]
async fn the_api_speaks_tls_with_https_links_and_takes_a_new_certificate_without_a_pause() {
    let folder = tempfile::tempdir().expect("a folder");
    let (cert, key, first) = certificate(folder.path(), "first");
    let tls = Tls::load(&cert, &key).expect("a certificate");
    let server = Server::with(move |settings| settings.tls = Some(tls));
    let base = server.base.replace("http://", "https://");
    let old = trusting(&first);
    let root: Value = old.get(&base).send().await.expect("an answer").json().await.expect("JSON");
    let link = root["default_version"]["links"][0]["href"].as_str().expect("a link");
    assert!(link.starts_with(&base), "{link}");
    assert!(server.unversioned().raw(Method::GET, "/").send().await.is_err(), "not without TLS");

    // a pair that does not belong together is not taken
    let before = std::fs::read_to_string(&key).expect("a key");
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    replace(&key, &stranger.signing_key.serialize_pem());
    trusting(&first).get(&base).send().await.expect("the certificate before stays in use");
    replace(&key, &before);

    let (_, _, second) = certificate(folder.path(), "second");
    let deadline = Instant::now() + WITHIN;
    while trusting(&second).get(&base).send().await.is_err() {
        assert!(Instant::now() < deadline, "the new certificate is not taken");
        // a connection that is open stays so
        old.get(&base).send().await.expect("the connection of before");
        tokio::time::sleep(LOOK).await;
    }
    old.get(&base).send().await.expect("the connection of before");
    assert!(trusting(&first).get(&base).send().await.is_err(), "a new connection gets the new certificate");
}
