//! A client of one microversion, and the server that it talks to.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ferric_web::WebSettings;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world;

/// A server in a thread of its own; it ends with this.
pub(crate) struct Server {
    pub(crate) base: String,
    /// Where its database lies, among whatever else it keeps.
    pub(crate) folder: std::path::PathBuf,
    stop: Option<actix_web::dev::ServerHandle>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Server {
        Server::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut WebSettings) + Send + 'static) -> Server {
        Server::of_types(&["fake-hardware"], change)
    }

    /// With these hardware types and classic drivers.
    pub(crate) fn of_types(types: &[&str], change: impl FnOnce(&mut WebSettings) + Send + 'static) -> Server {
        let types = types.iter().map(|name| (*name).to_owned()).collect();
        // there may be several tests in this process; the first one wins
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let listen = SocketAddr::from(([127, 0, 0, 1], 0));
                let (serving, folder) = world::start(listen, types, change).await.expect("a free port");
                let place = folder.path().to_owned();
                tell.send((serving.addr, serving.server.handle(), place)).expect("the test waits");
                serving.server.await.expect("the server runs");
            });
        });
        let (addr, stop, folder) = told.recv_timeout(Duration::from_secs(30)).expect("the server starts");
        Server { base: format!("http://{addr}"), folder, stop: Some(stop), thread: Some(thread) }
    }

    /// Its database, for what no request of a client writes.
    pub(crate) fn store(&self) -> ferric_schema::Store {
        let path = self.folder.join("ferric.sqlite");
        let options = ferric_schema::StoreOptions::new(path.to_str().expect("UTF-8"));
        ferric_schema::Store::open(&options).expect("a database")
    }

    /// A client that asks for 1.`minor`.
    pub(crate) fn at(&self, minor: u16) -> Client {
        Client { base: self.base.clone(), version: Some(format!("1.{minor}")), http: reqwest::Client::new() }
    }

    /// A client that asks for no version.
    pub(crate) fn unversioned(&self) -> Client {
        Client { base: self.base.clone(), version: None, http: reqwest::Client::new() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(handle) = self.stop.take() {
            drop(handle.stop(false));
        }
        if let Some(thread) = self.thread.take() {
            // a server that panicked has said so already
            let _ = thread.join();
        }
    }
}

pub(crate) struct Client {
    base: String,
    version: Option<String>,
    http: reqwest::Client,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// Asserts the status and gives the body.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    /// Asserts the status and gives the fault's text, in whichever shape.
    #[track_caller]
    pub(crate) fn fails(self, status: u16) -> String {
        let body = self.is(status);
        let inner =
            body["error_message"].as_str().unwrap_or_else(|| panic!("not an error of shape A or B: {body}"));
        let inner: Value = serde_json::from_str(inner).expect("JSON in a string");
        let text = inner["faultstring"].as_str().or(inner["description"].as_str()).expect("a text");
        text.to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Client {
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(version) = &self.version {
            request = request.header("X-OpenStack-Ironic-API-Version", version);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Answer::of(request).await
    }

    /// A request to be filled in by the test.
    pub(crate) fn raw(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Enrols a node; `more` is added to its body.
    pub(crate) async fn enrol(&self, more: Value) -> String {
        let mut body = json!({"driver": "fake-hardware"});
        let fields = body.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        // who speaks for no project can give no owner until the node is there
        let owner = fields.remove("owner");
        let node = self.post("/v1/nodes", body).await.is(201);
        let id = node["uuid"].as_str().expect("a uuid").to_owned();
        if let Some(owner) = owner {
            let patch = json!([{"op": "add", "path": "/owner", "value": owner}]);
            let newest =
                Client { base: self.base.clone(), version: Some("1.115".into()), http: self.http.clone() };
            newest.patch(&format!("/v1/nodes/{id}"), patch).await.is(200);
        }
        id
    }

    /// Asks for a provision state and waits until the node is in `end`.
    pub(crate) async fn provision(&self, node: &str, target: &str, end: &str) {
        self.put(&format!("/v1/nodes/{node}/states/provision"), json!({"target": target})).await.is(202);
        self.until(node, "provision_state", &json!(end)).await;
    }

    /// Waits until a field of the node has a value.
    pub(crate) async fn until(&self, node: &str, field: &str, value: &Value) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let found = self.get(&format!("/v1/nodes/{node}")).await.is(200);
            if found[field] == *value {
                return found;
            }
            assert!(Instant::now() < deadline, "{field} is {} and not {value}: {found}", found[field]);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Answer {
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.expect("a body");
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).expect("JSON") };
        Answer { status, headers, body }
    }
}
