//! `/v1/runbooks` and their traits (api.md §7).

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_machine::Timestamp;
use ferric_schema::runbooks::{self, Runbook, RunbookQuery, RunbookSort};
use ferric_schema::{Conn, JsonText, StoreError};
use serde::ser::SerializeMap;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::body::Body;
use crate::check::{check, not_of_type};
use crate::context::Context;
use crate::document::Document;
use crate::error::Result;
use crate::gates::{Arg, Field, Kind, RUNBOOK_FILTERS, RunbookField};
use crate::patch::Patch;
use crate::policy::{self, Target};
use crate::query::Args;
use crate::routes::kept::{self, Kept, Page, Policies};
use crate::routes::traits::{Wanted, added, wanted};
use crate::routes::{at, kept_steps, read};
use crate::server::WebState;
use crate::version::Version;
use crate::views::Iso;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(
        at("/runbooks")
            .get(kept::list::<Book>)
            .post(kept::create::<Book>)
            .patch(kept::unnamed::<Book>)
            .delete(kept::unnamed::<Book>),
    )
    .service(
        at("/runbooks/{ident}")
            .get(kept::show::<Book>)
            .patch(kept::change::<Book>)
            .delete(kept::delete::<Book>),
    )
    .service(at("/runbooks/{ident}/traits").get(list_traits).put(set_traits).delete(clear_traits))
    .service(at("/runbooks/{ident}/traits/{trait}").put(add_trait).delete(remove_trait));
}

/// A runbook with its traits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Book {
    row: Runbook,
    traits: Vec<String>,
}

impl Document for Book {
    type Field = RunbookField;

    fn read(&self, field: RunbookField) -> Value {
        use RunbookField as F;
        let row = &self.row;
        match field {
            F::Description => json!(row.description),
            F::DisableRamdisk => json!(row.disable_ramdisk),
            F::Extra => Value::Object(row.extra.parse()),
            F::Name => json!(row.name),
            F::Owner => json!(row.owner),
            F::Public => json!(row.public),
            F::Steps => kept_steps::read(&row.steps),
            F::Uuid => json!(row.uuid),
            F::CreatedAt | F::Traits | F::UpdatedAt | F::Links => Value::Null,
        }
    }

    fn write(
        &mut self,
        field: RunbookField,
        value: Value,
        version: Version,
    ) -> std::result::Result<(), String> {
        use RunbookField as F;
        if field.spec().kind == Kind::Bool && value.is_string() {
            let remedy = format!("'{}' takes true or false.", field.spec().name);
            return Err(not_of_type("runbook", &value, "'boolean', 'null'", &remedy));
        }
        if field == F::Steps && value.is_null() {
            return Err("Schema error for runbook: 'steps' is a required property".to_owned());
        }
        let value = check(field, value, version)?;
        let text = value.as_str().map(str::to_owned);
        let row = &mut self.row;
        match field {
            F::Description => row.description = text,
            F::DisableRamdisk => row.disable_ramdisk = value.as_bool().unwrap_or(false),
            F::Extra => row.extra = value.as_object().map(JsonText::from).unwrap_or_default(),
            F::Name => row.name = text.unwrap_or_default(),
            F::Owner => row.owner = text,
            F::Public => row.public = value.as_bool().unwrap_or(false),
            F::Steps => row.steps = kept_steps::check(&value, "order", false)?,
            F::Uuid => row.uuid = text.and_then(|id| Uuid::try_parse(&id).ok()).unwrap_or(row.uuid),
            F::CreatedAt | F::Traits | F::UpdatedAt | F::Links => {}
        }
        Ok(())
    }
}

impl Kept for Book {
    const PATH: &'static str = "runbooks";
    const FILTERS: &'static [Arg] = RUNBOOK_FILTERS;
    const COLUMNS: &'static str = "uuid,name";
    const NAMED: bool = true;
    const POLICIES: Policies = Policies {
        get: policy::Rule::RunbookGet,
        create: policy::Rule::RunbookCreate,
        update: policy::Rule::RunbookUpdate,
        delete: policy::Rule::RunbookDelete,
    };

    const OWNED: bool = true;

