//! Kept answers and made ones are the same, whoever asks, and never older than what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use actix_web::test::TestRequest;
use actix_web::{HttpResponse, ResponseError as _, body, rt};
use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection as _};
use ferric_actors::{Directory, Settings};
use ferric_drivers::boot::FakeBoot;
use ferric_drivers::deploy::FakeDeploy;
use ferric_drivers::fakes::{self, FakeDelays};
use ferric_drivers::interface::{BootInterface, DeployInterface, ManagementInterface, PowerInterface};
use ferric_drivers::management::FakeManagement;
use ferric_drivers::power::FakePower;
use ferric_drivers::protocol::dhcp::PortIndex;
use ferric_drivers::{Parts, Registry, RegistrySettings};
use ferric_machine::Timestamp;
use ferric_schema::allocations::{self, Allocation};
use ferric_schema::changes::LOOK_EVERY;
use ferric_schema::{JsonText, Store, StoreError, StoreOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::operations::{Method, of_path};
use crate::policy::{Caller, Identity, Policy};
use crate::server::{Streams, WebSettings};
use crate::version::Version;

/// Two ways to ask one Ferric: with kept answers and without.
struct Both {
    kept: Data<WebState>,
    plain: Data<WebState>,
    callers: Vec<Caller>,
    _streams: [Streams; 2],
    folder: tempfile::TempDir,
}

async fn directory(folder: &tempfile::TempDir) -> Directory {
    let path = folder.path().join("ferric.sqlite");
    let store = Store::open(&StoreOptions::new(path.to_str().expect("UTF-8"))).expect("a database");
    let mut parts = Parts {
        power: BTreeMap::from([("fake", Arc::new(FakePower) as Arc<dyn PowerInterface>)]),
        management: BTreeMap::from([("fake", Arc::new(FakeManagement) as Arc<dyn ManagementInterface>)]),
        boot: BTreeMap::from([("fake", Arc::new(FakeBoot) as Arc<dyn BootInterface>)]),
        deploy: BTreeMap::from([("fake", Arc::new(FakeDeploy) as Arc<dyn DeployInterface>)]),
        ..Parts::default()
    };
    fakes::install(&mut parts, &FakeDelays::default());
    let types = vec!["fake-hardware".to_owned()];
    let names = RegistrySettings { hardware_types: types, ..RegistrySettings::default() };
    let registry = Arc::new(Registry::new(names, parts).expect("a registry"));
    let settings = Settings { host: "here".into(), ..Settings::default() };
    Directory::start(settings, store, registry, Arc::new(PortIndex::default())).await.expect("a directory")
}

impl Both {
    async fn start() -> Both {
        Both::with(WebSettings::default().kept_answers).await
    }

    async fn with(most: usize) -> Both {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = directory(&folder).await;
        let state = |kept_answers| {
            let (state, streams) =
                WebState::new(directory.clone(), WebSettings { kept_answers, ..WebSettings::default() });
            (Data::new(state), streams)
        };
        let ((kept, one), (plain, other)) = (state(most), state(0));
        let callers = callers(&folder);
        Both { kept, plain, callers, _streams: [one, other], folder }
    }

    fn store(&self) -> &Store {
        self.kept.directory.store()
    }

    async fn put(&self, name: &str) -> Uuid {
        let mut node = Node::new(Uuid::new_v4(), "fake-hardware", Timestamp(0));
        node.name = Some(name.to_owned());
        node.driver_info = object(serde_json::json!({"ipmi_address": "h", "ipmi_password": "hunter2"}));
        node.instance_info = object(serde_json::json!({"configdrive": "secret"}));
        node.last_error = Some("it broke".into());
        node.reservation = Some("here".into());
        self.store().write(move |c| nodes::insert(c, &node)).await.expect("it is stored").uuid
    }

    /// Both answers to one question.
    async fn ask(&self, how: &Question) -> (Told, Told) {
        (how.ask(&self.kept, &self.callers).await, how.ask(&self.plain, &self.callers).await)
    }
}

fn object(value: serde_json::Value) -> JsonText {
    value.as_object().expect("an object").into()
}

/// Everyone who sees something else: of the whole system, of projects that own or lease, with policies and without.
fn callers(folder: &tempfile::TempDir) -> Vec<Caller> {
    let file = folder.path().join("policy.yaml");
    let mut text = std::fs::File::create(&file).expect("a file");
    writeln!(text, "\"show_password\": \"role:auditor\"\n\"show_instance_secrets\": \"role:member\"")
        .expect("it is written");
    let usual = Arc::new(Policy::load(None, None).expect("the table"));
    let other = Arc::new(Policy::load(Some(&file), None).expect("the file"));
    let mut all = vec![Caller::Admin, Caller::User("anna".into())];
    for policy in [usual, other] {
        for project in [None, Some("p1"), Some("p2")] {
            for roles in [&["reader"][..], &["member", "reader"], &["admin"], &["auditor", "reader"], &[]] {
                let identity = Identity {
                    user_id: Some("u".into()),
                    project_id: project.map(str::to_owned),
                    system_scope: project.is_none().then(|| "all".to_owned()),
                    is_admin_project: true,
                    roles: roles.iter().map(|role| (*role).to_owned()).collect::<BTreeSet<_>>(),
                    ..Identity::default()
                };
                all.push(Caller::Token { identity: Arc::new(identity), policy: Arc::clone(&policy) });
            }
        }
    }
    all
}

#[derive(Clone, Debug)]
struct Question {
    ident: String,
    query: String,
    version: u16,
    caller: usize,
    base: &'static str,
}

/// Status, headers, body.
type Told = (u16, Vec<(String, String)>, Bytes);

impl Question {
    fn of(ident: impl ToString) -> Question {
        Question {
            ident: ident.to_string(),
            query: String::new(),
            version: 115,
            caller: 0,
            base: "http://h:1",
        }
    }

    async fn ask(&self, state: &Data<WebState>, callers: &[Caller]) -> Told {
        let operation = of_path("/nodes/{ident}").into_iter().find(|row| row.method == Method::GET);
        let context = Context {
            version: Version(self.version),
            base: self.base.into(),
            caller: callers[self.caller].clone(),
            operation,
        };
        let uri = format!("/v1/nodes/{}?{}", self.ident, self.query);
        let request = TestRequest::with_uri(&uri).to_http_request();
        let response: HttpResponse =
            match show(request, Path::from(self.ident.clone()), context, state.clone()).await {
                Ok(response) => response,
                Err(error) => error.error_response(),
            };
        let text = |value: &actix_web::http::header::HeaderValue| value.to_str().expect("text").to_owned();
        let headers =
            response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let status = response.status().as_u16();
        (status, headers, body::to_bytes(response.into_body()).await.expect("a whole body"))
    }
}

#[test]
fn every_version_and_caller_is_told_the_same_whether_the_answer_was_kept_or_not() {
    rt::System::new().block_on(async {
        let both = Both::start().await;
        let node = both.put("one").await;
        both.store()
            .write(move |c| {
                nodes::set_traits(c, node, &["CUSTOM_A".into()])?;
                let row = nodes::get(c, node)?.expect("it is there");
                let row = Node { owner: Some("p1".into()), lessee: Some("p2".into()), ..row };
                nodes::advance(c, &row, Timestamp(5))
            })
            .await
            .expect("it is stored");
        let mut bodies = BTreeSet::new();
        for version in 1..=Version::MAX.0 {
            for caller in 0..both.callers.len() {
                // most of it does not depend on the version
                if version % 16 != 3 && caller > 2 {
                    continue;
                }
                for query in ["", "fields=uuid,driver_info", "fields=last_error,name&fields=extra", "x=y"] {
                    let how = Question { query: query.into(), version, caller, ..Question::of(node) };
                    let (first, made) = both.ask(&how).await;
                    assert_eq!(first, made, "{how:?}");
                    let (again, _) = both.ask(&how).await;
                    assert_eq!(again, made, "{how:?}");
                    bodies.insert(made.2);
                }
            }
        }
        assert!(bodies.len() > 50, "the callers and versions see {} things", bodies.len());
        assert!(both.kept.answers.found() > 1000, "{} answers were kept ones", both.kept.answers.found());
        assert_eq!(both.plain.answers.found(), 0);
    });
}

#[derive(Clone, Debug)]
enum Step {
    Ask(Question),
    Describe(usize, u8),
    Traits(usize, BTreeSet<u8>),
    Own(usize, Option<u8>, Option<u8>),
    Rename(usize, Option<u8>),
    Allocate(usize),
    Release(usize),
    Delete(usize),
    Create(usize),
    Fail(usize),
}

const NODES: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    let node = || 0..NODES;
    let query =
        prop::sample::select(vec!["", "fields=uuid,name,description", "fields=traits", "fields=nothing"]);
    let base = prop::sample::select(vec!["http://h:1", "https://other"]);
    let version = prop::sample::select(vec![4_u16, 52, 90, 115]);
    let ask = (node(), any::<bool>(), query, version, 0..32_usize, base).prop_map(
        |(node, by_name, query, version, caller, base)| {
            // the places of the nodes are put in later
            let ident = if by_name { format!("name {node}") } else { format!("id {node}") };
            Step::Ask(Question { ident, query: query.into(), version, caller, base })
        },
    );
    prop_oneof![
        12 => ask,
        3 => (node(), any::<u8>()).prop_map(|(node, text)| Step::Describe(node, text)),
        2 => (node(), prop::collection::btree_set(0..4_u8, 0..3)).prop_map(|(n, set)| Step::Traits(n, set)),
        2 => (node(), prop::option::of(0..3_u8), prop::option::of(0..3_u8)).prop_map(|(n, o, l)| Step::Own(n, o, l)),
        2 => (node(), prop::option::of(0..NODES as u8)).prop_map(|(n, name)| Step::Rename(n, name)),
        2 => node().prop_map(Step::Allocate),
        1 => node().prop_map(Step::Release),
        1 => node().prop_map(Step::Delete),
        2 => node().prop_map(Step::Create),
        1 => node().prop_map(Step::Fail),
    ]
}

