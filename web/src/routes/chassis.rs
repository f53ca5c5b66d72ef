//! `/v1/chassis`, and the nodes that stand in one (api.md §4).

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_machine::Timestamp;
use ferric_schema::chassis::{self, Chassis, ChassisQuery, ChassisSort};
use ferric_schema::{Conn, JsonText, StoreError};
use serde::ser::SerializeMap;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::body::Body;
use crate::check::check;
use crate::context::Context;
use crate::document::Document;
use crate::error::{ApiError, Result};
use crate::gates::{Arg, ChassisField};
use crate::patch::Patch;
use crate::policy::{self, Rule, Target};
use crate::query::{self, Args};
use crate::routes::kept::{self, Kept, Page, Policies};
use crate::routes::{at, nodes};
use crate::server::WebState;
use crate::version::Version;
use crate::views::Iso;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(
        at("/chassis")
            .get(list)
            .post(kept::create::<Chassis>)
            .patch(kept::unnamed::<Chassis>)
            .delete(kept::unnamed::<Chassis>),
    )
    .service(at("/chassis/detail").get(kept::list_detail::<Chassis>))
    .service(at("/chassis/{uuid}").get(show).post(named).patch(change).delete(delete))
    .service(at("/chassis/{uuid}/nodes").get(list_nodes))
    .service(at("/chassis/{uuid}/nodes/detail").get(list_nodes_detail));
}

/// Refuses `fields` that a chassis does not have, in the words that Ironic has here.
fn check_fields(request: &HttpRequest, context: &Context) -> Result<()> {
    let args = context.args(request)?;
    args.text("fields").map_or(Ok(()), |names| query::enumerated::<ChassisField>(names).map(drop))
}

/// Refuses a path that names no UUID.
fn check_uuid(uuid: &str) -> Result<()> {
    match query::parse_uuid(uuid) {
        Some(_) => Ok(()),
        None => Err(ApiError::bad_request(format!("Expected UUID for chassis_uuid: {uuid}"))),
    }
}

/// POST to one that there is: only the collection takes new ones.
async fn named(uuid: Path<String>) -> Result<HttpResponse> {
    Err(ApiError::bad_request(format!(
        "Schema error for chassis: '{uuid}' is not of type 'object'. A new one is sent to the collection, /v1/chassis."
    )))
}

async fn list(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    check_fields(&request, &context)?;
    kept::list::<Chassis>(request, context, state).await
}

async fn show(
    request: HttpRequest,
    uuid: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    check_uuid(&uuid)?;
    check_fields(&request, &context)?;
    kept::show::<Chassis>(request, uuid, context, state).await
}

/// `GET /chassis/{uuid}/{field}`, which shows that field.
pub(super) async fn show_fields(
    state: &WebState,
    context: &Context,
    uuid: &str,
    list: &str,
) -> Result<HttpResponse> {
    context.authorize(Rule::ChassisGet, Target::NONE)?;
    check_uuid(uuid)?;
    let fields = query::chosen::<ChassisField>(list, context.version)?;
    kept::show_these::<Chassis>(state, context, uuid, &fields).await
}

/// Its UUID is what Ironic lets a client change, and then does not.
async fn change(
    request: HttpRequest,
    uuid: Path<String>,
    body: Body,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let changes = body.0.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if changes.iter().any(|change| change.get("path").and_then(Value::as_str) == Some("/uuid")) {
        return Err(ApiError::bad_request("Cannot overwrite UUID for an existing Chassis."));
    }
    kept::change::<Chassis>(request, uuid, body, context, state).await
}

async fn delete(
    request: HttpRequest,
    uuid: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    check_uuid(&uuid)?;
    kept::delete::<Chassis>(request, uuid, context, state).await
}

async fn list_nodes(
    request: HttpRequest,
    uuid: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    check_uuid(&uuid)?;
    let chassis: Chassis = kept::find(&state, &context, &uuid).await?;
    nodes::list_in(&state, &context, &args, chassis.uuid, false).await
}

async fn list_nodes_detail(
    request: HttpRequest,
    uuid: Path<String>,
    context: Context,
    state: Data<WebState>,
) -> Result<HttpResponse> {
    let args = context.args(&request)?;
    check_uuid(&uuid)?;
    let chassis: Chassis = kept::find(&state, &context, &uuid).await?;
    nodes::list_in(&state, &context, &args, chassis.uuid, true).await
}

