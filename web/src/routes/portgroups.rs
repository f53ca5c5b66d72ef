//! `/v1/portgroups` and `/v1/nodes/{uuid}/portgroups` (api.md §4). The ports of a port group are the ports' business.

use actix_web::web::ServiceConfig;
use ferric_schema::portgroups::{self, Portgroup, PortgroupQuery, PortgroupSort};
use ferric_schema::{Conn, JsonText, StoreError};
use serde::ser::SerializeMap;
use serde_json::Value;
use uuid::Uuid;

use crate::check::{check, is_logical_name};
use crate::context::Context;
use crate::document::Document;
use crate::error::{ApiError, Result};
use crate::gates::{Arg, Field, PORTGROUP_FILTERS, PORTGROUP_GATED, PortgroupField};
use crate::policy::Rule;
use crate::routes::at;
use crate::routes::of_node::{self, OfNode, Rules, Wanted};
use crate::server::WebState;
use crate::version::Version;
use crate::views::{Iso, Links};

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(
        at("/portgroups")
            .get(of_node::list::<Portgroup>)
            .post(of_node::create::<Portgroup>)
            .patch(of_node::unnamed::<Portgroup>)
            .delete(of_node::unnamed::<Portgroup>),
    )
    .service(at("/portgroups/detail").get(of_node::list_detail::<Portgroup>))
    .service(
        at("/portgroups/{ident}")
            .get(of_node::show::<Portgroup>)
            .post(of_node::named::<Portgroup>)
            .patch(of_node::change::<Portgroup>)
            .delete(of_node::delete::<Portgroup>),
    )
    .service(at("/nodes/{ident}/portgroups").get(of_node::list_of_node::<Portgroup>))
    .service(at("/nodes/{ident}/portgroups/detail").get(of_node::list_of_node_detail::<Portgroup>));
}

impl Document for Portgroup {
    type Field = PortgroupField;

    fn read(&self, field: PortgroupField) -> Value {
        use PortgroupField as F;
        let text = |text: &Option<String>| text.clone().map_or(Value::Null, Value::String);
        match field {
            F::Address => text(&self.address),
            F::Category => text(&self.category),
            F::Extra => Value::Object(self.extra.parse()),
            F::Mode => text(&self.mode),
            F::Name => text(&self.name),
            F::NodeUuid => Value::String(self.node_uuid.to_string()),
            F::PhysicalNetwork => text(&self.physical_network),
            F::Properties => Value::Object(self.properties.parse()),
            F::StandalonePortsSupported => Value::Bool(self.standalone_ports_supported),
            F::Uuid => Value::String(self.uuid.to_string()),
            F::CreatedAt | F::DynamicPortgroup | F::InternalInfo | F::UpdatedAt | F::Links | F::Ports => {
                Value::Null
            }
        }
    }

    fn write(
        &mut self,
        field: PortgroupField,
        value: Value,
        version: Version,
    ) -> std::result::Result<(), String> {
        use PortgroupField as F;
        let value = check(field, value, version)?;
        let text = value.as_str().map(str::to_owned);
        let id = text.as_deref().and_then(|text| Uuid::try_parse(text).ok());
        let object = || value.as_object().map(JsonText::from).unwrap_or_default();
        match field {
            F::Address => self.address = text,
            F::Category => self.category = text,
            F::Extra => self.extra = object(),
            F::Mode => self.mode = text,
            F::Name => {
                let wrong = |name: &&str| !name.is_empty() && !is_logical_name(name);
                if let Some(name) = text.as_deref().filter(wrong) {
                    let refusal = match self.id {
                        0 => format!("Cannot create portgroup with invalid name '{name}'"),
                        _ => format!("Portgroup {}: Cannot change name to invalid name '{name}'", self.uuid),
                    };
                    return Err(format!("{refusal}: only A-Z, a-z, 0-9, -, ., _ and ~ may occur in it."));
                }
                self.name = text;
            }
            F::NodeUuid => self.node_uuid = id.unwrap_or(self.node_uuid),
            F::PhysicalNetwork => self.physical_network = text,
            F::Properties => self.properties = object(),
            F::StandalonePortsSupported => {
                self.standalone_ports_supported = value.as_bool().unwrap_or(true);
            }
            F::Uuid => self.uuid = id.unwrap_or(self.uuid),
            F::CreatedAt | F::DynamicPortgroup | F::InternalInfo | F::UpdatedAt | F::Links | F::Ports => {}
        }
        Ok(())
    }
}

