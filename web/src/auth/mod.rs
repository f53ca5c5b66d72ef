//! Who is asking (api.md §1 "Authentication"): nobody is asked, a password file, or Keystone.

mod basic;
mod keystone;
mod lru;
mod reload;
mod token;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix_web::http::header::HeaderMap;

use crate::error::Denial;
use crate::policy::{Caller, Identity, Policy, PolicyError};
use basic::Basic;
pub use basic::PasswordFileError;
use keystone::Keystone;
pub use keystone::{Credentials, InDomain, KeystoneError, KeystoneSettings, ServiceScope};
pub(crate) use reload::Reloading;

/// How callers prove who they are. Cheap to clone; it holds what was read from files, and what was found out.
#[derive(Clone, Default)]
pub struct Auth(How);

#[derive(Clone, Default)]
enum How {
    #[default]
    Noauth,
    Basic(Arc<Basic>),
    Keystone(Arc<Keystone>),
}

/// Why callers could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// Of `http_basic`.
    #[error("{0}")]
    PasswordFile(#[from] PasswordFileError),
    /// Of `keystone`.
    #[error("{0}")]
    Keystone(#[from] KeystoneError),
    /// Of the policy file.
    #[error("{0}")]
    Policy(#[from] PolicyError),
}

impl Auth {
    /// Everybody is the administrator.
    #[must_use]
    pub fn noauth() -> Auth {
        Auth::default()
    }

    /// Who is in the password file is an administrator. The file is read again when it changes.
    ///
    /// # Errors
    /// It cannot be read, is empty, or has a line that is not `name:bcrypt`.
    pub fn http_basic(file: &Path) -> Result<Auth, AuthError> {
        Ok(Auth(How::Basic(Arc::new(Basic::start(file)?))))
    }

    /// Keystone says who it is, the policies what they may. The policy file is read again when it changes.
    /// `service_project` as in [`Policy::load`].
    ///
    /// # Errors
    /// Settings that do not go together, a CA file or a policy file that cannot be read. Keystone itself is not asked.
    pub fn keystone(
        settings: KeystoneSettings,
        policy_file: Option<PathBuf>,
        service_project: Option<String>,
    ) -> Result<Auth, AuthError> {
        let files = policy_file.clone().into_iter().collect();
        let load = move || Policy::load(policy_file.as_deref(), service_project.clone());
        let policy = Reloading::start("the policy file", files, load)?;
        Ok(Auth(How::Keystone(Arc::new(Keystone::new(settings, policy)?))))
    }

    /// Whether nobody is asked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.0, How::Noauth)
    }

    /// The same, for the description of the API.
    #[must_use]
    pub fn scheme(&self) -> crate::openapi::Scheme {
        match self.0 {
            How::Noauth => crate::openapi::Scheme::Nothing,
            How::Basic(_) => crate::openapi::Scheme::Basic,
            How::Keystone(_) => crate::openapi::Scheme::Token,
        }
    }

    /// Who sent a request with these headers from `peer` to `path`, or the answer that it gets instead. `query` is the
    /// query as it was sent.
    pub(crate) async fn admit(
        &self,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Caller, Denial> {
        match &self.0 {
            How::Noauth => Ok(Caller::Admin),
            How::Basic(_) if is_public(path, query) => Ok(Caller::Admin),
            How::Basic(basic) => basic.admit(headers, peer).await,
            How::Keystone(keystone) if is_public(path, query) => {
                let identity = Identity { is_public_api: true, ..Identity::default() };
                Ok(Caller::Token { identity: Arc::new(identity), policy: keystone.policy() })
            }
            How::Keystone(keystone) => keystone.admit(headers).await,
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            How::Noauth => "noauth",
            How::Basic(_) => "http_basic",
            How::Keystone(_) => "keystone",
        })
    }
}

/// Routes that ask nobody who they are: the discovery documents, what ramdisks call, and what tells a machine that
/// Ferric is well. As in Ironic, those of ramdisks are public with `/v1` only.
pub(crate) fn is_public(path: &str, query: &str) -> bool {
    let path = path.trim_end_matches('/');
    let bare = [".json", ".xml"].iter().find_map(|suffix| path.strip_suffix(suffix)).unwrap_or(path);
    let exact = matches!(bare, "" | "/v1" | "/v1/lookup" | "/v1/continue_inspection");
    let heartbeat = bare.strip_prefix("/v1/heartbeat/").is_some_and(|node| {
        !node.is_empty() && node.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    });
    exact
        || heartbeat
        || is_call_of_ramdisk(path, query)
        || matches!(path, "/healthz" | "/readyz" | "/metrics" | "/openapi.json" | "/docs")
}

/// The vendor methods with which ramdisks without an agent call (deploy.md §A.1). Such a ramdisk has no account: the key
/// that its kernel line gave it is what it shows, and the deploy interface checks that.
pub(crate) const CALLS_OF_RAMDISKS: [&str; 2] = ["pass_deploy_info", "pass_bootloader_install_info"];

/// The method stands in the path, or is all that the query says; text for text, as ramdisks send it.
fn is_call_of_ramdisk(path: &str, query: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let (node, method) = match parts[..] {
        ["", "v1", "nodes", node, "vendor_passthru", method] => (node, Some(method)),
        ["", "v1", "nodes", node, "vendor_passthru"] => (node, query.strip_prefix("method=")),
        _ => return false,
    };
    uuid::Uuid::try_parse(node).is_ok() && method.is_some_and(|method| CALLS_OF_RAMDISKS.contains(&method))
}

/// The text of a header; `None` when it is absent, or not text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::is_public;

    #[test]
    fn only_the_routes_of_the_reference_are_public() {
        for path in [
            "/",
            "",
            "/v1",
            "/v1/",
            "/v1.json",
            "/v1/lookup",
            "/v1/lookup.json",
            "/v1/continue_inspection",
            "/v1/heartbeat/1be26c0b-03f2-4d2e-ae87-c02d7f33c123",
            "/v1/nodes/1be26c0b-03f2-4d2e-ae87-c02d7f33c123/vendor_passthru/pass_deploy_info",
            "/v1/nodes/1be26c0b-03f2-4d2e-ae87-c02d7f33c123/vendor_passthru/pass_bootloader_install_info",
            "/healthz",
            "/readyz",
            "/metrics",
            "/openapi.json",
        ] {
            assert!(is_public(path, ""), "{path}");
        }
        for path in [
            "/v1/nodes",
            "/nodes",
            "/lookup",
            "/heartbeat/a",
            "/v1/heartbeat",
            "/v1/heartbeat/",
            "/v1/heartbeat/a/b",
            "/v1/heartbeat/A",
            "/v1/lookup/x",
            "/v1/ferric/events",
            "/v1x",
            "/v1/continue_inspection/x",
            "/healthz/x",
            "/v1/nodes/lookup",
            "/v1/nodes.json",
            "/v1/heartbeat/%2e%2e",
            "/v1/nodes/name/vendor_passthru/pass_deploy_info",
            "/v1/nodes/1be26c0b-03f2-4d2e-ae87-c02d7f33c123/vendor_passthru/send_raw",
            "/v1/nodes/1be26c0b-03f2-4d2e-ae87-c02d7f33c123/vendor_passthru",
            "/nodes/1be26c0b-03f2-4d2e-ae87-c02d7f33c123/vendor_passthru/pass_deploy_info",
        ] {
            assert!(!is_public(path, ""), "{path}");
        }
    }

    #[test]
    fn ramdisks_may_name_their_method_in_the_query_and_say_nothing_else_there() {
        let path = "/v1/nodes/1be26c0b-03f2-4d2e-ae87-c02d7f33c123/vendor_passthru";
        assert!(is_public(path, "method=pass_deploy_info"));
        assert!(is_public(path, "method=pass_bootloader_install_info"));
        for query in [
            "",
            "method=",
            "method",
            "method=send_raw",
            "method=pass_deploy_info&method=send_raw",
            "method=send_raw&method=pass_deploy_info",
            "method=pass_deploy_info&",
            "method=pass_deploy_info;method=send_raw",
            "&method=pass_deploy_info",
            "method=pass_deploy%5Finfo",
            "m%65thod=pass_deploy_info",
            "Method=pass_deploy_info",
            "method=pass_deploy_info+",
        ] {
            assert!(!is_public(path, query), "{query}");
        }
        assert!(!is_public("/v1/nodes", "method=pass_deploy_info"));
        assert!(!is_public(&format!("{path}/send_raw"), "method=pass_deploy_info"));
        assert!(!is_public(&format!("{path}/methods"), "method=pass_deploy_info"));
        assert!(!is_public("/v1/nodes/name/vendor_passthru", "method=pass_deploy_info"));
    }
}
