//! An agent on a port of its own: it lists the steps it was given and "runs" them.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use serde_json::{Value, json};

use crate::interface::AgentHandle;

#[derive(Default)]
pub(crate) struct Inside {
    /// What it offers, by kind of work.
    pub(crate) offers: Value,
    pub(crate) version: Value,
    /// All commands, as listed.
    pub(crate) commands: Vec<Value>,
    /// Name and parameters of everything that was started.
    pub(crate) started: Vec<(String, Value)>,
    /// A running command ends when it is looked at.
    pub(crate) quick: bool,
    /// So many POSTs are carried out, and the answer is lost.
    pub(crate) lose: u32,
    /// What the next step ends with instead of success.
    pub(crate) fail: Option<String>,
    /// What a step returns.
    pub(crate) result: Value,
}

pub(crate) struct TestAgent {
    url: String,
    inside: Arc<Mutex<Inside>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestAgent {
    pub(crate) async fn start() -> TestAgent {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inside =
            Arc::new(Mutex::new(Inside { quick: true, version: json!({"M": "1"}), ..Inside::default() }));
        let shared = inside.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(shared.clone(), request));
                    let stream = hyper_util::rt::TokioIo::new(stream);
                    // a lost answer ends the connection with an error, as it should
                    let _ =
                        hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
                });
            }
        });
        TestAgent { url, inside, task }
    }

    pub(crate) fn handle(&self) -> AgentHandle {
        AgentHandle { url: self.url.clone(), token: "t".to_owned(), verify_ca: None }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Inside) -> T) -> T {
        look(&mut self.inside.lock().unwrap())
    }

    /// The names of the steps that were started, in order.
    pub(crate) fn steps_started(&self) -> Vec<String> {
        let name = |(_, params): &(String, Value)| {
            let step = params.get("step")?;
            Some(format!("{}.{}", step["interface"].as_str()?, step["step"].as_str()?))
        };
        self.with(|inside| inside.started.iter().filter_map(name).collect())
    }
}

async fn answer(
    inside: Arc<Mutex<Inside>>,
    request: Request<Incoming>,
) -> std::io::Result<Response<Full<Bytes>>> {
    let post = request.method() == Method::POST;
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut inside = inside.lock().unwrap();
    let inside = &mut *inside;
    if !post {
        let running = |command: &&mut Value| command["command_status"] == "RUNNING" && inside.quick;
        for command in inside.commands.iter_mut().filter(running) {
            let kind = command["command_name"].as_str().unwrap().split('_').nth(1).unwrap().to_owned();
            let asked = inside.started.iter().rev().find(|(_, params)| params.get("step").is_some()).unwrap();
            match inside.fail.take() {
                Some(why) => {
                    command["command_status"] = json!("FAILED");
                    command["command_error"] = json!({"type": "E", "code": 500, "message": why});
                }
                None => {
                    command["command_status"] = json!("SUCCEEDED");
                    command["command_result"] = json!({
                        format!("{kind}_step"): asked.1["step"], format!("{kind}_result"): inside.result,
                    });
                }
            }
        }
        let list = json!({"commands": inside.commands});
        return Ok(Response::new(Full::from(list.to_string())));
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let name = body["name"].as_str().unwrap().to_owned();
    let short = name.rsplit('.').next().unwrap().to_owned();
    let kind = name.split('.').next().unwrap().to_owned();
    inside.started.push((name, body["params"].clone()));
    let id = format!("id{}", inside.started.len());
    let mut command = json!({"id": id, "command_name": short, "command_status": "SUCCEEDED",
        "command_error": null, "command_result": null});
    if short == "get_partition_uuids" {
        command["command_result"] = inside.result.clone();
    } else if short.starts_with("get_") {
        command["command_result"] =
            json!({format!("{kind}_steps"): inside.offers, "hardware_manager_version": inside.version});
    } else if short == "collect_system_logs" {
        command["command_result"] = json!({"system_logs": "bG9ncw=="});
    } else if short.starts_with("execute_") {
        let fits = body["params"][format!("{kind}_version")] == inside.version;
        command["command_status"] = json!(if fits { "RUNNING" } else { "CLEAN_VERSION_MISMATCH" });
    }
    inside.commands.push(command.clone());
    if inside.lose > 0 {
        inside.lose -= 1;
        return Err(std::io::Error::other("the answer is lost"));
    }
    Ok(Response::new(Full::from(command.to_string())))
}
