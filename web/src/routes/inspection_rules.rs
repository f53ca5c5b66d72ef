//! `/v1/inspection_rules` (api.md §7). A sensitive rule never shows what it does.

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use ferric_machine::Timestamp;
use ferric_schema::rules::{self, Rule, RuleQuery, RuleSort};
use ferric_schema::{Conn, StoreError};
use serde::ser::SerializeMap;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::check::{check, not_of_type};
use crate::context::Context;
use crate::document::Document;
use crate::error::Result;
use crate::gates::{Arg, Field, Kind, RULE_FILTERS, RuleField};
use crate::patch::Patch;
use crate::policy;
use crate::query::{Args, parse_uuid};
use crate::routes::kept::{self, Kept, Page, Policies};
use crate::routes::{at, rule_form};
use crate::server::WebState;
use crate::version::Version;
use crate::views::Iso;

pub(super) fn configure(cfg: &mut ServiceConfig) {
    cfg.service(
        at("/inspection_rules")
            .get(kept::list::<Rule>)
            .post(kept::create::<Rule>)
            .patch(kept::unnamed::<Rule>)
            .delete(delete_all),
    )
    .service(
        at("/inspection_rules/{uuid}")
            .get(kept::show::<Rule>)
            .patch(kept::change::<Rule>)
            .delete(kept::delete::<Rule>),
    );
}

/// The only phase there is.
const PHASE: &str = "main";

impl Document for Rule {
    type Field = RuleField;

    fn read(&self, field: RuleField) -> Value {
        use RuleField as F;
        match field {
            F::Actions => Value::Array(self.actions.parse()),
            F::Conditions => Value::Array(self.conditions.parse()),
            F::Description => json!(self.description),
            F::Phase => json!(self.phase),
            F::Priority => json!(self.priority),
            F::Sensitive => json!(self.sensitive),
            F::Uuid => json!(self.uuid),
            F::CreatedAt | F::UpdatedAt | F::Links => Value::Null,
        }
    }

    fn write(&mut self, field: RuleField, value: Value, version: Version) -> std::result::Result<(), String> {
        use RuleField as F;
        if field.spec().kind == Kind::Bool && value.is_string() {
            let remedy = format!("'{}' takes true or false.", field.spec().name);
            return Err(not_of_type("rule", &value, "'boolean'", &remedy));
        }
        if field == F::Priority
            && let Some(number) = value.as_i64()
        {
            if number < 0 {
                return Err(format!("Schema error for rule: {number} is less than the minimum of 0"));
            }
            if number > 9999 {
                return Err("Priority must be between 0 and 9999 for user-defined rules.".to_owned());
            }
        }
        let value = check(field, value, version)?;
        match field {
            F::Actions => self.actions = rule_form::actions(&value)?,
            F::Conditions => self.conditions = rule_form::conditions(&value)?,
            F::Description => self.description = value.as_str().map(str::to_owned),
            F::Phase => match value.as_str() {
                None | Some(PHASE) => self.phase = PHASE.to_owned(),
                Some(other) => return Err(format!("Invalid phase: {other}. Valid phases are: {PHASE}")),
            },
            F::Priority => {
                self.priority = value.as_i64().and_then(|p| i32::try_from(p).ok()).unwrap_or_default();
            }
            F::Sensitive => self.sensitive = value.as_bool().unwrap_or(false),
            F::Uuid => self.uuid = value.as_str().and_then(parse_uuid).unwrap_or(self.uuid),
            F::CreatedAt | F::UpdatedAt | F::Links => {}
        }
        Ok(())
    }
}

impl Kept for Rule {
    const PATH: &'static str = "inspection_rules";
    const FILTERS: &'static [Arg] = RULE_FILTERS;
    const COLUMNS: &'static str = "uuid,priority,phase,description";
    const NAMED: bool = false;
    const POLICIES: Policies = Policies {
        get: policy::Rule::InspectionRuleGet,
        create: policy::Rule::InspectionRuleCreate,
        update: policy::Rule::InspectionRuleUpdate,
        delete: policy::Rule::InspectionRuleDelete,
    };

