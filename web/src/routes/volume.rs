//! `/v1/volume`, its connectors and targets, and those of a node (api.md §8).

use actix_web::web::{Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_schema::volumes::connectors::{self, Connector, ConnectorQuery, ConnectorSort};
use ferric_schema::volumes::targets::{self, Target, TargetQuery, TargetSort};
use ferric_schema::{Conn, JsonText, StoreError};
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::check::check;
use crate::context::Context;
use crate::document::Document;
use crate::error::Result;
use crate::gates::{Arg, ConnectorField, TargetField, VOLUME_FILTERS};
use crate::mask;
use crate::policy::{self, Rule};
use crate::query::{self};
use crate::routes::at;
use crate::routes::of_node::{self, OfNode, Rules, Wanted};
use crate::server::WebState;
use crate::version::Version;
use crate::views::{Iso, Links};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(at("/volume").get(overview))
        .service(
            at("/volume/connectors")
                .get(of_node::list::<Connector>)
                .post(of_node::create::<Connector>)
                .patch(of_node::unnamed::<Connector>)
                .delete(of_node::unnamed::<Connector>),
        )
        .service(
            at("/volume/connectors/{uuid}")
                .get(of_node::show::<Connector>)
                .post(of_node::named::<Connector>)
                .patch(of_node::change::<Connector>)
                .delete(of_node::delete::<Connector>),
        )
        .service(
            at("/volume/targets")
                .get(of_node::list::<Target>)
                .post(of_node::create::<Target>)
                .patch(of_node::unnamed::<Target>)
                .delete(of_node::unnamed::<Target>),
        )
        .service(
            at("/volume/targets/{uuid}")
                .get(of_node::show::<Target>)
                .post(of_node::named::<Target>)
                .patch(of_node::change::<Target>)
                .delete(of_node::delete::<Target>),
        )
        .service(at("/nodes/{ident}/volume").get(overview_of_node))
        .service(at("/nodes/{ident}/volume/connectors").get(of_node::list_of_node::<Connector>))
        .service(at("/nodes/{ident}/volume/targets").get(of_node::list_of_node::<Target>));
}

/// Where connectors and targets are, below `path`.
#[derive(Serialize)]
struct Overview<'a> {
    connectors: Links<'a>,
    targets: Links<'a>,
    links: Links<'a>,
}

fn tell(request: &HttpRequest, context: &Context, path: &str) -> Result<HttpResponse> {
    context.args(request)?;
    context.authorize(Rule::VolumeGet, policy::Target::NONE)?;
    let links = |tail| Links { base: &context.base, path, tail };
    let all = Overview { connectors: links("/connectors"), targets: links("/targets"), links: links("/") };
    Ok(HttpResponse::Ok().json(all))
}

async fn overview(request: HttpRequest, context: Context) -> Result<HttpResponse> {
    tell(&request, &context, "volume")
}

/// Of whatever node: the links are followed to learn whether there is one.
async fn overview_of_node(
    request: HttpRequest,
    ident: Path<String>,
    context: Context,
) -> Result<HttpResponse> {
    tell(&request, &context, &format!("nodes/{}/volume", query::encode(&ident)))
}

