//! Every refusal of the API: its status, its shape (api.md "Error bodies"), and the map from what the inner rooms say.
//! HTTP statuses are written here and nowhere else.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use ferric_actors::{DriverError, NodeError};
use ferric_machine::Refusal;
use ferric_schema::StoreError;

use crate::gates::Below;
use crate::version::Version;

/// What a client is told instead of an answer. The text says what to do where there is something to do.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Shape A: raised while working on a request.
    #[error("{text}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// The faultstring.
        text: String,
        /// When to come again, in seconds.
        retry_after: Option<u32>,
    },
    /// Shape B: there is no such path, method or version.
    #[error("{text}")]
    NotRouted {
        /// The status.
        status: StatusCode,
        /// The description.
        text: String,
        /// The methods that there are (405).
        allow: Option<String>,
    },
    /// Shape E: the body is too large or nested too deeply.
    #[error("{text}")]
    OverLimit {
        /// The status.
        status: StatusCode,
        /// The faultstring.
        text: String,
    },
}

/// Result of a handler.
pub(crate) type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    pub(crate) fn refused(status: StatusCode, text: impl Into<String>) -> ApiError {
        ApiError::Refused { status, text: text.into(), retry_after: None }
    }

    /// 400 in shape A.
    pub(crate) fn bad_request(text: impl Into<String>) -> ApiError {
        Self::refused(StatusCode::BAD_REQUEST, text)
    }

    /// 403 in shape A.
    pub(crate) fn forbidden(text: impl Into<String>) -> ApiError {
        Self::refused(StatusCode::FORBIDDEN, text)
    }

    /// 404 in shape A.
    pub(crate) fn not_found(text: impl Into<String>) -> ApiError {
        Self::refused(StatusCode::NOT_FOUND, text)
    }

    /// 404 in shape A: there is no such thing among those of `/v1/{collection}`.
    pub(crate) fn missing(what: &str, ident: &str, collection: &str) -> ApiError {
        Self::not_found(format!(
            "{what} {ident} could not be found. GET /v1/{collection} lists those that there are."
        ))
    }

    /// 409 in shape A.
    pub(crate) fn conflict(text: impl Into<String>) -> ApiError {
        Self::refused(StatusCode::CONFLICT, text)
    }

    /// 406 in shape A: `what` is newer than the negotiated version.
    pub(crate) fn too_new(what: &str, since: u16, version: Version) -> ApiError {
        Self::refused(
            StatusCode::NOT_ACCEPTABLE,
            format!(
                "Request not acceptable. The minimal required API version should be 1.{since}, for {what}; this request \
                 uses {version}. Ask for it in the header X-OpenStack-Ironic-API-Version."
            ),
        )
    }

    /// 406 in shape A, in these words.
    pub(crate) fn not_acceptable(text: String) -> ApiError {
        Self::refused(StatusCode::NOT_ACCEPTABLE, text)
    }

    /// 503 in shape A, to be tried again.
    pub(crate) fn busy(text: impl Into<String>) -> ApiError {
        ApiError::Refused {
            status: StatusCode::SERVICE_UNAVAILABLE,
            text: text.into(),
            retry_after: Some(30),
        }
    }

    /// 503 in shape A, to be tried again after so many seconds.
    pub(crate) fn overloaded(text: String, seconds: u32) -> ApiError {
        ApiError::Refused { status: StatusCode::SERVICE_UNAVAILABLE, text, retry_after: Some(seconds) }
    }

    /// 500 in shape A; the cause goes to the log, not to the client.
    pub(crate) fn internal(text: &'static str) -> ApiError {
        Self::refused(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// 404 in shape B.
    pub(crate) fn no_path() -> ApiError {
        ApiError::NotRouted {
            status: StatusCode::NOT_FOUND,
            text: "The resource could not be found. GET /v1 lists what there is, /docs describes it."
                .to_owned(),
            allow: None,
        }
    }

    /// 404 in shape B: the path is newer than the negotiated version.
    pub(crate) fn path_too_new(since: u16, version: Version) -> ApiError {
        ApiError::NotRouted {
            status: StatusCode::NOT_FOUND,
            text: format!(
                "The resource needs API version 1.{since} or newer, this request uses {version}. Ask for it in the \
                 header X-OpenStack-Ironic-API-Version."
            ),
            allow: None,
        }
    }

    /// 405 in shape B: the method is newer than the negotiated version.
    pub(crate) fn method_too_new(since: u16, version: Version) -> ApiError {
        ApiError::NotRouted {
            status: StatusCode::METHOD_NOT_ALLOWED,
            text: format!(
                "The method is not allowed for this resource below API version 1.{since}, and this request uses \
                 {version}. Ask for it in the header X-OpenStack-Ironic-API-Version."
            ),
            allow: Some(String::new()),
        }
    }

    /// 405 in shape B, with the methods that there are.
    pub(crate) fn no_method_but(allowed: &str) -> ApiError {
        let text = if allowed.is_empty() {
            "The method is not allowed for this resource at this API version: it came later.".to_owned()
        } else {
            format!("The method is not allowed for this resource: it has {allowed}.")
        };
        ApiError::NotRouted { status: StatusCode::METHOD_NOT_ALLOWED, text, allow: Some(allowed.to_owned()) }
    }

    /// A refused method, with the methods that there are.
    pub(crate) fn allowing(self, allowed: &str) -> ApiError {
        match self {
            ApiError::NotRouted { status, text, .. } => {
                ApiError::NotRouted { status, text, allow: Some(allowed.to_owned()) }
            }
            ApiError::Refused { .. } | ApiError::OverLimit { .. } => self,
        }
    }

    /// 400 in shape B: what stands in the path is no name.
    pub(crate) fn no_ident(what: &str, ident: &str) -> ApiError {
        let ident: String = ident.chars().take(300).collect();
        ApiError::NotRouted {
            status: StatusCode::BAD_REQUEST,
            text: format!("Expected UUID or name for {what}: {ident}"),
            allow: None,
        }
    }

    /// What older clients get for something that has words of its own for them, in shape A.
    pub(crate) fn told(kind: Below, text: &str, since: u16, version: Version) -> ApiError {
        let status = match kind {
            Below::NotFound | Below::Unsupported => StatusCode::NOT_FOUND,
            Below::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Below::BadRequest => StatusCode::BAD_REQUEST,
            Below::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
        };
        Self::refused(
            status,
            format!(
                "{text}. It takes 1.{since} or newer, and this request uses {version}. Ask for it in the header \
                 X-OpenStack-Ironic-API-Version."
            ),
        )
    }

    /// 406 in shape B.
    pub(crate) fn no_version(text: String) -> ApiError {
        ApiError::NotRouted { status: StatusCode::NOT_ACCEPTABLE, text, allow: None }
    }

    /// 413 in shape E.
    pub(crate) fn body_too_large(limit_kib: usize) -> ApiError {
        ApiError::OverLimit {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            text: format!("Request body too large: at most {limit_kib} KiB are taken here."),
        }
    }

    /// 400 in shape E.
    pub(crate) fn body_too_deep(limit: usize) -> ApiError {
        ApiError::OverLimit {
            status: StatusCode::BAD_REQUEST,
            text: format!(
                "Request body JSON is nested too deeply. Please contact the service administrator, or nest it less: at most \
                 {limit} levels are taken."
            ),
        }
    }

    /// What a node's actor says no with, in words that name the node as Ironic's do.
    pub(crate) fn of_node(error: NodeError, node: uuid::Uuid) -> ApiError {
        if let NodeError::Refused(refusal) = error {
            return ApiError::of_refusal(refusal, node);
        }
        error.into()
    }

    /// The same of a refusal; one for the node's state says what is possible in it.
    pub(crate) fn of_refusal(refusal: Refusal, node: uuid::Uuid) -> ApiError {
        let mut text = refusal.for_node(&node.to_string());
        if let Refusal::NotAllowed { verb: Some(_), state, .. } = refusal {
            let possible = ferric_machine::allowed_verbs(&ferric_machine::Facts::new(state));
            let words: Vec<&str> = possible.iter().map(|verb| verb.as_str()).collect();
            text.push_str(&if words.is_empty() {
                " Nothing can be asked for there: wait for the end of it.".to_owned()
            } else {
                format!(" Possible there: {}.", words.join(", "))
            });
        }
        refused_as(refusal, text)
    }

    /// For resources whose late fields are unknown to older clients and not merely too new: 400 in place of 406.
    pub(crate) fn unknown_not_new(self) -> ApiError {
        match self {
            ApiError::Refused { status: StatusCode::NOT_ACCEPTABLE, text, .. } => {
                let named = |kind: &str| text.split_once(kind).and_then(|(_, rest)| rest.split('\'').next());
                ApiError::bad_request(match (named("for field '"), named("for attribute '")) {
                    (Some(name), _) => format!("Field(s) \"{name}\" are not valid. {text}"),
                    (None, Some(name)) => format!(
                        "Schema error for runbook: Additional properties are not allowed ('{name}' was unexpected). {text}"
                    ),
                    (None, None) => text,
                })
            }
            ApiError::Refused { .. } | ApiError::NotRouted { .. } | ApiError::OverLimit { .. } => self,
        }
    }

    /// Whether the negotiated version is absent from the response.
    pub(crate) fn hides_version(&self) -> bool {
        match self {
            ApiError::NotRouted { .. } | ApiError::OverLimit { .. } => true,
            ApiError::Refused { .. } => false,
        }
    }
}

/// Why a request is not even looked at: it does not say who sends it (shapes C and D).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    /// Shape C: no password.
    #[error("Authorization required")]
    NoCredentials,
    /// Shape C: nobody of that name, or another password.
    #[error("Incorrect username or password")]
    WrongPassword,
    /// Shape C, 400: a header that means nothing.
    #[error("{0}")]
    Malformed(String),
    /// Shape C, 503: too many passwords to check.
    #[error("Too many passwords wait to be checked. Try again in a moment.")]
    Busy,
    /// Shape D: no token, or none that is valid.
    #[error("The request you have made requires authentication.")]
    NoToken {
        /// Where there are tokens.
        uri: String,
    },
    /// Shape D, 503: Keystone does not answer.
    #[error("The Keystone service is temporarily unavailable. Try again in a moment.")]
    KeystoneAway,
}