/// Changes a node's row, if it is there; names that are taken are refused, which is a change that does not happen.
async fn change(store: &Store, node: Uuid, how: impl FnOnce(&mut Node) + Send + 'static) {
    let done = store
        .write(move |c| {
            let Some(mut row) = nodes::get(c, node)? else { return Ok(()) };
            how(&mut row);
            nodes::advance(c, &row, Timestamp(7)).map(|_| ())
        })
        .await;
    assert!(matches!(done, Ok(()) | Err(StoreError::Duplicate { .. })), "{done:?}");
}

async fn run(both: &Both, ids: &[Uuid], step: Step) -> std::result::Result<(), TestCaseError> {
    let store = both.store();
    let project = |number: Option<u8>| number.map(|number| format!("p{number}"));
    // of names in this case's own namespace
    let name = |number: u8| {
        format!("n{number}-{}.json", ids[0])
            .trim_end_matches(if number.is_multiple_of(2) { ".json" } else { "" })
            .to_owned()
    };
    match step {
        Step::Ask(mut how) => {
            let (kind, place) = how.ident.split_once(' ').expect("two words");
            let place: usize = place.parse().expect("a number");
            how.ident = match kind {
                "id" => ids[place].to_string(),
                _ => name(u8::try_from(place).expect("few")),
            };
            how.caller %= both.callers.len();
            let (kept, made) = both.ask(&how).await;
            prop_assert_eq!(&kept, &made, "{:?}", how);
            // and this one was kept, if it was one to be kept
            prop_assert_eq!(both.ask(&how).await.0, made, "again {:?}", how);
        }
        Step::Describe(node, text) => {
            change(store, ids[node], move |row| row.description = Some(format!("{text}"))).await
        }
        Step::Own(node, owner, lessee) => {
            let (owner, lessee) = (project(owner), project(lessee));
            change(store, ids[node], move |row| (row.owner, row.lessee) = (owner, lessee)).await;
        }
        Step::Rename(node, to) => {
            let to = to.map(name);
            change(store, ids[node], move |row| row.name = to).await;
        }
        Step::Traits(node, set) => {
            let (id, names) = (ids[node], set.iter().map(|n| format!("CUSTOM_{n}")).collect::<Vec<_>>());
            let _ = store.write(move |c| nodes::set_traits(c, id, &names)).await;
        }
        Step::Allocate(node) => {
            let id = ids[node];
            let row = Allocation { node_uuid: Some(id), ..Allocation::new(Uuid::new_v4(), Timestamp(0)) };
            // one each; nodes that are not there have none
            let _ = store.write(move |c| allocations::insert(c, &row)).await;
        }
        Step::Release(node) => {
            let id = ids[node];
            store.write(move |c| allocations::forget(c, id)).await.expect("it is written");
        }
        Step::Delete(node) => {
            let id = ids[node];
            let _ = store.write(move |c| nodes::delete(c, id)).await;
        }
        Step::Create(node) => {
            let row = Node::new(ids[node], "fake-hardware", Timestamp(3));
            let _ = store.write(move |c| nodes::insert(c, &row)).await;
        }
        Step::Fail(node) => {
            let id = ids[node];
            let failed = store
                .write(move |c| {
                    if let Some(row) = nodes::get(c, id)? {
                        let row = Node { description: Some("never".into()), ..row };
                        nodes::advance(c, &row, Timestamp(9))?;
                    }
                    Err::<(), _>(StoreError::Busy)
                })
                .await;
            assert!(failed.is_err());
        }
    }
    Ok(())
}

