//! What each microversion adds, gathered from the tables that run: for the page `docs/generated/microversions.md`, and to
//! be held against the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ferric_machine::{PowerTarget, State, Verb};

use crate::gates::{self as g, Below, Field};
use crate::operations::{OPERATIONS, Operation};
use crate::version::{RELEASES, Version};

/// A gate that is neither a field, an operation, an argument nor a word: the name of its number, since when, and what
/// is different.
pub struct Value {
    /// The constant of [`crate::gates`].
    pub name: &'static str,
    /// The minor version.
    pub since: u16,
    /// What is so since then, and before.
    pub what: &'static str,
}

macro_rules! values {
    ($($name:ident $what:literal;)+) => {
        /// All of them.
        pub const VALUES: &[Value] =
            &[$(Value { name: stringify!($name), since: g::$name, what: $what },)+];
    };
}

values! {
    AVAILABLE_NAMED         "the state `available` has its name; null before";
    NODE_NAME_IN_PATH       "a node has its name in its path; 404 before";
    RELAXED_NAMES           "names of nodes need not be host names; 400 before";
    STARTS_IN_ENROLL        "a new node starts in `enroll`; in `available` before";
    STATES_RAID             "`…/states` shows raid_config and target_raid_config";
    DRIVER_PROPERTIES_LINK  "drivers link their properties";
    PORTGROUPS              "port groups";
    UNSET_CHASSIS           "chassis_uuid can be unset; 406 before, if it was set";
    DRIVER_TYPE             "drivers show their type and their interfaces";
    INSPECT_WAIT_NAMED      "the state `inspect wait` has its name; `inspecting` before";
    INSPECTING_LOCKED       "an inspecting node is not patched: 409";
    CONFIGDRIVE_OBJECT      "a config drive may be an object; 400 before";
    ALLOCATION_BACKFILL     "an allocation may name its node; 400 before";
    CONFIGDRIVE_VENDOR_DATA "a config drive's object may have vendor_data; 400 before";
    LOOKUP_TOKEN            "a look-up gives the agent its token";
    VIF_PORT                "port_uuid and portgroup_uuid of a VIF mean something; forgotten before";
    DEPLOY_STEPS            "provision body `deploy_steps`; 406 before, after the state was looked at";
    RAW_DELETE              "the word `delete` is no verb: 400; 406 before";
    STATES_BOOT_MODE        "`…/states` shows boot_mode and secure_boot";
    CHILD_STEPS             "steps may run on child nodes; 406 before";
    CONTINUE_INSPECTION     "`continue_inspection` takes node_uuid and answers as a look-up does; 404 before, but for 1.1";
    CONTINUE_INSPECTION_OLD "`continue_inspection` answers the id only, at exactly this version";
    SERVICE_STEPS           "provision body `service_steps`; 406 before, after the state was looked at";
    JSON_SUFFIX_LITERAL     "a trailing `.json` is part of the name; cut off before, where nothing has that name";
    RUNBOOK                 "provision body `runbook`; 406 before, after the state was looked at";
    LOCAL_LINK_NETWORK_TYPE "network_type in a port's local_link_connection; 406 before";
    VTEP_SINCE              "a port's local_link_connection may name an OVN VTEP switch; 406 before";
    VTEP_UNTIL              "a port's local_link_connection may name no OVN VTEP switch any more: 406, and shown as {}";
    PORT_PHYSICAL_NETWORK_OF_GROUP "the physical network of a port in a port group is the group's";
    PORT_NODE_IDENT         "a new port may name its node by node_ident; 406 before";
    RELAXED_RUNBOOKS        "runbooks have traits, descriptions, and names that are no traits; 400 before";
    HISTORY_PROJECT         "a line of history shows its project in detail";
    HISTORY_STATES          "a line of history shows states and duration in detail";
}

/// Microversions that Ironic made for something that a server's tables do not hold.
pub const MARKERS: &[(u16, &str)] = &[
    (71, "says that there is system-scoped access control; it does not depend on the version"),
    (79, "an allocation prefers the node of its own name; at every version"),
    (80, "says that administrators of projects may own nodes; it does not depend on the version"),
    (98, "`~0` and `~1` in the paths of patches: their form is refused at every version, as in Ironic"),
    (99, "ports and port groups can be filtered by conductor_groups; at every version"),
    (107, "the request's id is in X-OpenStack-Request-Id too; at every version"),
    (63, "the lights of nodes (`…/management/indicators`); at every version"),
];

fn fields<F: Field>(noun: &str, minor: u16, all: &mut BTreeSet<String>) {
    let since = F::ALL.iter().filter(|field| field.spec().since == minor);
    all.extend(since.map(|field| format!("{noun}.{}", field.spec().name)));
}

fn below(kind: Below) -> &'static str {
    match kind {
        Below::NotAcceptable => "406",
        Below::BadRequest => "400",
        Below::NotFound | Below::Unsupported => "404",
        Below::MethodNotAllowed => "405",
    }
}

/// The group of paths that a query argument belongs to: `nodes`, `nodes/ports`, ….
fn group(path: &str) -> String {
    let words: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && !part.starts_with('{')).collect();
    words.join("/")
}

