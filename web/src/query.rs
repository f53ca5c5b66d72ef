//! Query strings: arguments with their gates, paging, and which fields an answer shows (api.md §1 "Lists").

use std::fmt::Write as _;

use actix_web::web;

use crate::body::check_names;
use crate::context::Context;
use crate::error::{ApiError, Result};
use crate::gates::{Arg, Field, Kind, LEFT_OUT};
use crate::nearest::{did_you_mean, ended};
use crate::version::Version;

/// The arguments of a query string: all of them allowed, and known to the version.
#[derive(Debug)]
pub(crate) struct Args(Vec<(String, String)>);

impl Args {
    /// Parses and checks `query`.
    pub(crate) fn parse(query: &str, allowed: &'static [Arg], version: Version) -> Result<Args> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|_| ApiError::bad_request("The query string is not of the form key=value&key=value."))?
            .into_inner();
        check_names(pairs.iter().map(|(name, _)| name.as_str()), allowed, version)
            .map_err(|error| with_value(error, &pairs))?;
        match pairs.iter().find(|(_, value)| value.contains('\0')) {
            Some((name, _)) => Err(ApiError::bad_request(format!("'{name}' has a NUL character in it."))),
            None => Ok(Args(pairs)),
        }
    }

    /// All of them; of those that are given twice the last one comes first.
    pub(crate) fn into_pairs(self) -> impl Iterator<Item = (String, String)> {
        self.0.into_iter().rev()
    }

    /// The value of `name`; the last one when it is given twice.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean, in the words that Ironic takes.
    pub(crate) fn bool(&self, name: &str) -> Result<Option<bool>> {
        self.text(name).map(|text| strict_bool(name, text)).transpose()
    }

    /// A UUID.
    pub(crate) fn uuid(&self, name: &str) -> Result<Option<uuid::Uuid>> {
        let parse = |text: &str| {
            parse_uuid(text).ok_or_else(|| ApiError::bad_request(format!("Expected UUID for {name}: {text}")))
        };
        self.text(name).map(parse).transpose()
    }

    /// The comma-separated values of `name`.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<String>> {
        let split = |text: &str| {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        self.text(name).map(split)
    }
}

/// The refusal of an argument that is too new repeats its value.
fn with_value(error: ApiError, pairs: &[(String, String)]) -> ApiError {
    let text = error.to_string();
    let Some((name, rest)) =
        text.strip_prefix("Invalid query parameter ?").and_then(|rest| rest.split_once(':'))
    else {
        return error;
    };
    let value =
        pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default();
    let value: String = match strict_bool(name, value) {
        Ok(true) => "True".to_owned(),
        Ok(false) => "False".to_owned(),
        Err(_) => value.chars().take(64).collect(),
    };
    ApiError::bad_request(format!(
        "Invalid query parameter ?{name}={value} received. {}",
        crate::error::capitalised(rest.trim())
    ))
}

/// A boolean as Ironic reads it from text.
pub(crate) fn strict_bool(name: &str, text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err(ApiError::bad_request(format!(
            "Invalid {name}: Unrecognized value '{}', acceptable values are: '0', '1', 'f', 'false', 'n', 'no', 'off', \
             'on', 't', 'true', 'y', 'yes'",
            text.chars().take(64).collect::<String>()
        ))),
    }
}

/// A UUID in its usual form, with hyphens or without.
pub(crate) fn parse_uuid(text: &str) -> Option<uuid::Uuid> {
    (text.len() == 36 || text.len() == 32).then(|| uuid::Uuid::try_parse(text).ok()).flatten()
}

/// Which page of a list.
#[derive(Debug, Clone)]
pub(crate) struct Paging {
    /// Rows at most.
    pub(crate) limit: u32,
    /// The id after which the page begins.
    pub(crate) marker: Option<String>,
    /// What it is sorted by.
    pub(crate) sort_key: String,
    /// Downwards.
    pub(crate) descending: bool,
}

