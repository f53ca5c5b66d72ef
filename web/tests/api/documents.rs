//! What the API tells of itself: `/openapi.json`, `/docs`; and refusals that say what to do.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Server;

#[tokio::test]
async fn the_document_describes_the_version_that_is_asked_for() {
    let server = Server::start();
    let newest = server.unversioned().get("/openapi.json").await.is(200);
    assert_eq!(
        (newest["openapi"].as_str(), newest["info"]["x-microversion"].as_str()),
        (Some("3.1.0"), Some("1.115"))
    );
    assert_eq!(newest["servers"][0]["url"], Value::from(server.base.clone()));
    assert!(newest["paths"]["/v1/nodes/{ident}"]["get"].is_object());
    let old = server.unversioned().get("/openapi.json?microversion=1.31").await.is(200);
    assert!(old["paths"]["/v1/runbooks"].is_null() && old["paths"]["/v1/portgroups"].is_object());
    assert!(
        server.unversioned().get("/openapi.json?microversion=2.0").await.fails(400).contains("[1.1, 1.115]")
    );
}

#[tokio::test]
async fn a_pinned_server_describes_no_more_than_it_serves() {
    let server = Server::with(|settings| settings.pin = ferric_web::version::of_release("18.2"));
    let newest = server.unversioned().get("/openapi.json").await.is(200);
    assert_eq!(newest["info"]["x-microversion"], "1.78");
    assert!(
        newest["paths"]["/v1/shards"].is_null() && newest["paths"]["/v1/nodes/{ident}/history"].is_object()
    );
    assert!(
        server.unversioned().get("/openapi.json?microversion=1.79").await.fails(400).contains("[1.1, 1.78]")
    );
}

#[tokio::test]
async fn the_page_needs_nobody_else() {
    let server = Server::start();
    let page = server.unversioned().raw(Method::GET, "/docs").send().await.expect("a page");
    let policy = page.headers()["content-security-policy"].to_str().expect("a policy").to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let text = page.text().await.expect("text");
    assert!(text.contains("<title>Ferric") && !text.contains("/*CSS*/") && !text.contains("/*JS*/"));
    for outside in ["http://", "https://", "src="] {
        assert!(!text.contains(outside), "{outside}");
    }
}

#[tokio::test]
async fn a_method_that_a_path_lacks_is_told_which_it_has() {
    let server = Server::start();
    for (minor, method, path, allowed) in [
        (115, Method::PUT, "/v1/nodes", "GET, POST"),
        (115, Method::HEAD, "/v1/nodes", "GET, POST"),
        (36, Method::PUT, "/v1/nodes/x/traits", ""),
        (91, Method::POST, "/v1/runbooks", ""),
    ] {
        let answer = server.at(minor).send(method.clone(), path, None).await;
        assert_eq!(answer.status.as_u16(), 405, "{method} {path}");
        let told = answer.header("allow").expect("what is allowed");
        assert_eq!(told, allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn a_slip_is_told_what_was_probably_meant() {
    let server = Server::start();
    let client = server.at(115);
    for (path, meant) in [
        ("/v1/nodes?provison_state=active", "'provision_state'"),
        ("/v1/nodes?fields=uuid,drivr", "'driver'"),
        ("/v1/nodes?sort_key=provision_stat", "'provision_state'"),
        ("/v1/ports?fields=adress", "'address'"),
    ] {
        let text = client.get(path).await.fails(400);
        assert!(text.contains(&format!("Did you mean {meant}?")), "{path}: {text}");
    }
    let text =
        client.post("/v1/nodes", json!({"driver": "fake-hardware", "resource_clas": "x"})).await.fails(400);
    assert!(text.contains("Did you mean 'resource_class'?"), "{text}");
    let text = client.post("/v1/nodes", json!({"driver": "fake-hardwere"})).await.fails(400);
    assert!(
        text.starts_with("No valid host was found.") && text.contains("Did you mean 'fake-hardware'?"),
        "{text}"
    );
    let text = client.get("/v1/nodes/nobody").await.fails(404);
    assert!(text.starts_with("Node nobody could not be found") && text.contains("GET /v1/nodes"), "{text}");
    let text = server.at(1).get("/v1/nodes/nobody").await.fails(404);
    assert!(text.contains("since API version 1.5"), "{text}");
}

#[tokio::test]
async fn what_a_state_does_not_allow_is_told_with_what_it_does() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.post("/v1/nodes", json!({"driver": "fake-hardware"})).await.is(201);
    let path = format!("/v1/nodes/{}/states/provision", node["uuid"].as_str().expect("an id"));
    let text = client.put(&path, json!({"target": "active"})).await.fails(400);
    assert!(
        text.contains("while it is in state \"enroll\"") && text.contains("Possible there: manage"),
        "{text}"
    );
    let text = client.put(&path, json!({"target": "manege"})).await.fails(400);
    assert!(text.contains("Did you mean 'manage'?"), "{text}");
}
