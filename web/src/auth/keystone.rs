//! `keystone`: tokens are shown to Keystone v3, once in a while each, with a token of our own.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::header::HeaderMap;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::lru::{Key, Lru};
use super::reload::Reloading;
use super::text;
use super::token::Document;
use crate::error::Denial;
use crate::policy::{Caller, Identity, Policy};

/// Tokens whose answers are remembered.
const REMEMBERED: usize = 10_000;

/// Questions to Keystone at the same time; those about the same token wait for one another and are asked once.
const QUESTIONS: usize = 32;

/// A token of ours that ends sooner than this is not used any more.
const MARGIN: time::Duration = time::Duration::seconds(30);

/// Answers of Keystone are not larger.
const LARGEST_ANSWER: usize = 1 << 20;

/// Names of something within a domain, by name or id.
#[derive(Clone, Debug, Default)]
pub struct InDomain {
    /// Its name, or its id where `id` is set.
    pub name: Option<String>,
    /// Its id, which needs no domain.
    pub id: Option<String>,
    /// The name of its domain.
    pub domain_name: Option<String>,
    /// The id of its domain.
    pub domain_id: Option<String>,
}

impl InDomain {
    fn json(&self) -> Option<Value> {
        if let Some(id) = &self.id {
            return Some(json!({"id": id}));
        }
        let domain = match (&self.domain_id, &self.domain_name) {
            (Some(id), _) => json!({"id": id}),
            (None, Some(name)) => json!({"name": name}),
            (None, None) => json!({"id": "default"}),
        };
        self.name.as_ref().map(|name| json!({"name": name, "domain": domain}))
    }
}

/// How Ferric itself logs in.
#[derive(Clone)]
pub enum Credentials {
    /// By name and password.
    Password {
        /// Who.
        user: InDomain,
        /// The password.
        password: String,
        /// For what.
        scope: ServiceScope,
    },
    /// By an application credential, which has its scope.
    Application {
        /// Its id, or its name where `user` is given.
        id: Option<String>,
        /// Its name.
        name: Option<String>,
        /// Whose it is, where it is known by name.
        user: InDomain,
        /// Its secret.
        secret: String,
    },
}

/// What Ferric's own token is scoped to.
#[derive(Clone, Debug)]
pub enum ServiceScope {
    /// A project, usually `service`.
    Project(InDomain),
    /// The system.
    System,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { user, scope, .. } => {
                f.debug_struct("Password").field("user", user).field("scope", scope).finish_non_exhaustive()
            }
            Credentials::Application { id, name, .. } => {
                f.debug_struct("Application").field("id", id).field("name", name).finish_non_exhaustive()
            }
        }
    }
}

impl Credentials {
    /// The body of the request for a token.
    fn json(&self) -> Option<Value> {
        match self {
            Credentials::Password { user, password, scope } => {
                let mut user = user.json()?;
                user["password"] = json!(password);
                let scope = match scope {
                    ServiceScope::Project(project) => json!({"project": project.json()?}),
                    ServiceScope::System => json!({"system": {"all": true}}),
                };
                Some(json!({"auth": {
                    "identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope,
                }}))
            }
            Credentials::Application { id, name, user, secret } => {
                let mut what = match (id, name) {
                    (Some(id), _) => json!({"id": id}),
                    (None, Some(name)) => json!({"name": name, "user": user.json()?}),
                    (None, None) => return None,
                };
                what["secret"] = json!(secret);
                Some(json!({"auth": {"identity": {
                    "methods": ["application_credential"], "application_credential": what,
                }}}))
            }
        }
    }
}

/// `[keystone_authtoken]`.
#[derive(Clone, Debug)]
pub struct KeystoneSettings {
    /// Where Keystone is, with `/v3` or without.
    pub auth_url: String,
    /// What callers are told when they have no token; `auth_url` when absent.
    pub www_authenticate_uri: Option<String>,
    /// How Ferric logs in.
    pub credentials: Credentials,
    /// Certificates that Keystone's is signed by, as PEM; those of the system when absent.
    pub cafile: Option<PathBuf>,
    /// Believe any certificate.
    pub insecure: bool,
    /// How long Keystone's word about a token is good.
    pub token_cache_time: Duration,
    /// How long Keystone may take to answer.
    pub timeout: Duration,
    /// Roles that make an `X-Service-Token` one of a service.
    pub service_token_roles: Vec<String>,
    /// Refuse service tokens without one of those roles.
    pub service_token_roles_required: bool,
}