#[test]
fn whatever_is_written_between_the_kept_answer_is_the_one_that_would_be_made() {
    let system = rt::System::new();
    let both = system.block_on(Both::start());
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let tested = runner.run(&prop::collection::vec(step(), 20..80), |steps| {
        system.block_on(async {
            let ids: Vec<Uuid> = (0..NODES).map(|_| Uuid::new_v4()).collect();
            for id in ids.iter().copied() {
                let row = Node::new(id, "fake-hardware", Timestamp(0));
                both.store().write(move |c| nodes::insert(c, &row)).await.expect("it is stored");
            }
            for step in steps {
                run(&both, &ids, step).await?;
            }
            Ok(())
        })
    });
    tested.unwrap_or_else(|error| panic!("{error}"));
    assert!(both.kept.answers.found() > 20, "{} answers were kept ones", both.kept.answers.found());
}

#[test]
fn nobody_is_told_less_than_what_was_acknowledged_before_they_asked() {
    rt::System::new().block_on(async {
        const WRITERS: i64 = 4;
        const EACH: i64 = 60;
        let both = Arc::new(Both::start().await);
        let node = both.put("one").await;
        let store = both.store().clone();
        let (acknowledged, done) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicBool::new(false)));
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (store, acknowledged) = (store.clone(), Arc::clone(&acknowledged));
                rt::spawn(async move {
                    for _ in 0..EACH {
                        let write = store.write(move |c| {
                            let row = nodes::get(c, node)?.expect("it is there");
                            let count = row.generation + 1;
                            let row = Node { description: Some(count.to_string()), ..row };
                            nodes::advance(c, &row, Timestamp(1)).map(|row| row.generation)
                        });
                        acknowledged.fetch_max(write.await.expect("it is written"), SeqCst);
                    }
                })
            })
            .collect();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (both, acknowledged, done) =
                    (Arc::clone(&both), Arc::clone(&acknowledged), Arc::clone(&done));
                rt::spawn(async move {
                    let how = Question { query: "fields=description".into(), ..Question::of(node) };
                    let mut last = 0;
                    loop {
                        let finished = done.load(SeqCst);
                        let least = acknowledged.load(SeqCst).max(last);
                        let (status, _, body) = how.ask(&both.kept, &both.callers).await;
                        assert_eq!(status, 200);
                        let told: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                        let seen = told["description"].as_str().map_or(0, |n| n.parse().expect("a number"));
                        assert!(seen >= least, "{seen} is told, {least} was known");
                        last = seen;
                        if finished {
                            return last;
                        }
                        rt::task::yield_now().await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("it writes");
        }
        done.store(true, SeqCst);
        for reader in readers {
            assert_eq!(reader.await.expect("it reads"), WRITERS * EACH);
        }
        assert!(both.kept.answers.found() > 0);
    });
}