    fn target(&self) -> Target<'_> {
        Target { owner: self.row.owner.as_deref(), lessee: None }
    }

    fn may_read(&self, context: &Context) -> Result<()> {
        let own = context.authorize(policy::Rule::RunbookGet, self.target());
        if self.row.public { Ok(()) } else { own }
    }

    fn listing(args: &Args, context: &Context) -> Result<Option<String>> {
        let filter = Self::filter(args)?;
        let project = context.list_project(policy::Rule::RunbookListAll, policy::Rule::RunbookList, None)?;
        Ok(project.or(filter))
    }

    fn change_policies(patch: &Patch<RunbookField>) -> Vec<policy::Rule> {
        let roots = patch.roots();
        let of = |field: &RunbookField| match field {
            RunbookField::Owner => policy::Rule::RunbookUpdateOwner,
            RunbookField::Public => policy::Rule::RunbookUpdatePublic,
            RunbookField::CreatedAt
            | RunbookField::Description
            | RunbookField::DisableRamdisk
            | RunbookField::Extra
            | RunbookField::Name
            | RunbookField::Steps
            | RunbookField::Traits
            | RunbookField::UpdatedAt
            | RunbookField::Uuid
            | RunbookField::Links => policy::Rule::RunbookUpdate,
        };
        let mut rules: Vec<policy::Rule> = roots.iter().map(of).collect();
        if rules.is_empty() {
            rules.push(policy::Rule::RunbookUpdate);
        }
        rules
    }

    /// The runbook of a caller that does not speak for the system is the caller's project's.
    fn adopt(&mut self, context: &Context) -> std::result::Result<(), String> {
        if context.caller.is_system() {
            return Ok(());
        }
        let project = context.caller.project();
        if self.row.owner.is_some() && self.row.owner.as_deref() != project {
            return Err(
                "Cannot create a runbook as a project scoped admin with an owner other than your own \
                        project. Leave the owner away, or ask with a token of the system."
                    .to_owned(),
            );
        }
        if project.is_some() && self.row.public {
            return Err("Cannot create a public runbook as a project scoped admin. Leave 'public' away, or ask with a \
                        token of the system."
                .to_owned());
        }
        self.row.owner = project.map(str::to_owned);
        Ok(())
    }

    fn empty(now: Timestamp) -> Book {
        Book { row: Runbook::new(Uuid::new_v4(), "", now), traits: Vec::new() }
    }

    fn uuid(&self) -> Uuid {
        self.row.uuid
    }

    fn sortable(key: &str) -> bool {
        RunbookSort::from_name(key).is_some()
    }

    /// `project=true`: what a caller of no project may see, which is what is public.
    fn filter(args: &Args) -> Result<Option<String>> {
        Ok(args.bool("project")?.filter(|only| *only).map(|_| String::new()))
    }

    fn strip(_: &mut Map<String, Value>) -> std::result::Result<(), String> {
        Ok(())
    }

    fn settle(&mut self, before: Option<(&Book, &Patch<RunbookField>)>) -> std::result::Result<(), String> {
        let row = &mut self.row;
        kept::required("runbook", &row.name, &row.steps)?;
        let changes = |field| before.is_none_or(|(_, patch)| patch.roots().contains(&field));
        // a runbook that becomes public loses the owner that it had, but none may be given to it
        let given = row.owner.is_some() && changes(RunbookField::Owner);
        if row.public && given {
            return Err("There cannot be an owner for a public runbook: leave one of them away.".to_owned());
        }
        if row.public {
            row.owner = None;
        }
        Ok(())
    }

    fn show<M: SerializeMap>(&self, field: RunbookField, m: &mut M) -> std::result::Result<(), M::Error> {
        use RunbookField as F;
        let row = &self.row;
        match field {
            F::CreatedAt => m.serialize_value(&Iso(row.created_at)),
            F::Description => m.serialize_value(&row.description),
            F::DisableRamdisk => m.serialize_value(&row.disable_ramdisk),
            F::Extra => m.serialize_value(&row.extra),
            F::Name => m.serialize_value(&row.name),
            F::Owner => m.serialize_value(&row.owner),
            F::Public => m.serialize_value(&row.public),
            F::Steps => m.serialize_value(&kept_steps::shown(&row.steps)),
            F::Traits => m.serialize_value(&self.traits),
            F::UpdatedAt => m.serialize_value(&row.updated_at.map(Iso)),
            F::Uuid => m.serialize_value(&row.uuid),
            F::Links => m.serialize_value(&()),
        }
    }

    fn page(conn: &mut Conn, page: &Page) -> std::result::Result<Vec<Book>, StoreError> {
        let query = RunbookQuery {
            project: page.filter.clone(),
            sort_key: RunbookSort::from_name(&page.sort_key).unwrap_or_default(),
            sort_dir: page.sort_dir,
            limit: Some(page.limit),
            marker: page.marker,
        };
        let rows = runbooks::list(conn, &query)?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.uuid).collect();
        let mut traits = runbooks::traits_of(conn, &ids)?;
        let book = |row: Runbook| Book { traits: traits.remove(&row.uuid).unwrap_or_default(), row };
        Ok(rows.into_iter().map(book).collect())
    }

    fn find(conn: &mut Conn, ident: &str) -> std::result::Result<Option<Book>, StoreError> {
        let Some(row) = runbooks::find(conn, ident)? else { return Ok(None) };
        Ok(Some(Book { traits: runbooks::traits(conn, row.uuid)?, row }))
    }

    fn insert(&self, conn: &mut Conn) -> std::result::Result<Book, StoreError> {
        Ok(Book { row: runbooks::insert(conn, &self.row)?, traits: Vec::new() })
    }

    fn update(&self, conn: &mut Conn, now: Timestamp) -> std::result::Result<Book, StoreError> {
        Ok(Book { row: runbooks::update(conn, &self.row, now)?, traits: self.traits.clone() })
    }

    fn delete(conn: &mut Conn, uuid: Uuid) -> std::result::Result<(), StoreError> {
        runbooks::delete(conn, uuid)
    }
}