/// Why Keystone could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum KeystoneError {
    /// Options are missing.
    #[error(
        "[keystone_authtoken] does not say how Ferric logs in: set auth_url, username, password and project_name (with \
         their domains), or application_credential_id and application_credential_secret"
    )]
    Credentials,
    /// The URL is none.
    #[error("[keystone_authtoken] auth_url has to be a URL such as https://keystone.example.org:5000/v3")]
    Url,
    /// The CA file cannot be used.
    #[error("cannot use the certificates in {path}: {why}; correct [keystone_authtoken] cafile")]
    CaFile {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// No client can be built.
    #[error("no TLS for Keystone: {0}")]
    Client(String),
}

/// What was found out about a token.
#[derive(Clone)]
struct Known {
    identity: Arc<Identity>,
    /// When the token ends.
    ends: OffsetDateTime,
    /// Until when this is believed.
    good: Instant,
}

/// A token of ours.
#[derive(Clone)]
struct Own {
    token: HeaderValue,
    ends: OffsetDateTime,
}

/// Why a token tells nothing.
enum Failure {
    /// It is none, or not any more.
    Invalid,
    /// Keystone could not be asked.
    Unavailable(String),
}

/// Keystone, the tokens known, and the policies.
pub(super) struct Keystone {
    settings: KeystoneSettings,
    http: reqwest::Client,
    tokens_url: reqwest::Url,
    login: Value,
    uri: String,
    own: tokio::sync::Mutex<Option<Own>>,
    known: Mutex<Lru<Known>>,
    questions: Vec<tokio::sync::Mutex<()>>,
    policy: Arc<Reloading<Policy>>,
}

impl Keystone {
    pub(super) fn new(
        settings: KeystoneSettings,
        policy: Arc<Reloading<Policy>>,
    ) -> Result<Keystone, KeystoneError> {
        let base = settings.auth_url.trim_end_matches('/');
        let base = base.strip_suffix("/v3").unwrap_or(base);
        // the catalogue is long, and nobody reads it here
        let tokens_url = reqwest::Url::parse(&format!("{base}/v3/auth/tokens?nocatalog"))
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or(KeystoneError::Url)?;
        let login = settings.credentials.json().ok_or(KeystoneError::Credentials)?;
        let uri = settings.www_authenticate_uri.clone().unwrap_or_else(|| settings.auth_url.clone());
        // Err means that the process has chosen a provider already, which serves as well
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            // a redirect would carry our token to wherever it leads
            .redirect(reqwest::redirect::Policy::none())
            .timeout(settings.timeout);
        if let Some(path) = &settings.cafile {
            let unusable = |why: String| KeystoneError::CaFile { path: path.clone(), why };
            let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
            let certificates =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
            if certificates.is_empty() {
                return Err(unusable("there is none in it".to_owned()));
            }
            http = http.tls_certs_only(certificates);
        }
        if settings.insecure {
            http = http.tls_danger_accept_invalid_certs(true);
        }
        let http = http.build().map_err(|error| KeystoneError::Client(error.to_string()))?;
        Ok(Keystone {
            settings,
            http,
            tokens_url,
            login,
            uri,
            own: tokio::sync::Mutex::new(None),
            known: Mutex::new(Lru::new(REMEMBERED)),
            questions: (0..QUESTIONS).map(|_| tokio::sync::Mutex::new(())).collect(),
            policy,
        })
    }