impl Denial {
    /// The answer.
    pub(crate) fn response(&self) -> HttpResponse {
        let status = match self {
            Denial::NoCredentials | Denial::WrongPassword | Denial::NoToken { .. } => {
                StatusCode::UNAUTHORIZED
            }
            Denial::Malformed(_) => StatusCode::BAD_REQUEST,
            Denial::Busy | Denial::KeystoneAway => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = HttpResponse::build(status);
        let mut error = serde_json::json!({"message": self.to_string(), "code": status.as_u16()});
        match self {
            Denial::NoCredentials | Denial::WrongPassword => {
                response.insert_header((header::WWW_AUTHENTICATE, "Basic realm=\"Baremetal API\""));
            }
            Denial::Malformed(_) => {}
            Denial::NoToken { uri } => {
                response.insert_header((header::WWW_AUTHENTICATE, format!("Keystone uri=\"{uri}\"")));
            }
            Denial::Busy | Denial::KeystoneAway => {
                response.insert_header((header::RETRY_AFTER, "5"));
            }
        }
        if matches!(self, Denial::NoToken { .. } | Denial::KeystoneAway) {
            error["title"] = status.canonical_reason().unwrap_or("Error").into();
        }
        response.json(serde_json::json!({"error": error}))
    }
}

fn fault(status: StatusCode, text: &str) -> serde_json::Value {
    let code = if status.is_server_error() { "Server" } else { "Client" };
    serde_json::json!({"faultcode": code, "faultstring": text, "debuginfo": null})
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            ApiError::Refused { status, .. }
            | ApiError::NotRouted { status, .. }
            | ApiError::OverLimit { status, .. } => *status,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        let body = match self {
            ApiError::Refused { status, text, retry_after } => {
                if let Some(seconds) = retry_after {
                    response.insert_header((header::RETRY_AFTER, seconds.to_string()));
                }
                serde_json::json!({"error_message": fault(*status, text).to_string()})
            }
            ApiError::NotRouted { status, text, allow } => {
                if let Some(methods) = allow {
                    response.insert_header((header::ALLOW, methods.as_str()));
                }
                let title = status.canonical_reason().unwrap_or("Error");
                let inner = serde_json::json!({"code": status.as_u16(), "title": title, "description": text});
                serde_json::json!({"error_message": inner.to_string()})
            }
            ApiError::OverLimit { text, .. } => {
                serde_json::json!({"faultcode": "Client", "faultstring": text})
            }
        };
        response.json(body)
    }
}