impl Paging {
    /// Reads `limit`, `marker`, `sort_key`, `sort_dir`.
    pub(crate) fn parse(args: &Args, max_limit: u32) -> Result<Paging> {
        let limit = match args.text("limit") {
            None => max_limit,
            Some(text) => {
                let limit: i64 = text
                    .parse()
                    .map_err(|_| ApiError::bad_request(format!("Expected an integer for limit: {text}")))?;
                // 0 and less are refused, more than the maximum is cut
                if limit <= 0 {
                    return Err(ApiError::bad_request("Limit must be positive"));
                }
                u32::try_from(limit).unwrap_or(u32::MAX).min(max_limit)
            }
        };
        let descending = match args.text("sort_dir") {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "Invalid sort direction: {other}. Acceptable values are 'asc' or 'desc'"
                )));
            }
        };
        Ok(Paging {
            limit,
            marker: args.text("marker").map(str::to_owned),
            sort_key: args.text("sort_key").unwrap_or("id").to_owned(),
            descending,
        })
    }

    /// The address of the page after the one that ends with `last`. `path` is below `/v1/`; `filters` are the names
    /// to be repeated; `columns` are put in when the client named no fields.
    pub(crate) fn next(
        &self,
        context: &Context,
        path: &str,
        args: &Args,
        filters: &[Arg],
        columns: Option<&str>,
        last: &str,
    ) -> String {
        let direction = if self.descending { "desc" } else { "asc" };
        let mut url =
            format!("{}/v1/{path}?sort_key={}&sort_dir={direction}", context.base, encode(&self.sort_key));
        let mut put = |name: &str, value: &str| {
            let _ = write!(url, "&{name}={}", encode(value));
        };
        if args.text("detail").is_some_and(|detail| strict_bool("detail", detail).unwrap_or(false)) {
            put("detail", "True");
        } else {
            // Ironic's volumes alone forget that it was asked for
            if args.text("detail").is_some() && !path.contains("volume/") {
                put("detail", "False");
            }
            if let Some(fields) = args.text("fields").or(columns) {
                put("fields", fields);
            }
        }
        for filter in filters {
            if let Some(value) = args.text(filter.name) {
                put(filter.name, value);
            }
        }
        put("limit", &self.limit.to_string());
        put("marker", last);
        url
    }
}

/// Percent-encodes a query value; commas stay readable.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' | b':' => {
                encoded.push(byte as char)
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

/// The fields that an answer shows: every one that the version knows.
pub(crate) fn all_fields<F: Field>(version: Version) -> Vec<F> {
    F::ALL.iter().copied().filter(|field| version.has(field.spec().since)).collect()
}

/// What a list shows: `fields`, everything (`detail`), or the resource's few columns.
pub(crate) fn list_fields<F: Field>(args: &Args, version: Version, detail_path: bool) -> Result<Vec<F>> {
    let detail = args.bool("detail")?.unwrap_or(false);
    match args.text("fields") {
        Some(_) if detail || detail_path => Err(ApiError::bad_request(
            "Can not specify ?detail=True and fields in the same request. Leave one of the two away.",
        )),
        Some(fields) => chosen(fields, version),
        None if detail || detail_path => Ok(all_fields(version)),
        None => Ok(F::LISTED.iter().copied().filter(|field| version.has(field.spec().since)).collect()),
    }
}

/// What a single resource shows: `fields`, or everything.
pub(crate) fn item_fields<F: Field>(args: &Args, version: Version) -> Result<Vec<F>> {
    args.text("fields").map_or_else(|| Ok(all_fields(version)), |fields| chosen(fields, version))
}

/// What to add to the refusal of a sort key: the field that was probably meant.
pub(crate) fn sort_hint<F: Field>(key: &str) -> String {
    ended(did_you_mean(key, F::ALL.iter().map(|field| field.spec().name)))
}

/// Why a list cannot be sorted by that key: what holds no single value is named bare.
pub(crate) fn unsortable<F: Field>(key: &str) -> ApiError {
    let manifold = F::named(key).is_some_and(|field| {
        matches!(field.spec().kind, Kind::Object | Kind::List) || field.spec().name == "internal_info"
    });
    let told = if manifold { key.to_owned() } else { format!("\"{key}\"") };
    let hint = if manifold { String::new() } else { sort_hint::<F>(key) };
    ApiError::bad_request(format!("The sort_key value {told} is an invalid field for sorting{hint}"))
}

/// Refuses names that are no fields, where Ironic looks at them one by one; `links` may be asked for there.
pub(crate) fn enumerated<F: Field>(list: &str) -> Result<String> {
    let names: Vec<String> = list
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    if let Some(unknown) = names.iter().find(|name| F::named(name).is_none()) {
        let mut known: Vec<&str> = F::ALL.iter().map(|field| field.spec().name).collect();
        known.sort_unstable();
        return Err(ApiError::bad_request(format!(
            "Schema error: '{unknown}' is not one of ['{}']",
            known.join("', '")
        )));
    }
    Ok(names.into_iter().filter(|name| name != F::LINKS.spec().name).collect::<Vec<_>>().join(","))
}

