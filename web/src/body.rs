//! Reading request bodies within limits (api.md §1 "Body limits").

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::{FromRequest, HttpRequest};
use futures_util::{Stream, StreamExt};
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::check::not_of_type;
use crate::error::{ApiError, Result};
use crate::gates::{Arg, Below};
use crate::nearest::{did_you_mean, ended};
use crate::version::Version;

/// From this size on a body is made a tree of beside few others only.
const LARGE: usize = 1 << 20;

/// The turns of large bodies that have come whole: a tree is many times their size.
static TURNS: Semaphore = Semaphore::const_new(4);

/// Bytes of a body that are not counted: those of nearly every request.
const UNCOUNTED: usize = 64 * 1024;

/// Bytes of bodies under way from callers that had to say who they are, beyond [`UNCOUNTED`] each.
static KNOWN: Semaphore = Semaphore::const_new(128 << 20);

/// The same of those that anybody may call: they take nothing away from the others.
static PUBLIC: Semaphore = Semaphore::const_new(64 << 20);

/// How long any body may take.
const AT_LEAST: Duration = Duration::from_secs(30);

/// What comes slower than this for longer than [`AT_LEAST`] is given up, in bytes per second.
const SLOWEST: usize = 128 * 1024;

/// How long a body waits for others to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// How deep objects and arrays may be nested.
const MAX_DEPTH: usize = 25;

/// A JSON body of at most `KIB` kibibytes; `None` when there is none. With the places that its bytes had on their way,
/// which it has until it is taken.
pub(crate) struct Body<const KIB: usize = 1024>(pub(crate) Option<Value>, Held);

/// The places of a body's bytes, for who holds what came of it for long. Given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held(#[allow(dead_code)] Option<SemaphorePermit<'static>>); // held, never read

impl<const KIB: usize> FromRequest for Body<KIB> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let announced = announced.and_then(|value| value.parse::<usize>().ok()).unwrap_or(0);
        let room =
            if crate::auth::is_public(request.path(), request.query_string()) { &PUBLIC } else { &KNOWN };
        let payload = payload.take();
        Box::pin(async move {
            if announced > KIB * 1024 {
                return Err(ApiError::body_too_large(KIB));
            }
            let (bytes, held) = gather(payload, KIB, room).await?;
            let whole = |value| Body(value, Held(held));
            if bytes.len() <= LARGE {
                return parse(&bytes).map(whole);
            }
            let _turn = TURNS.acquire().await.expect("the semaphore is never closed");
            let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
            parsed.map_err(|_| ApiError::internal("a request body could not be read"))?.map(whole)
        })
    }
}

/// The bytes of a body of at most `kib` kibibytes, and their places in `room`. It holds no more places than bytes that
/// have come, and not for long: who sends nothing keeps nobody out.
async fn gather<E>(
    mut payload: impl Stream<Item = std::result::Result<actix_web::web::Bytes, E>> + Unpin,
    kib: usize,
    room: &'static Semaphore,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'static>>)> {
    let (begun, mut bytes, mut held) = (Instant::now(), Vec::new(), None::<SemaphorePermit<'static>>);
    loop {
        let late = begun + AT_LEAST + Duration::from_secs((bytes.len() / SLOWEST) as u64);
        let chunk = match timeout_at(late, payload.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(_))) => {
                return Err(ApiError::bad_request("The request body ended before its length."));
            }
            Ok(None) => return Ok((bytes, held)),
            Err(_) => {
                return Err(ApiError::bad_request(
                    "The request body came too slowly and was given up. Send it again, over a faster way.",
                ));
            }
        };
        if bytes.len() + chunk.len() > kib * 1024 {
            return Err(ApiError::body_too_large(kib));
        }
        bytes.extend_from_slice(&chunk);
        let counted = bytes.len().saturating_sub(UNCOUNTED);
        let more = counted - held.as_ref().map_or(0, SemaphorePermit::num_permits);
        if more > 0 {
            let more = u32::try_from(more).expect("bodies are smaller than that");
            let Ok(places) = tokio::time::timeout(PATIENCE, room.acquire_many(more)).await else {
                return Err(ApiError::busy("Too many large request bodies are under way; come again later."));
            };
            let places = places.expect("the semaphore is never closed");
            match &mut held {
                Some(held) => held.merge(places),
                None => held = Some(places),
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Value>> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    if too_deep(bytes) {
        return Err(ApiError::body_too_deep(MAX_DEPTH));
    }
    let value = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(format!(
            "The request body is not JSON: line {}, column {}.",
            error.line(),
            error.column()
        ))
    })?;
    if has_nul(&value) {
        return Err(ApiError::bad_request(
            "The request body has a NUL character, which no database can hold.",
        ));
    }
    Ok(Some(value))
}