    /// The policies as they are now.
    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy.get()
    }

    pub(super) async fn admit(&self, headers: &HeaderMap) -> Result<Caller, Denial> {
        let denied = |failure| match failure {
            Failure::Invalid => Denial::NoToken { uri: self.uri.clone() },
            Failure::Unavailable(cause) => {
                tracing::error!(cause, "a token could not be validated");
                Denial::KeystoneAway
            }
        };
        let token = text(headers, "x-auth-token").ok_or(Failure::Invalid).map_err(denied)?;
        let mut allow_expired = false;
        if let Some(service) = text(headers, "x-service-token") {
            let identity = self.identify(service, false).await.map_err(denied)?;
            let is_service =
                self.settings.service_token_roles.iter().any(|role| identity.roles.contains(role));
            if !is_service && self.settings.service_token_roles_required {
                return Err(denied(Failure::Invalid));
            }
            // a service may finish what it began for a user whose token has ended since
            allow_expired = is_service;
        }
        let identity = self.identify(token, allow_expired).await.map_err(denied)?;
        Ok(Caller::Token { identity, policy: self.policy() })
    }

    /// Who a token speaks for: from memory, or by asking.
    async fn identify(&self, token: &str, allow_expired: bool) -> Result<Arc<Identity>, Failure> {
        let mut digest = Sha256::new();
        digest.update([u8::from(allow_expired)]);
        digest.update(token);
        let key: Key = digest.finalize().into();
        if let Some(identity) = self.remembered(&key, allow_expired) {
            return Ok(identity);
        }
        let late = || Failure::Unavailable(format!("no answer within {:?}", self.settings.timeout * 2));
        let asked = async {
            let _one_at_a_time = self.questions[usize::from(key[0]) % QUESTIONS].lock().await;
            match self.remembered(&key, allow_expired) {
                Some(identity) => Ok(identity),
                None => self.ask(token, key, allow_expired).await,
            }
        };
        tokio::time::timeout(self.settings.timeout * 2, asked).await.map_err(|_| late())?
    }

    fn remembered(&self, key: &Key, allow_expired: bool) -> Option<Arc<Identity>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(key)?;
        let good = Instant::now() < found.good && (allow_expired || OffsetDateTime::now_utc() < found.ends);
        if !good {
            known.remove(key);
        }
        good.then_some(found.identity)
    }

    async fn ask(&self, token: &str, key: Key, allow_expired: bool) -> Result<Arc<Identity>, Failure> {
        let mut subject = HeaderValue::from_str(token).map_err(|_| Failure::Invalid)?;
        subject.set_sensitive(true);
        let mut url = self.tokens_url.clone();
        if allow_expired {
            url.query_pairs_mut().append_pair("allow_expired", "1");
        }
        let mut response = self.show(&url, &subject).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // it is our own token that Keystone does not know any more
            self.own.lock().await.take();
            response = self.show(&url, &subject).await?;
        }
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(Failure::Invalid),
            StatusCode::UNAUTHORIZED => {
                return Err(Failure::Unavailable(
                    "Keystone does not let this user validate tokens; give it the role service or admin"
                        .to_owned(),
                ));
            }
            other => return Err(Failure::Unavailable(format!("Keystone answered {other}"))),
        }
        let document = document(response).await?;
        let ends = document
            .token
            .ends()
            .ok_or_else(|| Failure::Unavailable("a token without an end that can be read".to_owned()))?;
        if !allow_expired && ends <= OffsetDateTime::now_utc() {
            return Err(Failure::Invalid);
        }
        let identity = Arc::new(document.token.identity());
        let good = Instant::now() + self.settings.token_cache_time;
        let known = Known { identity: identity.clone(), ends, good };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).put(key, known);
        Ok(identity)
    }

    async fn show(&self, url: &reqwest::Url, subject: &HeaderValue) -> Result<reqwest::Response, Failure> {
        let own = self.own_token().await?;
        let request =
            self.http.get(url.clone()).header("x-auth-token", own).header("x-subject-token", subject);
        request.send().await.map_err(|error| Failure::Unavailable(worded(&error)))
    }

    /// A token of ours that lasts a while yet.
    async fn own_token(&self) -> Result<HeaderValue, Failure> {
        let mut own = self.own.lock().await;
        if let Some(held) = own.as_ref().filter(|held| held.ends - MARGIN > OffsetDateTime::now_utc()) {
            return Ok(held.token.clone());
        }
        let request = self.http.post(self.tokens_url.clone()).json(&self.login);
        let response = request.send().await.map_err(|error| Failure::Unavailable(worded(&error)))?;
        if response.status() != StatusCode::CREATED {
            return Err(Failure::Unavailable(format!(
                "Keystone answered {} when Ferric logged in; check the user, the password and the project of \
                 [keystone_authtoken]",
                response.status()
            )));
        }
        let mut token = response
            .headers()
            .get("x-subject-token")
            .cloned()
            .ok_or_else(|| Failure::Unavailable("Keystone gave no token".to_owned()))?;
        token.set_sensitive(true);
        let ends = document(response).await?.token.ends();
        let ends = ends.unwrap_or_else(OffsetDateTime::now_utc);
        *own = Some(Own { token: token.clone(), ends });
        Ok(token)
    }
}

async fn document(mut response: reqwest::Response) -> Result<Document, Failure> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| Failure::Unavailable(worded(&error)))? {
        body.extend_from_slice(&part);
        if body.len() > LARGEST_ANSWER {
            return Err(Failure::Unavailable("an answer larger than a token's".to_owned()));
        }
    }
    // the error names what was read, and that may be a token: it is not told
    serde_json::from_slice(&body)
        .map_err(|_| Failure::Unavailable("an answer that is no token's document".to_owned()))
}

/// The innermost cause, which says more than "error sending request".
fn worded(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("Keystone cannot be reached: {cause}")
}