/// The fields of a comma-separated list, and the links.
pub(crate) fn chosen<F: Field>(list: &str, version: Version) -> Result<Vec<F>> {
    let mut fields = Vec::new();
    let mut unknown: Vec<String> = Vec::new();
    for name in list.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()) {
        match F::named(&name) {
            None => unknown.push(name),
            // links come with everything and may not be asked for
            Some(field) if field == F::LINKS => unknown.push(name),
            Some(field)
                if !version.has(field.spec().since) && LEFT_OUT.contains(&(F::WHAT, name.as_str())) => {}
            Some(field) if !version.has(field.spec().since) => {
                return Err(ApiError::too_new(&format!("field '{name}'"), field.spec().since, version));
            }
            Some(field) if fields.contains(&field) => {}
            Some(field) => fields.push(field),
        }
    }
    if !unknown.is_empty() {
        unknown.sort_unstable();
        let known =
            F::ALL.iter().filter(|field| version.has(field.spec().since)).map(|field| field.spec().name);
        let hint = ended(did_you_mean(&unknown[0], known));
        return Err(ApiError::bad_request(format!(
            "Field(s) \"{}\" are not valid{hint}",
            unknown.join(", ")
        )));
    }
    if !fields.contains(&F::LINKS) {
        fields.push(F::LINKS);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gates::{NODE_FILTERS, NODES_ARGS, NodeField};

    fn parse(query: &str, minor: u16) -> Result<Args> {
        Args::parse(query, NODES_ARGS, Version(minor))
    }

    #[test]
    fn arguments_are_known_gated_and_typed() {
        assert!(parse("provision_state=active", 9).is_ok());
        assert!(parse("provision_state=active", 8).is_err_and(|e| e.to_string().contains("1.9")));
        assert!(parse("retired=true", 1).is_ok(), "retired was never gated");
        let unknown = parse("foo=1&bar=2", 115).expect_err("unknown").to_string();
        assert_eq!(unknown, "Unexpected arguments: foo, bar");
        let args = parse("maintenance=On&associated=maybe&shard=a,%20b", 115).expect("known");
        assert_eq!(args.bool("maintenance").ok(), Some(Some(true)));
        assert!(args.bool("associated").is_err());
        assert_eq!(args.list("shard"), Some(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn paging_is_clipped_and_checked() {
        let paging = |query: &str| Paging::parse(&parse(query, 115).expect("known"), 1000);
        assert_eq!(paging("").map(|p| p.limit).ok(), Some(1000));
        assert_eq!(paging("limit=5000").map(|p| p.limit).ok(), Some(1000));
        assert!(paging("limit=0").is_err_and(|e| e.to_string() == "Limit must be positive"));
        assert!(paging("limit=-1").is_err() && paging("limit=x").is_err() && paging("sort_dir=up").is_err());
    }

    #[test]
    fn the_next_page_repeats_what_was_asked() {
        let args = parse("driver=fake-hardware&fields=uuid,name&limit=2&sort_dir=desc", 115).expect("known");
        let paging = Paging::parse(&args, 1000).expect("paging");
        let context = Context {
            version: Version::MAX,
            base: "http://h:1".to_owned(),
            caller: crate::policy::Caller::Admin,
            operation: None,
        };
        assert_eq!(
            paging.next(&context, "nodes", &args, NODE_FILTERS, None, "u2"),
            "http://h:1/v1/nodes?sort_key=id&sort_dir=desc&fields=uuid,name&driver=fake-hardware&limit=2&marker=u2"
        );
    }

    #[test]
    fn selections_hide_what_the_version_does_not_know() {
        assert_eq!(all_fields::<NodeField>(Version(1)).len(), 22);
        assert!(chosen::<NodeField>("uuid,NAME", Version(8)).is_ok_and(|f| f.len() == 3));
        assert!(
            chosen::<NodeField>("uuid,traits", Version(36)).is_err_and(|e| e.to_string().contains("1.37"))
        );
        assert!(chosen::<NodeField>("uuid,foo", Version(115)).is_err_and(|e| e.to_string().contains("foo")));
    }
}