/// Whether a string or key anywhere in it has a NUL character: PostgreSQL stores none.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(key, inner)| key.contains('\0') || has_nul(inner)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether brackets outside strings are nested deeper than allowed.
fn too_deep(bytes: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

impl<const KIB: usize> Body<KIB> {
    /// The places, to be held for longer than the body.
    pub(crate) fn hold(&mut self) -> Held {
        std::mem::take(&mut self.1)
    }

    /// The body as an object; an absent body, or null, is an empty one.
    pub(crate) fn object(self) -> Result<Map<String, Value>> {
        self.object_of("body")
    }

    /// The same of a body that describes a `noun`.
    pub(crate) fn object_of(self, noun: &str) -> Result<Map<String, Value>> {
        match self.0 {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_))) => {
                let remedy = "Send a JSON object as the body of the request.";
                Err(ApiError::bad_request(not_of_type(noun, &value, "'object'", remedy)))
            }
        }
    }

    /// The body as an object whose keys are `allowed` and known to `version`.
    pub(crate) fn arguments(self, allowed: &'static [Arg], version: Version) -> Result<Map<String, Value>> {
        // what is no object has no arguments, as in Ironic
        let map = match self.0 {
            Some(Value::Object(map)) => map,
            Some(_) | None => Map::new(),
        };
        check_names(map.iter().filter(|(_, v)| !v.is_null()).map(|(k, _)| k.as_str()), allowed, version)
            .map_err(not_recognised)?;
        Ok(map)
    }
}

/// What is too new in a body is no query parameter.
fn not_recognised(error: ApiError) -> ApiError {
    let text = error.to_string();
    match text.strip_prefix("Invalid query parameter ?").and_then(|rest| rest.split_once(':')) {
        Some((name, rest)) => {
            let fields = match name {
                "agent_status" | "agent_status_message" => {
                    "Fields \"agent_status\" and \"agent_status_message\" not recognised.".to_owned()
                }
                "agent_verify_ca" => format!("Field \"{name}\" not recognised in this version"),
                _ => format!("Field \"{name}\" not recognised"),
            };
            ApiError::bad_request(format!("{fields}:{rest}"))
        }
        None => error,
    }
}

/// Refuses names that are not in `allowed` (400) or newer than `version` (as their gate says).
pub(crate) fn check_names<'a>(
    names: impl Iterator<Item = &'a str>,
    allowed: &'static [Arg],
    version: Version,
) -> Result<()> {
    let mut unexpected: Vec<&str> = Vec::new();
    for name in names {
        match allowed.iter().find(|arg| arg.name == name) {
            None => unexpected.push(name),
            Some(arg) if version.has(arg.since) => {}
            Some(arg) => return Err(below(arg.below, &format!("'{name}'"), arg.since, version)),
        }
    }
    if unexpected.is_empty() {
        return Ok(());
    }
    let known = allowed.iter().filter(|arg| version.has(arg.since)).map(|arg| arg.name);
    let hint = ended(did_you_mean(unexpected[0], known));
    Err(ApiError::bad_request(format!("Unexpected arguments: {}{hint}", unexpected.join(", "))))
}

