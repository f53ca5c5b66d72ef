//! Who may do what (api.md §10): the policies, the caller of a request, and the question whether it may.
//!
//! [`table`](self::table) says it as data with Ironic's names; a policy file overrides rows (`[oslo_policy]
//! policy_file`), in the language of [`language`](self::language).

mod language;
mod load;
mod sight;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::context::Context;
use crate::error::{ApiError, Result};

pub use language::BadCheck;
use language::Facts;
pub use load::{Policy, PolicyError};
pub(crate) use sight::{Part, Sight};
pub use table::Rule;
use table::Scope;

/// Who a token speaks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Keystone's id of the user.
    pub user_id: Option<String>,
    /// Its name.
    pub user_name: Option<String>,
    /// The domain of the user.
    pub user_domain_id: Option<String>,
    /// The project that the token is scoped to.
    pub project_id: Option<String>,
    /// Its name.
    pub project_name: Option<String>,
    /// Its domain.
    pub project_domain_id: Option<String>,
    /// The domain that the token is scoped to.
    pub domain_id: Option<String>,
    /// `all` when the token is scoped to the system.
    pub system_scope: Option<String>,
    /// Whether Keystone says that the project is the one of administrators; true where it says nothing.
    pub is_admin_project: bool,
    /// Names of the roles, implied ones included.
    pub roles: BTreeSet<String>,
    /// A request to a route that asks nobody who they are.
    pub is_public_api: bool,
}

/// Whose request it is.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Without authentication: everything is allowed.
    Admin,
    /// Authenticated by a password file, which allows everything.
    User(Arc<str>),
    /// Authenticated by Keystone, or on a public route beside it: the policies decide.
    Token {
        /// Who.
        identity: Arc<Identity>,
        /// The policies as they are at this moment.
        policy: Arc<Policy>,
    },
}

/// What an object says of who it belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// The project that owns it.
    pub owner: Option<&'a str>,
    /// The project that it is lent to.
    pub lessee: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// What belongs to nobody: a collection, a driver, a conductor.
    pub const NONE: Target<'static> = Target { owner: None, lessee: None };

    /// A node, or what is part of one.
    #[must_use]
    pub fn node(node: &'a ferric_schema::Node) -> Target<'a> {
        Target { owner: node.owner.as_deref(), lessee: node.lessee.as_deref() }
    }
}

/// A caller before a target.
struct Question<'a> {
    identity: &'a Identity,
    target: Target<'a>,
    /// What the target is called in checks: `node`, `allocation` or `runbook`.
    kind: &'static str,
    service_project: Option<&'a str>,
}

/// What checks can ask of callers: what `Question::caller` answers.
const CALLER: &[&str] = &[
    "user_id",
    "user",
    "user_domain_id",
    "project_id",
    "tenant",
    "tenant_id",
    "project_name",
    "project_domain_id",
    "domain_id",
    "system_scope",
    "system",
    "is_admin_project",
    "is_public_api",
];

impl Facts for Question<'_> {
    fn has_role(&self, role: &str) -> bool {
        self.identity.roles.iter().any(|own| own.eq_ignore_ascii_case(role))
    }

    fn caller(&self, name: &str) -> Option<&str> {
        let flag = |set| Some(if set { "True" } else { "False" });
        let i = self.identity;
        match name {
            "user_id" | "user" => i.user_id.as_deref(),
            "user_domain_id" => i.user_domain_id.as_deref(),
            "project_id" | "tenant" | "tenant_id" => i.project_id.as_deref(),
            "project_name" => i.project_name.as_deref(),
            "project_domain_id" => i.project_domain_id.as_deref(),
            "domain_id" => i.domain_id.as_deref(),
            "system_scope" | "system" => i.system_scope.as_deref(),
            "is_admin_project" => flag(i.is_admin_project),
            "is_public_api" => flag(i.is_public_api),
            _ => None,
        }
    }

    fn target(&self, name: &str) -> Option<&str> {
        if name == "config.service_project_name" {
            return self.service_project;
        }
        match name.split_once('.') {
            Some((kind, "owner")) if kind == self.kind => self.target.owner,
            Some((kind, "lessee")) if kind == self.kind => self.target.lessee,
            Some(_) | None => None,
        }
    }
}