/// The runbook, if the version knows that runbooks have traits.
async fn with_traits(
    request: &HttpRequest,
    ident: &str,
    context: &Context,
    state: &WebState,
    rule: policy::Rule,
) -> Result<Uuid> {
    context.args(request)?;
    let book = kept::find::<Book>(state, context, ident).await?;
    context.authorize(rule, book.target())?;
    Ok(book.row.uuid)
}

async fn list_traits(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let id = with_traits(&request, &ident, &context, &state, policy::Rule::RunbookGet).await?;
    let traits = read(&state, move |conn| runbooks::traits(conn, id)).await?;
    Ok(HttpResponse::Ok().json(json!({"traits": traits})))
}

async fn set_traits(
    request: HttpRequest,
    ident: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let id = with_traits(&request, &ident, &context, &state, policy::Rule::RunbookUpdate).await?;
    let Wanted(names) = wanted(body, "runbooks")?;
    state.directory.store().write(move |conn| runbooks::set_traits(conn, id, &names)).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn clear_traits(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let id = with_traits(&request, &ident, &context, &state, policy::Rule::RunbookUpdate).await?;
    state.directory.store().write(move |conn| runbooks::set_traits(conn, id, &[])).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn add_trait(
    request: HttpRequest,
    path: Path<(String, String)>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let (ident, name) = path.into_inner();
    let id = with_traits(&request, &ident, &context, &state, policy::Rule::RunbookUpdate).await?;
    let location = added(&context, "runbooks", &ident, &name, body)?;
    state.directory.store().write(move |conn| runbooks::add_trait(conn, id, &name)).await?;
    Ok(HttpResponse::NoContent().insert_header(location).finish())
}

/// A trait that is not there is gone, too.
async fn remove_trait(
    request: HttpRequest,
    path: Path<(String, String)>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let (ident, name) = path.into_inner();
    let id = with_traits(&request, &ident, &context, &state, policy::Rule::RunbookUpdate).await?;
    state.directory.store().write(move |conn| runbooks::remove_trait(conn, id, &name)).await?;
    Ok(HttpResponse::NoContent().finish())
}