/// What `version` gets for something that came with `since`.
pub(crate) fn below(below: Below, what: &str, since: u16, version: Version) -> ApiError {
    match below {
        Below::NotAcceptable => ApiError::too_new(what, since, version),
        Below::BadRequest => ApiError::bad_request(format!(
            "Invalid query parameter ?{}: it needs API version 1.{since} or newer, this request uses {version}.",
            what.trim_matches('\'')
        )),
        Below::NotFound => ApiError::path_too_new(since, version),
        Below::Unsupported => ApiError::not_found(format!(
            "The API is not supported for this version: it came with 1.{since}, this request uses {version}."
        )),
        Below::MethodNotAllowed => ApiError::method_too_new(since, version),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::web::Bytes;
    use futures_util::stream;

    use super::*;

    type Chunk = std::result::Result<Bytes, ()>;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up_and_leaves_its_places() {
        static ROOM: Semaphore = Semaphore::const_new(2 << 20);
        let stalled = || {
            let first: Chunk = Ok(Bytes::from(vec![b' '; 1 << 20]));
            Box::pin(stream::iter([first]).chain(stream::pending()))
        };
        let begun = Instant::now();
        let refused = gather(stalled(), 16 * 1024, &ROOM).await.map(drop).expect_err("given up");
        assert!(refused.to_string().contains("too slowly"), "{refused}");
        assert!(begun.elapsed() >= AT_LEAST && begun.elapsed() < AT_LEAST * 2);
        assert_eq!(ROOM.available_permits(), 2 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_come_is_counted_and_what_does_not_fit_is_put_off() {
        static ROOM: Semaphore = Semaphore::const_new(1 << 20);
        let all = |size: usize| stream::iter([Chunk::Ok(Bytes::from(vec![b' '; size]))]);
        let (bytes, held) = gather(all(1 << 20), 1024, &ROOM).await.expect("it fits");
        assert_eq!((bytes.len(), ROOM.available_permits()), (1 << 20, UNCOUNTED));
        let refused = gather(all(1 << 20), 1024, &ROOM).await.map(drop).expect_err("put off");
        assert!(refused.to_string().contains("come again"), "{refused}");
        gather(all(UNCOUNTED), 1024, &ROOM).await.map(drop).expect("small ones are not counted");
        drop(held);
        gather(all(1 << 20), 1024, &ROOM).await.map(drop).expect("there is room again");
        assert!(gather(all((1 << 20) + 1), 1024, &ROOM).await.is_err(), "larger than it may be");
    }

    #[tokio::test]
    async fn a_body_keeps_its_places_for_who_holds_them() {
        let all = PUBLIC.available_permits();
        let text = format!("{{\"a\": \"{}\"}}", "x".repeat(2 * UNCOUNTED));
        let request = actix_web::test::TestRequest::post().uri("/v1/continue_inspection").set_payload(text);
        let (request, mut payload) = request.to_http_parts();
        let mut body = Body::<1024>::from_request(&request, &mut payload).await.expect("a body");
        let held = body.hold();
        assert_eq!(body.object().expect("an object").len(), 1);
        assert!(PUBLIC.available_permits() <= all - UNCOUNTED);
        drop(held);
        assert_eq!(PUBLIC.available_permits(), all);
    }

    #[test]
    fn nesting_counts_outside_strings_only() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(!too_deep(deep(25).as_bytes()));
        assert!(too_deep(deep(26).as_bytes()));
        assert!(!too_deep(format!("\"{}\"", deep(30)).as_bytes()));
        assert!(!too_deep(format!("[\"\\\"{}\"]", deep(30)).as_bytes()));
        assert!(parse(b" \n").is_ok_and(|body| body.is_none()));
        assert!(parse(b"{\"a\":").is_err());
    }
}
