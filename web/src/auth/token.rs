//! What Keystone's answers say, as far as it is needed here.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::policy::Identity;

/// A token's document.
#[derive(Deserialize)]
pub(super) struct Document {
    pub(super) token: Token,
}

#[derive(Deserialize)]
pub(super) struct Token {
    pub(super) expires_at: String,
    #[serde(default)]
    roles: Vec<Named>,
    user: Option<User>,
    project: Option<Project>,
    domain: Option<Named>,
    system: Option<System>,
    is_admin_project: Option<bool>,
}

#[derive(Deserialize)]
struct Named {
    id: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct User {
    id: Option<String>,
    name: Option<String>,
    domain: Option<Named>,
}

#[derive(Deserialize)]
struct Project {
    id: Option<String>,
    name: Option<String>,
    domain: Option<Named>,
}

#[derive(Deserialize)]
struct System {
    #[serde(default)]
    all: bool,
}

impl Token {
    /// When it ends; `None` when that is no moment.
    pub(super) fn ends(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(&self.expires_at, &Rfc3339).ok()
    }

    pub(super) fn identity(self) -> Identity {
        let domain = |of: Option<Named>| of.and_then(|domain| domain.id);
        let (user_id, user_name, user_domain_id) = match self.user {
            Some(user) => (user.id, user.name, domain(user.domain)),
            None => (None, None, None),
        };
        let (project_id, project_name, project_domain_id) = match self.project {
            Some(project) => (project.id, project.name, domain(project.domain)),
            None => (None, None, None),
        };
        Identity {
            user_id,
            user_name,
            user_domain_id,
            project_id,
            project_name,
            project_domain_id,
            domain_id: domain(self.domain),
            system_scope: self.system.filter(|system| system.all).map(|_| "all".to_owned()),
            is_admin_project: self.is_admin_project.unwrap_or(true),
            roles: self.roles.into_iter().filter_map(|role| role.name).collect(),
            is_public_api: false,
        }
    }
}
