use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Answer, Server};

const MIN: &str = "x-openstack-ironic-api-minimum-version";
const MAX: &str = "x-openstack-ironic-api-maximum-version";
const GOT: &str = "x-openstack-ironic-api-version";

#[tokio::test]
async fn every_response_carries_its_versions_and_an_id() {
    let server = Server::start();
    for (path, minor, status, shown) in [
        ("/v1/nodes", 31, 200, Some("1.31")),
        ("/v1/nodes/", 31, 200, Some("1.31")),
        ("/nodes", 115, 200, Some("1.115")),
        ("/v1", 1, 200, Some("1.1")),
        ("/v1/", 1, 200, Some("1.1")),
        ("/", 1, 200, Some("1.1")),
        ("/v1/nodes/nothing", 115, 404, Some("1.115")),
        ("/v1/nothing", 115, 404, None),
        ("/v1/nodes", 116, 406, None),
    ] {
        let answer = server.at(minor).get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path} at 1.{minor}: {}", answer.body);
        assert_eq!(answer.header(MIN), Some("1.1"), "{path}");
        assert_eq!(answer.header(MAX), Some("1.115"), "{path}");
        assert_eq!(answer.header(GOT), shown, "{path} at 1.{minor}");
        let id = answer.header("openstack-request-id").expect("an id");
        assert!(id.starts_with("req-"), "{id}");
        assert_eq!(answer.header("x-openstack-request-id"), Some(id));
    }
}

#[tokio::test]
async fn a_version_out_of_range_names_the_range_in_shape_b() {
    let server = Server::start();
    let body = server.at(999).get("/v1/nodes").await.is(406);
    let inner: Value = serde_json::from_str(body["error_message"].as_str().expect("a string")).expect("JSON");
    assert_eq!((inner["code"].as_u64(), inner["title"].as_str()), (Some(406), Some("Not Acceptable")));
    let text = inner["description"].as_str().expect("a text");
    assert!(text.contains("[1.1, 1.115]"), "{text}");
}

#[tokio::test]
async fn a_pin_lowers_the_newest_version() {
    let server = Server::with(|settings| settings.pin = ferric_web::version::of_release("18.2"));
    assert!(server.at(79).get("/v1/nodes").await.fails(406).contains("1.78"));
    let root = server.at(78).get("/").await.is(200);
    assert_eq!(root["default_version"]["version"], "1.78");
    let latest = server
        .unversioned()
        .raw(Method::GET, "/v1/nodes")
        .header("OpenStack-API-Version", "baremetal latest");
    assert_eq!(Answer::of(latest).await.header(GOT), Some("1.78"));
}