impl Rule {
    /// What its target is called in checks.
    fn kind(self) -> &'static str {
        let name = self.as_str();
        ["allocation", "runbook"]
            .into_iter()
            .find(|kind| name.strip_prefix("baremetal:").is_some_and(|rest| rest.starts_with(kind)))
            .unwrap_or("node")
    }
}

impl Policy {
    /// Whether `identity` may do what `rule` stands for with `target`.
    #[must_use]
    pub fn allows(&self, rule: Rule, identity: &Identity, target: Target<'_>) -> bool {
        let fits = match rule.scope() {
            Scope::Unchecked => true,
            Scope::Any => identity.system_scope.is_some() || identity.domain_id.is_none(),
            Scope::System => identity.system_scope.is_some(),
            Scope::Project => identity.system_scope.is_none() && identity.domain_id.is_none(),
        };
        let service_project = self.service_project.as_deref();
        let question = Question { identity, target, kind: rule.kind(), service_project };
        fits && self.checks[self.places[rule as usize]].holds(&question, &self.checks)
    }
}

impl Caller {
    /// Who it is in records of what was done: Keystone's id, or the name in the password file.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match self {
            Caller::Admin => None,
            Caller::User(name) => Some(name),
            Caller::Token { identity, .. } => identity.user_id.as_deref(),
        }
    }

    /// The project that it speaks for.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        match self {
            Caller::Admin | Caller::User(_) => None,
            Caller::Token { identity, .. } => identity.project_id.as_deref(),
        }
    }

    /// Whether it speaks for the whole system, which Ironic says of tokens alone.
    #[must_use]
    pub fn is_system(&self) -> bool {
        match self {
            Caller::Admin | Caller::User(_) => false,
            Caller::Token { identity, .. } => identity.system_scope.as_deref() == Some("all"),
        }
    }
}

impl Context {
    /// Whether the caller may do what `rule` stands for with `target`.
    pub(crate) fn may(&self, rule: Rule, target: Target<'_>) -> bool {
        match &self.caller {
            Caller::Admin | Caller::User(_) => true,
            Caller::Token { identity, policy } => policy.allows(rule, identity, target),
        }
    }

    /// [`Context::may`], as a refusal (403).
    pub(crate) fn authorize(&self, rule: Rule, target: Target<'_>) -> Result<()> {
        if self.may(rule, target) {
            return Ok(());
        }
        Err(ApiError::forbidden(format!(
            "Access was denied to the following resource: {}. It takes another role, or a token of another scope.",
            rule.as_str()
        )))
    }

    /// Whether secrets of this kind are shown: nobody but a token may ever see them, and that only when a policy file
    /// says so.
    pub(crate) fn may_see_secrets(&self, rule: Rule, target: Target<'_>) -> bool {
        match &self.caller {
            Caller::Admin | Caller::User(_) => false,
            Caller::Token { identity, policy } => policy.allows(rule, identity, target),
        }
    }

    /// The project whose objects a list has to be limited to; `None` when it shows all (of `owner`, if the client names
    /// one). 403 when the caller may list neither way.
    pub(crate) fn list_project(&self, all: Rule, own: Rule, owner: Option<&str>) -> Result<Option<String>> {
        let refused = match self.authorize(all, Target::NONE) {
            Ok(()) => return Ok(owner.map(str::to_owned)),
            Err(refused) => refused,
        };
        match self.caller.project() {
            Some(project) if owner.is_none_or(|owner| owner == project) => {
                self.authorize(own, Target::NONE)?;
                Ok(Some(project.to_owned()))
            }
            Some(_) | None => Err(refused),
        }
    }
}

#[cfg(test)]
mod tests;
