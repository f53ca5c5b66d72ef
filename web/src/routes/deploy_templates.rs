//! `/v1/deploy_templates` (api.md §7).

use actix_web::web::ServiceConfig;
use ferric_machine::Timestamp;
use ferric_schema::templates::{self, Template, TemplateQuery, TemplateSort};
use ferric_schema::{Conn, JsonText, StoreError};
use serde::ser::SerializeMap;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::check::check;
use crate::document::Document;
use crate::error::Result;
use crate::gates::{Arg, TemplateField};
use crate::patch::Patch;
use crate::policy;
use crate::query::Args;
use crate::routes::kept::{self, Kept, Page, Policies};
use crate::routes::{at, kept_steps};
use crate::version::Version;
use crate::views::Iso;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(
        at("/deploy_templates")
            .get(kept::list::<Template>)
            .post(kept::create::<Template>)
            .patch(kept::unnamed::<Template>)
            .delete(kept::unnamed::<Template>),
    )
    .service(
        at("/deploy_templates/{ident}")
            .get(kept::show::<Template>)
            .patch(kept::change::<Template>)
            .delete(kept::delete::<Template>),
    );
}

impl Document for Template {
    type Field = TemplateField;

    fn read(&self, field: TemplateField) -> Value {
        use TemplateField as F;
        match field {
            F::Extra => Value::Object(self.extra.parse()),
            F::Name => Value::String(self.name.clone()),
            F::Steps => kept_steps::read(&self.steps),
            F::Uuid => Value::String(self.uuid.to_string()),
            F::CreatedAt | F::UpdatedAt | F::Links => Value::Null,
        }
    }

    fn write(
        &mut self,
        field: TemplateField,
        value: Value,
        version: Version,
    ) -> std::result::Result<(), String> {
        use TemplateField as F;
        if field == F::Steps && value.is_null() {
            return Err("Schema error for deploy_template: 'steps' is a required property".to_owned());
        }
        let value = check(field, value, version)?;
        match field {
            F::Extra => self.extra = value.as_object().map(JsonText::from).unwrap_or_default(),
            F::Name => self.name = value.as_str().unwrap_or_default().to_owned(),
            F::Steps => self.steps = kept_steps::check(&value, "priority", true)?,
            F::Uuid => {
                self.uuid = value.as_str().and_then(|id| Uuid::try_parse(id).ok()).unwrap_or(self.uuid)
            }
            F::CreatedAt | F::UpdatedAt | F::Links => {}
        }
        Ok(())
    }
}

impl Kept for Template {
    const PATH: &'static str = "deploy_templates";
    const FILTERS: &'static [Arg] = &[];
    const COLUMNS: &'static str = "uuid,name";
    const NAMED: bool = true;
    const POLICIES: Policies = Policies {
        get: policy::Rule::DeployTemplateGet,
        create: policy::Rule::DeployTemplateCreate,
        update: policy::Rule::DeployTemplateUpdate,
        delete: policy::Rule::DeployTemplateDelete,
    };

    fn schema() -> String {
        " for template".to_owned()
    }

    fn empty(now: Timestamp) -> Template {
        Template::new(Uuid::new_v4(), "", now)
    }

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn sortable(key: &str) -> bool {
        TemplateSort::from_name(key).is_some()
    }

    fn filter(_: &Args) -> Result<Option<String>> {
        Ok(None)
    }

    /// `description` is taken and forgotten, as Ironic does.
    fn strip(body: &mut Map<String, Value>) -> std::result::Result<(), String> {
        match body.remove("description") {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(text)) if text.chars().count() <= 255 => Ok(()),
            Some(_) => Err("Expected a string of at most 255 characters in 'description'.".to_owned()),
        }
    }

    fn settle(&mut self, _: Option<(&Template, &Patch<TemplateField>)>) -> std::result::Result<(), String> {
        kept::required("deploy_template", &self.name, &self.steps)
    }

    fn show<M: SerializeMap>(&self, field: TemplateField, m: &mut M) -> std::result::Result<(), M::Error> {
        use TemplateField as F;
        match field {
            F::CreatedAt => m.serialize_value(&Iso(self.created_at)),
            F::Extra => m.serialize_value(&self.extra),
            F::Name => m.serialize_value(&self.name),
            F::Steps => m.serialize_value(&kept_steps::shown(&self.steps)),
            F::UpdatedAt => m.serialize_value(&self.updated_at.map(Iso)),
            F::Uuid => m.serialize_value(&self.uuid),
            F::Links => m.serialize_value(&()),
        }
    }

    fn page(conn: &mut Conn, page: &Page) -> std::result::Result<Vec<Template>, StoreError> {
        let query = TemplateQuery {
            sort_key: TemplateSort::from_name(&page.sort_key).unwrap_or_default(),
            sort_dir: page.sort_dir,
            limit: Some(page.limit),
            marker: page.marker,
        };
        templates::list(conn, &query)
    }

    fn find(conn: &mut Conn, ident: &str) -> std::result::Result<Option<Template>, StoreError> {
        templates::find(conn, ident)
    }

    fn insert(&self, conn: &mut Conn) -> std::result::Result<Template, StoreError> {
        templates::insert(conn, self)
    }

    fn update(&self, conn: &mut Conn, now: Timestamp) -> std::result::Result<Template, StoreError> {
        templates::update(conn, self, now)
    }

    fn delete(conn: &mut Conn, uuid: Uuid) -> std::result::Result<(), StoreError> {
        templates::delete(conn, uuid)
    }
}