/// What went wrong, for a client that worked on a node or port.
impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> ApiError {
        let text = error.to_string();
        match error {
            NodeError::NotFound { .. } | NodeError::NoTrait { .. } => ApiError::not_found(text),
            NodeError::Refused(refusal) => refusal.into(),
            NodeError::Locked { .. } | NodeError::Conflict(_) => ApiError::conflict(text),
            NodeError::Invalid(_) => ApiError::bad_request(text),
            NodeError::Forbidden(_) => ApiError::forbidden(text),
            // 404 on driver calls, which do not come through here
            NodeError::NoValidHost { .. } => ApiError::bad_request(text),
            NodeError::Driver(error) => error.into(),
            NodeError::Busy | NodeError::Rebuilding(_) => {
                ApiError::Refused { status: StatusCode::SERVICE_UNAVAILABLE, text, retry_after: Some(2) }
            }
            NodeError::AllocationFailed(_) => ApiError::refused(StatusCode::INTERNAL_SERVER_ERROR, text),
            NodeError::Limit(_) => {
                ApiError::Refused { status: StatusCode::SERVICE_UNAVAILABLE, text, retry_after: Some(30) }
            }
            NodeError::Store(error) => error.into(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let text = format!("{}.", capitalised(&refusal.to_string()));
        refused_as(refusal, text)
    }
}

/// A refusal in these words.
fn refused_as(refusal: Refusal, text: String) -> ApiError {
    match refusal {
        Refusal::NotAllowed { .. } | Refusal::InMaintenance { .. } | Refusal::Retired => {
            ApiError::bad_request(text)
        }
        // UnsupportedDriverExtension
        Refusal::InspectionNotAbortable => ApiError::bad_request(text),
        // InvalidState
        Refusal::AbortInMaintenance => ApiError::conflict(text),
        Refusal::Protected { .. } => ApiError::forbidden(text),
    }
}

impl From<DriverError> for ApiError {
    fn from(error: DriverError) -> ApiError {
        let text = error.to_string();
        match error {
            DriverError::Missing { .. }
            | DriverError::Invalid { .. }
            | DriverError::Unsupported { .. }
            | DriverError::MissingParameter { .. }
            | DriverError::InvalidParameter { .. }
            | DriverError::Image { .. } => ApiError::bad_request(text),
            DriverError::NotInRelease { .. } => ApiError::refused(StatusCode::NOT_IMPLEMENTED, text),
            DriverError::AgentBusy => ApiError::conflict(text),
            // IPMIFailure, RedfishError, InstanceDeployFailure have no status of their own in Ironic: 500
            DriverError::Unreachable { .. }
            | DriverError::RejectedCredentials { .. }
            | DriverError::Refused { .. }
            | DriverError::AgentCommand { .. }
            | DriverError::Inspection { .. }
            | DriverError::Io { .. } => ApiError::refused(StatusCode::INTERNAL_SERVER_ERROR, text),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> ApiError {
        let text = format!("{}.", capitalised(&error.to_string()));
        match error {
            StoreError::NotFound { .. } => ApiError::not_found(text),
            StoreError::Duplicate { .. } | StoreError::Stale { .. } => ApiError::conflict(text),
            StoreError::Busy | StoreError::Closed | StoreError::Unreachable(_) => {
                ApiError::Refused { status: StatusCode::SERVICE_UNAVAILABLE, text, retry_after: Some(2) }
            }
            StoreError::Full => ApiError::refused(StatusCode::INSUFFICIENT_STORAGE, text),
            StoreError::Migration(_)
            | StoreError::Options(_)
            | StoreError::Panicked
            | StoreError::Other(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a request failed in the database");
                ApiError::refused(StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        }
    }
}

/// The first letter in upper case.
pub(crate) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ferric_machine::{Event, State, Verb};
    use uuid::Uuid;

    use super::*;

    fn told(error: impl Into<ApiError>) -> (u16, Option<String>, serde_json::Value) {
        let response = error.into().error_response();
        let status = response.status().as_u16();
        let after =
            response.headers().get(header::RETRY_AFTER).map(|v| v.to_str().expect("digits").to_owned());
        let bytes =
            actix_web::body::MessageBody::try_into_bytes(response.into_body()).expect("a body in memory");
        let body: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        let inner = body["error_message"].as_str().expect("a string that holds JSON");
        (status, after, serde_json::from_str(inner).expect("JSON"))
    }

    fn unreachable() -> DriverError {
        DriverError::Unreachable {
            what: "BMC".into(),
            after: Duration::from_secs(3),
            remedy: "check the cable".into(),
        }
    }

    #[test]
    fn every_refusal_has_the_status_of_the_reference() {
        let node = Uuid::nil();
        let missing = DriverError::Missing {
            section: "driver_info",
            key: "ipmi_address".into(),
            remedy: "set it".into(),
        };
        let unsupported = DriverError::Unsupported { interface: "noop".into(), what: "boot devices".into() };
        let impossible =
            Refusal::NotAllowed { event: Event::Deploy, verb: Some(Verb::Active), state: State::Enroll };
        let taken = StoreError::Duplicate { what: "name", value: "n".into() };
        for (error, status, code) in [
            (NodeError::NotFound { what: "Node", id: "x".into() }, 404, "Client"),
            (NodeError::Refused(impossible), 400, "Client"),
            (NodeError::Refused(Refusal::InMaintenance { verb: Verb::Active }), 400, "Client"),
            (NodeError::Refused(Refusal::Protected { verb: Verb::Deleted }), 403, "Client"),
            (NodeError::Refused(Refusal::Retired), 400, "Client"),
            (NodeError::Refused(Refusal::AbortInMaintenance), 409, "Client"),
            (NodeError::Refused(Refusal::InspectionNotAbortable), 400, "Client"),
            (NodeError::Locked { node, host: "h".into(), doing: String::new() }, 409, "Client"),
            (NodeError::Invalid("x".into()), 400, "Client"),
            (NodeError::Conflict("x".into()), 409, "Client"),
            (NodeError::Forbidden("x".into()), 403, "Client"),
            (NodeError::NoValidHost { driver: "d".into(), group: String::new() }, 400, "Client"),
            (NodeError::Driver(missing), 400, "Client"),
            (NodeError::Driver(unsupported), 400, "Client"),
            (NodeError::Driver(DriverError::AgentBusy), 409, "Client"),
            (NodeError::Driver(unreachable()), 500, "Server"),
            (NodeError::Busy, 503, "Server"),
            (NodeError::Limit("x".into()), 503, "Server"),
            (NodeError::Rebuilding(node), 503, "Server"),
            (NodeError::Store(taken), 409, "Client"),
            (NodeError::Store(StoreError::Busy), 503, "Server"),
            (NodeError::Store(StoreError::Full), 507, "Server"),
        ] {
            let text = format!("{error:?}");
            let (found, after, inner) = told(error);
            assert_eq!((found, inner["faultcode"].as_str()), (status, Some(code)), "{text}");
            assert_eq!(after.is_some(), status == 503, "{text}: what may be tried again says when");
            assert!(inner["faultstring"].as_str().is_some_and(|text| !text.is_empty()));
        }
    }

    #[test]
    fn a_refusal_of_a_node_is_told_in_ironics_words() {
        let refusal =
            Refusal::NotAllowed { event: Event::Deploy, verb: Some(Verb::Active), state: State::Enroll };
        let (status, _, inner) = told(ApiError::of_node(NodeError::Refused(refusal), Uuid::nil()));
        assert_eq!(status, 400);
        assert_eq!(
            inner["faultstring"],
            "The requested action \"active\" can not be performed on node \
             \"00000000-0000-0000-0000-000000000000\" while it is in state \"enroll\". Possible there: manage."
        );
    }

    #[test]
    fn what_has_a_remedy_says_it() {
        let (_, _, inner) = told(NodeError::Driver(unreachable()));
        assert!(
            inner["faultstring"].as_str().is_some_and(|text| text.contains("check the cable")),
            "{inner}"
        );
    }
}