impl OfNode for Portgroup {
    const PATH: &'static str = "portgroups";
    const LIST: &'static str = "portgroups";
    const FILTERS: &'static [Arg] = PORTGROUP_FILTERS;
    const COLUMNS: &'static str = "uuid,address,name";
    const NAMED: bool = true;
    const IDENT: &'static str = "portgroup";
    const FIELDS_OR_DETAIL: &'static str =
        "Can not specify ?detail=True and fields in the same request. Leave one of the two away.";
    const RULES: Rules = Rules {
        list_all: Rule::PortgroupListAll,
        list: Rule::PortgroupList,
        get: Rule::PortgroupGet,
        create: Rule::PortgroupCreate,
        update: Rule::PortgroupUpdate,
        delete: Rule::PortgroupDelete,
    };

    const KEPT: &'static [&'static str] = &["mode"];

    fn empty(node: Uuid, state: &WebState) -> Portgroup {
        Portgroup::new(
            Uuid::new_v4(),
            node,
            state.settings.default_portgroup_mode.clone(),
            state.directory.now(),
        )
    }

    fn sortable(key: &str) -> bool {
        PortgroupSort::from_name(key).is_some()
    }

    fn show<M: SerializeMap>(
        &self,
        field: PortgroupField,
        context: &Context,
        m: &mut M,
    ) -> std::result::Result<(), M::Error> {
        use PortgroupField as F;
        match field {
            F::Address => m.serialize_value(&self.address),
            F::Category => m.serialize_value(&self.category),
            F::CreatedAt => m.serialize_value(&Iso(self.created_at)),
            F::DynamicPortgroup => m.serialize_value(&self.dynamic_portgroup),
            F::Extra => m.serialize_value(&self.extra),
            F::InternalInfo => m.serialize_value(&self.internal_info),
            F::Mode => m.serialize_value(&self.mode),
            F::Name => m.serialize_value(&self.name),
            F::NodeUuid => m.serialize_value(&self.node_uuid),
            F::PhysicalNetwork => m.serialize_value(&self.physical_network),
            F::Properties => m.serialize_value(&self.properties),
            F::StandalonePortsSupported => m.serialize_value(&self.standalone_ports_supported),
            F::UpdatedAt => m.serialize_value(&self.updated_at.map(Iso)),
            F::Uuid => m.serialize_value(&self.uuid),
            F::Links => m.serialize_value(&()),
            F::Ports => {
                let path = format!("portgroups/{}", self.uuid);
                m.serialize_value(&Links { base: &context.base, path: &path, tail: "/ports" })
            }
        }
    }

    fn page(conn: &mut Conn, wanted: &Wanted) -> std::result::Result<Vec<Portgroup>, StoreError> {
        let query = PortgroupQuery {
            node: wanted.node,
            address: wanted.address.clone(),
            shard: wanted.shard.clone(),
            conductor_groups: wanted.conductor_groups.clone(),
            project: wanted.project.clone(),
            sort_key: PortgroupSort::from_name(&wanted.sort_key).unwrap_or_default(),
            sort_dir: wanted.sort_dir,
            limit: wanted.limit,
            marker: wanted.marker,
        };
        portgroups::list(conn, &query)
    }

    fn find(conn: &mut Conn, ident: &str) -> std::result::Result<Option<Portgroup>, StoreError> {
        portgroups::find(conn, ident)
    }

    fn no_node(given: &str) -> String {
        format!("Node {given} could not be found.")
    }

    /// Only some of the later fields may not be asked for.
    fn reading(names: &str, version: Version) -> Result<Version> {
        for name in names.split(',').map(str::trim) {
            if let Some(field) = PORTGROUP_GATED.iter().find(|field| field.spec().name == name)
                && !version.has(field.spec().since)
            {
                return Err(ApiError::too_new(&format!("field '{name}'"), field.spec().since, version));
            }
        }
        Ok(Version::MAX)
    }

    /// Nor set; an empty mode says nothing.
    fn writing(set: &[(&str, bool)], version: Version) -> Result<Version> {
        for (name, _) in set.iter().filter(|(_, says)| *says) {
            Self::reading(name, version)?;
        }
        Ok(Version::MAX)
    }

    fn node_by_name() -> bool {
        true
    }
}
