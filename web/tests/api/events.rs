use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Server};

/// A stream of events under way.
struct Follower {
    response: reqwest::Response,
    text: String,
}

/// One of them.
#[derive(Debug)]
struct Message {
    id: Option<i64>,
    event: Option<String>,
    data: Value,
}

impl Follower {
    async fn start(client: &Client, path: &str, last: Option<i64>) -> Follower {
        let mut request = client.raw(Method::GET, path);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last.to_string());
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status().as_u16(), 200);
        let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok());
        assert!(kind.is_some_and(|kind| kind.starts_with("text/event-stream")), "{kind:?}");
        Follower { response, text: String::new() }
    }

    /// The next one that has data.
    async fn next(&mut self) -> Message {
        let next = async {
            loop {
                while let Some((block, rest)) = self.text.split_once("\n\n") {
                    let field = |name: &str| {
                        block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
                    };
                    let message = field("data: ").map(|data| Message {
                        id: field("id: ").map(|id| id.parse().expect("a number")),
                        event: field("event: "),
                        data: serde_json::from_str(&data).expect("JSON"),
                    });
                    self.text = rest.to_owned();
                    if let Some(message) = message {
                        return message;
                    }
                }
                let chunk = self.response.chunk().await.expect("no error").expect("no end");
                self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8"));
            }
        };
        tokio::time::timeout(Duration::from_secs(20), next).await.expect("an event in time")
    }

    /// Reads until something is told of `node` that `wanted` likes; gives all that came.
    async fn until(&mut self, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        let mut all = Vec::new();
        loop {
            all.push(self.next().await);
            if wanted(all.last().expect("just pushed")) {
                return all;
            }
        }
    }
}

fn tells(message: &Message, word: &str) -> bool {
    message.data["text"].as_str().is_some_and(|text| text.contains(word))
        || message.data["data"].to_string().contains(word)
}

#[tokio::test]
async fn events_are_followed_live_and_taken_up_after_a_break() {
    let server = Server::start();
    let client = server.at(1);
    let mut live = Follower::start(&client, "/v1/ferric/events", None).await;
    let node = server.at(115).enrol(json!({})).await;
    server.at(115).provision(&node, "manage", "manageable").await;
    let seen = live.until(|message| message.id.is_some() && tells(message, "manageable")).await;
    let numbers: Vec<i64> = seen.iter().filter_map(|message| message.id).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "none is missed, none comes twice: {numbers:?}"
    );
    assert_eq!(numbers.first(), Some(&1), "the enrolment is told as well");
    assert!(seen.iter().all(|message| message.event.is_none()), "{seen:?}");
    assert!(seen.iter().all(|message| message.data["node_uuid"] == json!(node)));
    drop(live);

    // what happens while nobody listens
    server.at(115).provision(&node, "provide", "available").await;
    let last = *numbers.last().expect("some");
    let mut again = Follower::start(&client, "/v1/ferric/events?after=0", Some(last)).await;
    let missed = again.until(|message| tells(message, "available")).await;
    assert_eq!(missed[0].id, Some(last + 1), "the header wins over the query");

    let mut all = Follower::start(&client, "/v1/ferric/events?after=0", None).await;
    assert_eq!(all.next().await.id, Some(1));
}

#[tokio::test]
async fn events_are_filtered_by_node_and_kind() {
    let server = Server::start();
    let client = server.at(115);
    let (one, two) = (client.enrol(json!({"name": "one"})).await, client.enrol(json!({"name": "two"})).await);
    let mut of_two = Follower::start(&client, "/v1/ferric/events?node=two&after=0", None).await;
    client.provision("one", "manage", "manageable").await;
    client.provision("two", "manage", "manageable").await;
    let seen = of_two.until(|message| tells(message, "manageable")).await;
    assert!(seen.iter().all(|message| message.data["node_uuid"] == json!(two)), "{seen:?}");
    let mut created = Follower::start(&client, "/v1/ferric/events?kind=created,nothing&after=0", None).await;
    let (first, second) = (created.next().await, created.next().await);
    assert_eq!((&first.data["node_uuid"], &second.data["node_uuid"]), (&json!(one), &json!(two)));
    let last = client.enrol(json!({})).await;
    client.provision(&last, "manage", "manageable").await;
    assert_eq!(created.next().await.data["node_uuid"], json!(last), "nothing else came in between");
}

#[tokio::test]
async fn a_stream_is_refused_by_reason() {
    let server = Server::with(|settings| settings.event_streams = 1);
    let client = server.at(115);
    for bad in ["after=-1", "after=x", "tune=1"] {
        client.get(&format!("/v1/ferric/events?{bad}")).await.fails(400);
    }
    client.get("/v1/ferric/events?node=nobody").await.fails(404);
    let held = Follower::start(&client, "/v1/ferric/events", Some(1_000_000)).await;
    client.get("/v1/ferric/events").await.fails(503);
    drop(held);
}