impl Document for Chassis {
    type Field = ChassisField;

    fn read(&self, field: ChassisField) -> Value {
        use ChassisField as F;
        match field {
            F::Description => self.description.clone().map_or(Value::Null, Value::String),
            F::Extra => Value::Object(self.extra.parse()),
            F::Uuid => Value::String(self.uuid.to_string()),
            F::CreatedAt | F::UpdatedAt | F::Links | F::Nodes => Value::Null,
        }
    }

    fn write(
        &mut self,
        field: ChassisField,
        value: Value,
        version: Version,
    ) -> std::result::Result<(), String> {
        use ChassisField as F;
        let value = check(field, value, version)?;
        match field {
            F::Description => self.description = value.as_str().map(str::to_owned),
            F::Extra => self.extra = value.as_object().map(JsonText::from).unwrap_or_default(),
            F::Uuid => {
                self.uuid = value.as_str().and_then(|id| Uuid::try_parse(id).ok()).unwrap_or(self.uuid);
            }
            F::CreatedAt | F::UpdatedAt | F::Links | F::Nodes => {}
        }
        Ok(())
    }
}

impl Kept for Chassis {
    const PATH: &'static str = "chassis";
    const FILTERS: &'static [Arg] = &[];
    const COLUMNS: &'static str = "uuid,description";
    const NAMED: bool = false;
    const POLICIES: Policies = Policies {
        get: policy::Rule::ChassisGet,
        create: policy::Rule::ChassisCreate,
        update: policy::Rule::ChassisUpdate,
        delete: policy::Rule::ChassisDelete,
    };

    fn empty(now: Timestamp) -> Chassis {
        Chassis::new(Uuid::new_v4(), now)
    }

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn sortable(key: &str) -> bool {
        ChassisSort::from_name(key).is_some()
    }

    fn filter(_: &Args) -> Result<Option<String>> {
        Ok(None)
    }

    fn strip(_: &mut Map<String, Value>) -> std::result::Result<(), String> {
        Ok(())
    }

    fn settle(&mut self, _: Option<(&Chassis, &Patch<ChassisField>)>) -> std::result::Result<(), String> {
        Ok(())
    }

    /// A list of links in a list, as Ironic has it.
    fn below(field: ChassisField) -> Option<&'static str> {
        (field == ChassisField::Nodes).then_some("/nodes")
    }

    fn show<M: SerializeMap>(&self, field: ChassisField, m: &mut M) -> std::result::Result<(), M::Error> {
        use ChassisField as F;
        match field {
            F::CreatedAt => m.serialize_value(&Iso(self.created_at)),
            F::Description => m.serialize_value(&self.description),
            F::Extra => m.serialize_value(&self.extra),
            F::UpdatedAt => m.serialize_value(&self.updated_at.map(Iso)),
            F::Uuid => m.serialize_value(&self.uuid),
            F::Links | F::Nodes => m.serialize_value(&()),
        }
    }

    fn page(conn: &mut Conn, page: &Page) -> std::result::Result<Vec<Chassis>, StoreError> {
        let query = ChassisQuery {
            sort_key: ChassisSort::from_name(&page.sort_key).unwrap_or_default(),
            sort_dir: page.sort_dir,
            limit: Some(page.limit),
            marker: page.marker,
        };
        chassis::list(conn, &query)
    }

    fn find(conn: &mut Conn, ident: &str) -> std::result::Result<Option<Chassis>, StoreError> {
        Uuid::try_parse(ident).map_or(Ok(None), |uuid| chassis::get(conn, uuid))
    }

    fn insert(&self, conn: &mut Conn) -> std::result::Result<Chassis, StoreError> {
        chassis::insert(conn, self)
    }

    fn update(&self, conn: &mut Conn, now: Timestamp) -> std::result::Result<Chassis, StoreError> {
        chassis::update(conn, self, now)
    }

    fn may_go(&self, conn: &mut Conn) -> std::result::Result<Option<String>, StoreError> {
        let text = || {
            format!(
                "Cannot complete the requested action because chassis {} contains nodes: take them out first.",
                self.uuid
            )
        };
        Ok(chassis::has_nodes(conn, self.uuid)?.then(text))
    }

    fn delete(conn: &mut Conn, uuid: Uuid) -> std::result::Result<(), StoreError> {
        chassis::delete(conn, uuid)
    }
}