    fn schema() -> String {
        String::new()
    }

    fn taken(what: &str, value: &str) -> Option<String> {
        (what == "uuid").then(|| format!("A rule with UUID {value} already exists."))
    }

    fn empty(now: Timestamp) -> Rule {
        Rule::new(Uuid::new_v4(), now)
    }

    fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn sortable(key: &str) -> bool {
        RuleSort::from_name(key).is_some()
    }

    fn filter(args: &Args) -> Result<Option<String>> {
        Ok(args.text("phase").map(str::to_owned))
    }

    fn strip(_: &mut Map<String, Value>) -> std::result::Result<(), String> {
        Ok(())
    }

    fn settle(&mut self, before: Option<(&Rule, &Patch<RuleField>)>) -> std::result::Result<(), String> {
        if self.actions.parse().is_empty() {
            return Err("Schema error for rule: 'actions' is a required property".to_owned());
        }
        // taking the flag away would show what it hides
        if before.is_some_and(|(rule, _)| rule.sensitive) && !self.sensitive {
            return Err("Inspection rules cannot have the sensitive flag unset: make a new rule.".to_owned());
        }
        // what no inspection could run would fail every one of them
        let rule = serde_json::to_value(&*self).expect("a rule is JSON");
        ferric_actors::validate_inspection_rule(&rule).map_err(|error| error.to_string())
    }

    fn show<M: SerializeMap>(&self, field: RuleField, m: &mut M) -> std::result::Result<(), M::Error> {
        use RuleField as F;
        match field {
            F::Actions | F::Conditions if self.sensitive => m.serialize_value(&()),
            F::Actions => m.serialize_value(&self.actions),
            F::Conditions => m.serialize_value(&self.conditions),
            F::CreatedAt => m.serialize_value(&Iso(self.created_at)),
            F::Description => m.serialize_value(&self.description),
            F::Phase => m.serialize_value(&self.phase),
            F::Priority => m.serialize_value(&self.priority),
            F::Sensitive => m.serialize_value(&self.sensitive),
            F::UpdatedAt => m.serialize_value(&self.updated_at.map(Iso)),
            F::Uuid => m.serialize_value(&self.uuid),
            F::Links => m.serialize_value(&()),
        }
    }

    fn page(conn: &mut Conn, page: &Page) -> std::result::Result<Vec<Rule>, StoreError> {
        let query = RuleQuery {
            phase: page.filter.clone(),
            sort_key: RuleSort::from_name(&page.sort_key).unwrap_or_default(),
            sort_dir: page.sort_dir,
            limit: Some(page.limit),
            marker: page.marker,
        };
        rules::list(conn, &query)
    }

    fn find(conn: &mut Conn, ident: &str) -> std::result::Result<Option<Rule>, StoreError> {
        parse_uuid(ident).map_or(Ok(None), |id| rules::get(conn, id))
    }

    fn insert(&self, conn: &mut Conn) -> std::result::Result<Rule, StoreError> {
        rules::insert(conn, self)
    }

    fn update(&self, conn: &mut Conn, now: Timestamp) -> std::result::Result<Rule, StoreError> {
        rules::update(conn, self, now)
    }

    fn delete(conn: &mut Conn, uuid: Uuid) -> std::result::Result<(), StoreError> {
        rules::delete(conn, uuid)
    }
}

/// Every rule at once; the built-in ones are no rows and stay.
async fn delete_all(request: HttpRequest, context: Context, state: Data<WebState>) -> Result<HttpResponse> {
    context.args(&request)?;
    context.authorize(policy::Rule::InspectionRuleDelete, policy::Target::NONE)?;
    state.directory.store().write(rules::delete_all).await?;
    Ok(HttpResponse::NoContent().finish())
}