/// A column of the wire's form and back, where the table has checked it.
fn id(value: &Value) -> Option<Uuid> {
    value.as_str().and_then(|text| Uuid::try_parse(text).ok())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn object(value: &Value) -> JsonText {
    value.as_object().map(JsonText::from).unwrap_or_default()
}

fn no_node(given: &str) -> String {
    format!(
        "Invalid input for field/attribute node_uuid. Value: '{given}'. There is no such node; give the UUID of one."
    )
}

const FIELDS_OR_DETAIL: &str = "Can't fetch a subset of fields with 'detail' set: leave one of the two away.";

const RULES: Rules = Rules {
    list_all: Rule::VolumeListAll,
    list: Rule::VolumeList,
    get: Rule::VolumeGet,
    create: Rule::VolumeCreate,
    update: Rule::VolumeUpdate,
    delete: Rule::VolumeDelete,
};

impl Document for Connector {
    type Field = ConnectorField;

    fn read(&self, field: ConnectorField) -> Value {
        use ConnectorField as F;
        match field {
            F::ConnectorId => json!(self.connector_id),
            F::Extra => Value::Object(self.extra.parse()),
            F::NodeUuid => json!(self.node_uuid),
            F::Type => json!(self.kind),
            F::Uuid => json!(self.uuid),
            F::CreatedAt | F::UpdatedAt | F::Links => Value::Null,
        }
    }

    fn write(
        &mut self,
        field: ConnectorField,
        value: Value,
        version: Version,
    ) -> std::result::Result<(), String> {
        use ConnectorField as F;
        let value = check(field, value, version)?;
        match field {
            F::ConnectorId => self.connector_id = text(&value),
            F::Extra => self.extra = object(&value),
            F::NodeUuid => self.node_uuid = id(&value).unwrap_or(self.node_uuid),
            F::Type => self.kind = text(&value),
            F::Uuid => self.uuid = id(&value).unwrap_or(self.uuid),
            F::CreatedAt | F::UpdatedAt | F::Links => {}
        }
        Ok(())
    }
}

impl OfNode for Connector {
    const PATH: &'static str = "volume/connectors";
    const LIST: &'static str = "connectors";
    const FILTERS: &'static [Arg] = VOLUME_FILTERS;
    const COLUMNS: &'static str = "uuid,node_uuid,type,connector_id";
    const NAMED: bool = false;
    const IDENT: &'static str = "connector_uuid";
    const FIELDS_OR_DETAIL: &'static str = FIELDS_OR_DETAIL;
    const RULES: Rules = RULES;

    fn empty(node: Uuid, state: &WebState) -> Connector {
        Connector::new(Uuid::new_v4(), node, state.directory.now())
    }

    fn sortable(key: &str) -> bool {
        // Ironic's rows know their node by a number, so it does not sort by this
        ConnectorSort::from_name(key).is_some_and(|key| key != ConnectorSort::NodeUuid)
    }

    fn show<M: SerializeMap>(
        &self,
        field: ConnectorField,
        _: &Context,
        m: &mut M,
    ) -> std::result::Result<(), M::Error> {
        use ConnectorField as F;
        match field {
            F::ConnectorId => m.serialize_value(&self.connector_id),
            F::CreatedAt => m.serialize_value(&Iso(self.created_at)),
            F::Extra => m.serialize_value(&self.extra),
            F::NodeUuid => m.serialize_value(&self.node_uuid),
            F::Type => m.serialize_value(&self.kind),
            F::UpdatedAt => m.serialize_value(&self.updated_at.map(Iso)),
            F::Uuid => m.serialize_value(&self.uuid),
            F::Links => m.serialize_value(&()),
        }
    }

    fn page(conn: &mut Conn, wanted: &Wanted) -> std::result::Result<Vec<Connector>, StoreError> {
        let query = ConnectorQuery {
            node: wanted.node,
            project: wanted.project.clone(),
            sort_key: ConnectorSort::from_name(&wanted.sort_key).unwrap_or_default(),
            sort_dir: wanted.sort_dir,
            limit: wanted.limit,
            marker: wanted.marker,
        };
        connectors::list(conn, &query)
    }

    fn find(conn: &mut Conn, ident: &str) -> std::result::Result<Option<Connector>, StoreError> {
        Uuid::try_parse(ident).map_or(Ok(None), |uuid| connectors::get(conn, uuid))
    }

    fn no_node(given: &str) -> String {
        no_node(given)
    }
}

impl Document for Target {
    type Field = TargetField;

    fn read(&self, field: TargetField) -> Value {
        use TargetField as F;
        match field {
            F::BootIndex => json!(self.boot_index),
            F::Extra => Value::Object(self.extra.parse()),
            F::NodeUuid => json!(self.node_uuid),
            F::Properties => Value::Object(self.properties.parse()),
            F::Uuid => json!(self.uuid),
            F::VolumeId => json!(self.volume_id),
            F::VolumeType => json!(self.volume_type),
            F::CreatedAt | F::UpdatedAt | F::Links => Value::Null,
        }
    }

    fn write(
        &mut self,
        field: TargetField,
        value: Value,
        version: Version,
    ) -> std::result::Result<(), String> {
        use TargetField as F;
        let value = check(field, value, version)?;
        match field {
            F::BootIndex => self.boot_index = value.as_i64().unwrap_or(self.boot_index),
            F::Extra => self.extra = object(&value),
            F::NodeUuid => self.node_uuid = id(&value).unwrap_or(self.node_uuid),
            F::Properties => self.properties = object(&value),
            F::Uuid => self.uuid = id(&value).unwrap_or(self.uuid),
            F::VolumeId => self.volume_id = text(&value),
            F::VolumeType => self.volume_type = text(&value),
            F::CreatedAt | F::UpdatedAt | F::Links => {}
        }
        Ok(())
    }
}

impl OfNode for Target {
    const PATH: &'static str = "volume/targets";
    const LIST: &'static str = "targets";
    const FILTERS: &'static [Arg] = VOLUME_FILTERS;
    const COLUMNS: &'static str = "uuid,node_uuid,volume_type,boot_index,volume_id";
    const NAMED: bool = false;
    const IDENT: &'static str = "target_uuid";
    const FIELDS_OR_DETAIL: &'static str = FIELDS_OR_DETAIL;
    const RULES: Rules = RULES;

    fn empty(node: Uuid, state: &WebState) -> Target {
        Target::new(Uuid::new_v4(), node, state.directory.now())
    }

    fn sortable(key: &str) -> bool {
        TargetSort::from_name(key).is_some_and(|key| key != TargetSort::NodeUuid)
    }

    /// Properties may hold what the volume is opened with.
    fn show<M: SerializeMap>(
        &self,
        field: TargetField,
        context: &Context,
        m: &mut M,
    ) -> std::result::Result<(), M::Error> {
        use TargetField as F;
        match field {
            F::BootIndex => m.serialize_value(&self.boot_index),
            F::CreatedAt => m.serialize_value(&Iso(self.created_at)),
            F::Extra => m.serialize_value(&self.extra),
            F::NodeUuid => m.serialize_value(&self.node_uuid),
            F::Properties if context.may(Rule::VolumeViewTargetProperties, policy::Target::NONE) => {
                let mut shown = Value::Object(self.properties.parse());
                mask::mask(&mut shown);
                m.serialize_value(&shown)
            }
            F::Properties => m.serialize_value(&json!({
                "redacted_contents": "** Value redacted: Requires permission \
                                      baremetal:volume:view_target_properties access. Permission denied. **"
            })),
            F::UpdatedAt => m.serialize_value(&self.updated_at.map(Iso)),
            F::Uuid => m.serialize_value(&self.uuid),
            F::VolumeId => m.serialize_value(&self.volume_id),
            F::VolumeType => m.serialize_value(&self.volume_type),
            F::Links => m.serialize_value(&()),
        }
    }

    fn page(conn: &mut Conn, wanted: &Wanted) -> std::result::Result<Vec<Target>, StoreError> {
        let query = TargetQuery {
            node: wanted.node,
            project: wanted.project.clone(),
            sort_key: TargetSort::from_name(&wanted.sort_key).unwrap_or_default(),
            sort_dir: wanted.sort_dir,
            limit: wanted.limit,
            marker: wanted.marker,
        };
        targets::list(conn, &query)
    }

    fn find(conn: &mut Conn, ident: &str) -> std::result::Result<Option<Target>, StoreError> {
        Uuid::try_parse(ident).map_or(Ok(None), |uuid| targets::get(conn, uuid))
    }

    fn no_node(given: &str) -> String {
        no_node(given)
    }
}