/// Everything that the tables gate at that version, each in a short form of its own: `node.name`, `GET /lookup`,
/// `nodes?fault`, `verb abort`, `driver.bios`, `value RELAXED_NAMES`.
#[must_use]
pub fn gated(minor: u16) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    fields::<g::NodeField>("node", minor, &mut all);
    fields::<g::PortField>("port", minor, &mut all);
    fields::<g::PortgroupField>("portgroup", minor, &mut all);
    fields::<g::ChassisField>("chassis", minor, &mut all);
    fields::<g::ConnectorField>("connector", minor, &mut all);
    fields::<g::TargetField>("target", minor, &mut all);
    fields::<g::AllocationField>("allocation", minor, &mut all);
    fields::<g::ConductorField>("conductor", minor, &mut all);
    fields::<g::TemplateField>("template", minor, &mut all);
    fields::<g::RunbookField>("runbook", minor, &mut all);
    fields::<g::RuleField>("rule", minor, &mut all);
    let begun = |row: &&Operation| row.since == minor;
    all.extend(OPERATIONS.iter().filter(begun).map(named));
    for row in OPERATIONS {
        // what came with the path itself is not told again
        let late = row.query.iter().filter(|arg| arg.since == minor && arg.since > row.since);
        all.extend(late.map(|arg| format!("{}?{}", group(row.path), arg.name)));
    }
    for verb in Verb::ALL {
        if verb.minor() == minor {
            all.insert(format!("verb {verb}"));
        }
        for state in State::ALL {
            if verb.gate_after(*state) == Some(minor) && verb.minor() != minor {
                all.insert(format!("verb {verb} in {state}"));
            }
        }
    }
    all.extend(
        PowerTarget::ALL.iter().filter(|t| t.minor() == minor).map(|target| format!("power {target}")),
    );
    let with = |what: &str, table: &[(Verb, u16)], all: &mut BTreeSet<String>| {
        let rows = table.iter().filter(|(_, since)| *since == minor);
        all.extend(rows.map(|(verb, _)| format!("{what} with {verb}")));
    };
    with("disable_ramdisk", g::DISABLE_RAMDISK, &mut all);
    with("configdrive", g::CONFIGDRIVE, &mut all);
    let named = |what: &str, table: &[(&str, u16)], all: &mut BTreeSet<String>| {
        let rows = table.iter().filter(|(_, since)| *since == minor);
        all.extend(rows.map(|(name, _)| format!("{what}{name}")));
    };
    named("driver.", g::DRIVER_INTERFACES, &mut all);
    named("firmware.", g::FIRMWARE_FIELDS, &mut all);
    named("/v1 shows ", g::RESOURCES, &mut all);
    all.extend(VALUES.iter().filter(|v| v.since == minor).map(|value| format!("value {}", value.name)));
    all
}

/// The page that a reader can hold beside the reference.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# What each microversion adds\n\nMade from the tables of `web/src/operations.rs` and `web/src/gates.rs`, which the \
         server works with. A field is hidden from older clients and refused (406) when they send it; an operation answers \
         them with the status that stands behind it.\n\n| Version | Ironic | Adds |\n|---|---|---|\n",
    );
    for minor in Version::MIN.0..=Version::MAX.0 {
        let release = RELEASES.iter().find(|(_, newest)| *newest >= minor).map_or("", |(name, _)| *name);
        // the table begins with this one
        let release = if release == RELEASES[0].0 { format!("≤ {release}") } else { release.to_owned() };
        let mut lines = lines_of(minor);
        lines.extend(MARKERS.iter().filter(|(at, _)| *at == minor).map(|(_, what)| (*what).to_owned()));
        if minor == 1 {
            lines.insert(0, "everything that is not named below".to_owned());
        }
        let _ = writeln!(page, "| 1.{minor} | {release} | {} |", lines.join(" · "));
    }
    page
}

/// What a version adds, in words: operations with what older clients get, fields by what they are of, arguments by
/// their names, and whatever is a word of its own.
fn lines_of(minor: u16) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut arguments: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in gated(minor).into_iter().filter(|item| minor > 1 || item.starts_with("value ")) {
        let row = OPERATIONS.iter().find(|row| row.since == minor && item == named(row));
        if let Some(row) = row {
            lines.push(format!("`{item}` ({})", below(row.below)));
        } else if let Some(name) = item.strip_prefix("value ") {
            lines.extend(VALUES.iter().filter(|value| value.name == name).map(|value| value.what.to_owned()));
        } else if let Some((paths, name)) = item.split_once('?') {
            arguments.entry(name.to_owned()).or_default().push(paths.to_owned());
        } else if let Some((noun, name)) = item.split_once('.') {
            fields.entry(noun.to_owned()).or_default().push(name.to_owned());
        } else {
            lines.push(format!("`{item}`"));
        }
    }
    lines.extend(
        fields.into_iter().map(|(noun, names)| format!("fields of a {noun}: `{}`", names.join("`, `"))),
    );
    lines.extend(
        arguments.into_iter().map(|(name, paths)| format!("argument `{name}` of `{}`", paths.join("`, `"))),
    );
    lines
}

fn named(row: &Operation) -> String {
    format!("{:?} {}", row.method, row.path)
}

#[cfg(test)]
mod tests;