#[test]
fn what_another_process_wrote_while_nobody_asked_is_in_the_first_answer() {
    rt::System::new().block_on(async {
        let both = Both::start().await;
        let node = both.put("one").await;
        let path = both.folder.path().join("ferric.sqlite");
        let mut outside = SqliteConnection::establish(path.to_str().expect("UTF-8")).expect("the file");
        let how = Question { query: "fields=description".into(), ..Question::of(node) };
        let deadline = Instant::now() + Duration::from_secs(90);
        for round in 0..4 {
            // an answer is kept, and used
            let found = both.kept.answers.found();
            while both.kept.answers.found() == found {
                assert!(Instant::now() < deadline, "no answer is kept");
                assert_eq!(both.ask(&how).await.0.0, 200);
            }
            let begun = Instant::now();
            let write = format!("UPDATE nodes SET description = 'by hand {round}' WHERE uuid = '{node}'");
            outside.batch_execute(&write).expect("it is written");
            while begun.elapsed() <= LOOK_EVERY {
                rt::task::yield_now().await;
            }
            let (first, made) = both.ask(&how).await;
            assert_eq!(first, made, "round {round}");
        }
    });
}

#[test]
fn what_is_kept_stays_within_its_bounds() {
    rt::System::new().block_on(async {
        const MOST: usize = 100_000;
        let both = Both::with(MOST).await;
        let node = both.put("one").await;
        for number in 0..400 {
            let how = Question {
                query: format!("fields=uuid&fields=name{}", " ".repeat(number)),
                ..Question::of(node)
            };
            let how = Question { query: how.query.replace(' ', "+"), ..how };
            let (kept, made) = both.ask(&how).await;
            assert_eq!((kept.0, &kept), (200, &made));
        }
        let weight = both.kept.answers.weight();
        assert!(weight > 0 && weight <= MOST as u64, "{weight}");
        assert!(both.folder.path().exists());
    });
}
