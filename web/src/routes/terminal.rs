//! `GET /v1/ferric/nodes/{ident}/console`: a node's serial console over a WebSocket. One client types, all watch.
//!
//! Binary frames are the bytes of the line, both ways. Text frames are JSON: to the client `hello` (first), `role`, `state`,
//! `missed`, `error` and `closed`, from the client `take`, `release` and `break`. What the console showed before comes
//! first. Who does not ask with `write=true` only looks until he says `take`. A client that reads too slowly loses bytes, is
//! told how many, and holds up nobody.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONNECTION, HOST, HeaderMap, ORIGIN, UPGRADE};
use actix_web::web::{Bytes, Data, Path, Payload, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Session};
use ferric_actors::message::AttachConsole;
use ferric_actors::{Attachment, Told, Unheard};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, interval, sleep_until, timeout};
use uuid::Uuid;

use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::policy::Rule;
use crate::routes::at::exactly;
use crate::routes::found::find_for;
use crate::server::WebState;

/// The longest message of a client, bytes.
const LONGEST: usize = 64 * 1024;
/// How often a client is asked for a sign of life.
const PING: Duration = Duration::from_secs(15);
/// A client that is silent for so long is gone.
const GONE: Duration = Duration::from_secs(45);
/// How long a client may take for what it is sent.
const STALLED: Duration = Duration::from_secs(30);

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(exactly("/v1/ferric/nodes/{ident}/console").get(open));
}

/// What a client may say.
#[derive(Clone, Copy, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Asked {
    Take,
    Release,
    Break,
    /// A serial line has no size.
    Resize,
}

async fn open(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
    payload: Payload,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    let wants = args.bool("write")?.unwrap_or(false);
    let context = context.ungated();
    let node = find_for(&state, &context, &ident, Rule::NodeGetConsole).await?.uuid;
    let may_type = match find_for(&state, &context, &ident, Rule::NodeSetConsoleState).await {
        Ok(_) => true,
        Err(refusal) if wants => return Err(refusal),
        Err(_) => false,
    };
    let headers = request.headers();
    if !same_origin(headers, state.settings.public_endpoint.as_deref()) {
        return Err(ApiError::forbidden(
            "Pages of another site may not open a console: use the address of this API itself.",
        ));
    }
    if !wants_upgrade(headers) {
        return Err(ApiError::bad_request(
            "This is a WebSocket: ask with 'Connection: Upgrade' and 'Upgrade: websocket', as any WebSocket client does.",
        ));
    }
    let Ok(place) = state.streams.clone().try_acquire_owned() else {
        return Err(ApiError::busy(
            "As many clients as may follow events and consoles do so already; come again later.",
        ));
    };
    let attachment = state.directory.ask(node, AttachConsole { wants: wants && may_type }).await?;
    let (response, session, messages) = actix_ws::handle(&request, payload)
        .map_err(|error| ApiError::bad_request(format!("This is no WebSocket handshake: {error}.")))?;
    let messages = messages.max_frame_size(LONGEST).aggregate_continuations().max_continuation_size(LONGEST);
    let client = Client {
        path: request.path().to_owned(),
        headers: headers.clone(),
        peer: request.peer_addr().map(|addr| addr.ip()),
        context,
        node,
        ident: ident.into_inner(),
        may_type,
        attachment,
        stop: state.stop.clone(),
        state,
        _place: place,
    };
    actix_web::rt::spawn(client.serve(session, messages));
    Ok(response)
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        headers
            .get_all(name)
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, "websocket")
}

/// Browsers let any page open a WebSocket anywhere, with what they remember of the user; they say which page it was.
fn same_origin(headers: &HeaderMap, public: Option<&str>) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    let authority = |url: &str| {
        let rest = url.split_once("://").map(|(_, rest)| rest)?;
        Some(rest.split(['/', '?', '#']).next().unwrap_or(rest).to_ascii_lowercase())
    };
    let Some(from) = authority(origin) else { return false };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
    host.is_some_and(|host| host == from) || public.and_then(authority).is_some_and(|public| public == from)
}

/// Someone at a console.
struct Client {
    path: String,
    headers: HeaderMap,
    peer: Option<std::net::IpAddr>,
    context: Context,
    node: Uuid,
    ident: String,
    may_type: bool,
    attachment: Attachment,
    stop: watch::Receiver<()>,
    state: Data<WebState>,
    _place: OwnedSemaphorePermit,
}