#[tokio::test]
async fn the_documents_tell_what_there_is() {
    let server = Server::start();
    let base = &server.base;
    let version = json!({
        "id": "v1", "links": [{"href": format!("{base}/v1/"), "rel": "self"}], "status": "CURRENT",
        "min_version": "1.1", "version": "1.115",
    });
    let root = server.unversioned().get("/").await.is(200);
    assert_eq!(root["default_version"], version);
    assert_eq!(root["versions"], json!([version]));
    let old = server.unversioned().get("/v1").await.is(200);
    let new = server.at(115).get("/v1").await.is(200);
    assert_eq!(old["version"], version);
    assert!(old.get("conductors").is_none() && old.get("lookup").is_none() && old.get("ports").is_some());
    assert_eq!(new["conductors"][0]["href"], format!("{base}/v1/conductors/"));
    assert!(new.get("inspection_rules").is_some());
    // a version that there is none of is refused everywhere
    assert!(server.at(999).get("/").await.fails(406).contains("[1.1, 1.115]"));
    server.unversioned().get("/healthz").await.is(200);
    server.unversioned().get("/readyz").await.is(200);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_say_so() {
    let server = Server::start();
    let (new, old) = (server.at(115), server.at(1));
    for (method, path) in
        [(Method::PUT, "/v1/nodes"), (Method::POST, "/v1/drivers"), (Method::DELETE, "/v1/drivers")]
    {
        assert!(new.send(method, path, None).await.fails(405).contains("method"));
    }
    assert_eq!(new.send(Method::HEAD, "/v1/nodes", None).await.status, StatusCode::METHOD_NOT_ALLOWED);
    for (path, status) in [
        ("/v1/portgroups", 404),
        ("/v1/allocations", 404),
        ("/v1/conductors", 404),
        ("/v1/lookup?addresses=aa:bb:cc:00:11:22", 404),
        ("/v1/nodes/x/traits", 406),
    ] {
        old.get(path).await.fails(status);
    }
    old.post("/v1/allocations", json!({})).await.fails(405);
    old.post("/v1/heartbeat/x", json!({})).await.fails(404);
    assert!(new.get("/v1/nodes/x/foo").await.fails(400).contains("foo"), "an unknown sub-path is a field");
}

#[tokio::test]
async fn bodies_have_their_limits() {
    let server = Server::start();
    let client = server.at(115);
    let send = |body: String| Answer::of(client.raw(Method::POST, "/v1/nodes").body(body));
    assert!(send("{\"driver\": ".to_owned()).await.fails(400).contains("not JSON"));
    assert!(send("[]".to_owned()).await.fails(400).contains("object"));
    let deep = send(format!("{}{}", "[".repeat(26), "]".repeat(26))).await.is(400);
    assert_eq!(deep["faultcode"], "Client", "shape E is a plain object");
    let large = send(format!("\"{}\"", "x".repeat(1024 * 1024))).await.is(413);
    assert!(large["faultstring"].as_str().is_some_and(|text| text.contains("1024 KiB")));
}

#[tokio::test]
async fn unknown_arguments_are_refused_everywhere() {
    let server = Server::start();
    let new = server.at(115);
    for path in [
        "/v1/nodes?foo=1",
        "/v1/ports?foo=1",
        "/v1/drivers?foo=1",
        "/v1/conductors?foo=1",
        "/v1/nodes/x?foo=1",
    ] {
        assert_eq!(new.get(path).await.fails(400), "Unexpected arguments: foo", "{path}");
    }
    for (method, path) in [
        (Method::PUT, "/v1/nodes/x/states/power?foo=1"),
        (Method::PUT, "/v1/nodes/x/states/provision?foo=1"),
        (Method::PUT, "/v1/nodes/x/maintenance?foo=1"),
        (Method::POST, "/v1/heartbeat/x?foo=1"),
    ] {
        let told = new.send(method, path, Some(json!({}))).await.fails(400);
        assert_eq!(told, "Unexpected arguments: foo", "{path}");
    }
}

#[tokio::test]
async fn arguments_of_a_change_may_stand_in_its_query() {
    let server = Server::start();
    let client = server.at(115);
    let node = client.enrol(json!({})).await;
    let put = async |path: &str| client.send(Method::PUT, &format!("/v1/nodes/{node}/{path}"), None).await;
    put("maintenance?reason=dust").await.is(202);
    assert_eq!(client.get(&format!("/v1/nodes/{node}")).await.is(200)["maintenance_reason"], "dust");
    client.delete(&format!("/v1/nodes/{node}/maintenance")).await.is(202);
    put("states/provision?target=manage").await.is(202);
    client.until(&node, "provision_state", &json!("manageable")).await;
    put("states/power?target=power%20on&timeout=5").await.is(202);
    client.until(&node, "power_state", &json!("power on")).await;
    // the timeout came with 1.27
    let path = format!("/v1/nodes/{node}/states/power?target=power%20on&timeout=5");
    server.at(26).send(Method::PUT, &path, None).await.fails(406);
}

#[tokio::test]
async fn a_path_that_came_whole_has_no_methods_before() {
    let server = Server::start();
    for (minor, path) in [
        (91, "/v1/runbooks/x/traits"),
        (111, "/v1/runbooks/x/traits"),
        (23, "/v1/portgroups/x/ports"),
        (77, "/v1/nodes/x/history"),
    ] {
        for method in [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE] {
            server.at(minor).send(method, path, None).await.fails(404);
        }
    }
    // those that are refused in words of their own are there
    for path in ["/v1/nodes/x/states/boot_mode", "/v1/nodes/x/management/inject_nmi", "/v1/shards"] {
        server.at(1).send(Method::DELETE, path, None).await.fails(405);
    }
}

#[tokio::test]
async fn a_database_that_fails_is_not_told_as_nobody() {
    use diesel::RunQueryDsl;
    let server = Server::start();
    let client = server.at(115);
    let parent = client.enrol(json!({"name": "parent"})).await;
    let store = server.store();
    let gone = store.write(|conn| {
        diesel::sql_query("ALTER TABLE nodes RENAME TO nodes_away").execute(conn).expect("a table");
        Ok(())
    });
    gone.await.expect("written");
    let child = json!({"driver": "fake-hardware", "parent_node": "parent"});
    client.post("/v1/nodes", child).await.fails(500);
    client.get("/v1/nodes?parent_node=parent").await.fails(500);
    client.get(&format!("/v1/nodes/{parent}/allocation")).await.fails(500);
    client.get("/v1/allocations?node=parent").await.fails(500);
}

#[test]
fn a_port_in_use_is_told_with_its_remedy() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = held.local_addr().expect("an address");
    let started =
        actix::System::new().block_on(crate::world::start(listen, vec!["fake-hardware".to_owned()], |_| {}));
    let error = started.err().expect("the port is taken").to_string();
    assert!(error.contains(&listen.port().to_string()) && error.contains("api.port"), "{error}");
}