/// Why a client is let go.
type Ended = Option<(CloseCode, &'static str)>;

impl Client {
    async fn serve(mut self, session: Session, mut messages: AggregatedMessageStream) {
        let mut stop = self.stop.clone();
        let alive = watch::Sender::new(Instant::now());
        let (context, attachment) = (self.context.clone(), &self.attachment);
        let door = Door {
            path: &self.path,
            headers: &self.headers,
            peer: self.peer,
            ident: &self.ident,
            node: self.node,
            state: &self.state,
        };
        let ended = tokio::select! {
            _ = stop.changed() => Some((CloseCode::Away, "Ferric is shutting down")),
            ended = listen(&mut messages, session.clone(), attachment, self.may_type, &alive) => ended,
            ended = show(session.clone(), attachment) => ended,
            ended = keep(session.clone(), &alive) => ended,
            ended = door.watch(context) => ended,
        };
        tracing::debug!(node = %self.node, ?ended, "a console client leaves");
        let reason = ended.map(|(code, text)| CloseReason { code, description: Some(text.to_owned()) });
        let _ = timeout(STALLED, session.close(reason)).await;
        self.stop.mark_unchanged();
    }
}

async fn say(session: &mut Session, what: Value) -> bool {
    matches!(timeout(STALLED, session.text(what.to_string())).await, Ok(Ok(())))
}

/// What the client says goes to the line.
async fn listen(
    messages: &mut AggregatedMessageStream,
    mut session: Session,
    attachment: &Attachment,
    may_type: bool,
    alive: &watch::Sender<Instant>,
) -> Ended {
    while let Some(message) = messages.next().await {
        alive.send_replace(Instant::now());
        let refusal = match message {
            Ok(AggregatedMessage::Binary(data)) => write(attachment, data).await,
            Ok(AggregatedMessage::Text(text)) => match serde_json::from_str(&text) {
                Ok(Asked::Take) if !may_type => Err("policy does not let you type here".to_owned()),
                Ok(Asked::Take) => {
                    attachment.take();
                    Ok(())
                }
                Ok(Asked::Release) => {
                    attachment.release();
                    Ok(())
                }
                Ok(Asked::Break) => attachment.send_break().await.map_err(|error| error.to_string()),
                Ok(Asked::Resize) => Ok(()),
                Err(_) => Err("text frames are JSON: {\"type\": \"take\"}, release or break".to_owned()),
            },
            Ok(AggregatedMessage::Ping(data)) => {
                if session.pong(&data).await.is_err() {
                    return None;
                }
                Ok(())
            }
            Ok(AggregatedMessage::Pong(_)) => Ok(()),
            Ok(AggregatedMessage::Close(_)) => return None,
            Err(_) => return Some((CloseCode::Protocol, "a frame is malformed or too long")),
        };
        if let Err(text) = refusal
            && !say(&mut session, json!({"type": "error", "text": text})).await
        {
            return None;
        }
    }
    None
}

async fn write(attachment: &Attachment, data: Bytes) -> std::result::Result<(), String> {
    match attachment.write(data).await {
        Ok(()) => Ok(()),
        Err(why @ (Unheard::Watching | Unheard::Offline | Unheard::Closed)) => Err(why.to_string()),
    }
}

/// What the console shows goes to the client.
async fn show(mut session: Session, attachment: &Attachment) -> Ended {
    let mut greeted = false;
    loop {
        let sent = match attachment.next().await {
            Told::Bytes(data) => matches!(timeout(STALLED, session.binary(data)).await, Ok(Ok(()))),
            Told::Role { writer, watchers } => {
                let kind = if std::mem::replace(&mut greeted, true) { "role" } else { "hello" };
                say(&mut session, json!({"type": kind, "writer": writer, "watchers": watchers})).await
            }
            Told::State(text) => say(&mut session, json!({"type": "state", "text": &*text})).await,
            Told::Missed(bytes) => say(&mut session, json!({"type": "missed", "bytes": bytes})).await,
            Told::Closed(why) => {
                say(&mut session, json!({"type": "closed", "text": &*why})).await;
                return Some((CloseCode::Away, "the console is closed"));
            }
        };
        if !sent {
            return Some((CloseCode::Policy, "too slow"));
        }
    }
}

/// Asks for signs of life; ends when there are none.
async fn keep(mut session: Session, alive: &watch::Sender<Instant>) -> Ended {
    let mut tick = interval(PING);
    loop {
        tick.tick().await;
        if alive.borrow().elapsed() > GONE || session.ping(b"").await.is_err() {
            return Some((CloseCode::Away, "no sign of life"));
        }
    }
}

/// Who the client said he is.
struct Door<'a> {
    path: &'a str,
    headers: &'a HeaderMap,
    peer: Option<std::net::IpAddr>,
    ident: &'a str,
    node: Uuid,
    state: &'a WebState,
}

impl Door<'_> {
    /// Ends when the client would not be let in any more: its token has ended, its user is gone, a policy has changed, the
    /// node is another's.
    async fn watch(&self, mut context: Context) -> Ended {
        const OUT: Ended = Some((CloseCode::Policy, "not let in any more"));
        loop {
            sleep_until(Instant::now() + self.state.settings.event_admission).await;
            match self.state.settings.auth.admit(self.path, "", self.headers, self.peer).await {
                Ok(caller) => context.caller = caller,
                Err(denial) => {
                    tracing::info!(%denial, "a console client is not let in any more");
                    return OUT;
                }
            }
            match find_for(self.state, &context, self.ident, Rule::NodeGetConsole).await {
                Ok(node) if node.uuid == self.node => {}
                // the database may be away for a moment; the console is not
                Err(error) if error.status_code() == StatusCode::SERVICE_UNAVAILABLE => {}
                Ok(_) | Err(_) => return OUT,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn pages_of_another_site_are_told_from_ours() {
        let is_ours = |origin: Option<&'static str>, public: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("ironic.example:6385"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            same_origin(&headers, public)
        };
        assert!(is_ours(None, None), "no browser");
        assert!(is_ours(Some("http://Ironic.example:6385"), None));
        assert!(!is_ours(Some("http://ironic.example"), None));
        assert!(!is_ours(Some("https://evil.example:6385"), None));
        assert!(!is_ours(Some("null"), None));
        assert!(is_ours(Some("https://metal.example"), Some("https://metal.example/baremetal")));
    }
}
