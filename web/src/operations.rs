//! Every endpoint of the API, as one table to be held beside api.md and microversions.md: its method and path, the
//! microversion that brought it and what older clients get, its query arguments, its success status, and the shapes of
//! its bodies. Routes register with it ([`crate::routes::at`]), gates are applied from it, and the OpenAPI document is
//! made from it.

use actix_web::http::Method as HttpMethod;

use crate::gates::{self as g, Arg, Below, NO_ARGS};

/// The method of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::upper_case_acronyms, missing_docs)] // as on the wire
pub enum Method {
    GET,
    POST,
    PUT,
    PATCH,
    DELETE,
    /// Every method (vendor passthru).
    ANY,
}

impl Method {
    /// Whether a request of that method is meant.
    #[must_use]
    pub fn takes(self, method: &HttpMethod) -> bool {
        match self {
            Method::GET => method == HttpMethod::GET,
            Method::POST => method == HttpMethod::POST,
            Method::PUT => method == HttpMethod::PUT,
            Method::PATCH => method == HttpMethod::PATCH,
            Method::DELETE => method == HttpMethod::DELETE,
            Method::ANY => true,
        }
    }

    /// Its names on the wire.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Method::GET => &["GET"],
            Method::POST => &["POST"],
            Method::PUT => &["PUT"],
            Method::PATCH => &["PATCH"],
            Method::DELETE => &["DELETE"],
            Method::ANY => &["GET", "POST", "PUT", "PATCH", "DELETE"],
        }
    }
}

/// What has fields of its own, as tables of [`crate::gates`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are Ironic's own
pub enum Noun {
    Node,
    Port,
    Chassis,
    Portgroup,
    Connector,
    Target,
    Allocation,
    Template,
    Runbook,
    Rule,
}

/// The shape of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No body.
    Nothing,
    /// One thing, with the fields of its table.
    Item(Noun),
    /// A page of things under the collection's name.
    List(Noun),
    /// What creates a thing.
    New(Noun),
    /// A JSON patch of a thing.
    Patch(Noun),
    /// A schema by name, written out where the document is made.
    Named(&'static str),
    /// An object that is described nowhere but in words (vendor methods, inspection data).
    Free,
}

/// A row: one method of one path.
#[derive(Debug)]
pub struct Operation {
    /// The method.
    pub method: Method,
    /// Path; what begins with a noun of Ironic's answers with `/v1` before it and without.
    pub path: &'static str,
    /// The minor version that brought it.
    pub since: u16,
    /// What older clients get.
    pub below: Below,
    /// What older clients are told, where that is a fault of its own (shape A). The others are answered as for what
    /// nobody has (shape B).
    pub told: Option<&'static str>,
    /// Its query arguments. Where it takes a body of arguments, each may stand in either.
    pub query: &'static [Arg],
    /// The status of success.
    pub ok: u16,
    /// The body that it takes.
    pub takes: Shape,
    /// The body that it gives.
    pub gives: Shape,
    /// What it does, in a line.
    pub what: &'static str,
}

const fn words(given: &[&'static str]) -> Option<&'static str> {
    match given {
        [] => None,
        [first, ..] => Some(first),
    }
}

macro_rules! operations {
    ($($method:ident $path:literal $since:literal $below:ident $(($told:expr))? $query:path, $ok:literal $takes:expr, $gives:expr,
       $what:literal;)+) => {
        /// All of them.
        pub const OPERATIONS: &[Operation] = &[$(Operation {
            method: Method::$method, path: $path, since: $since, below: Below::$below,
            told: words(&[$($told)?]), query: $query, ok: $ok,
            takes: $takes, gives: $gives, what: $what,
        },)+];
    };
}

// the words that older clients are told
const NO_ALLOCATIONS: &str = "The API version does not allow allocations";
const NO_RESOURCE: &str = "Resource could not be found";
const NO_RULES: &str = "The API version does not allow inspection rules";
const NO_SHARDS: &str = "The API version does not allow shards";
const NO_UPDATES: &str = "The API version does not allow updating allocations";
const NO_VMEDIA: &str = "The resource could not be found";
const NOT_SUPPORTED: &str = "The API is not supported for this version";
const SINCE_76: &str = "This endpoint is supported starting with the API version 1.76";

use Noun::{Allocation, Chassis, Connector, Node, Port, Portgroup, Rule, Runbook, Target, Template};
use Shape::{Free, Item, List, Named, New, Nothing, Patch};

#[rustfmt::skip]
operations! {
    // method path                      since below (what they are told)  query, ok takes, gives, what
    GET    "/"                              1 NotFound NO_ARGS, 200 Nothing, Named("Root"), "Tells the versions that there are";
    GET    "/v1"                            1 NotFound NO_ARGS, 200 Nothing, Named("V1"), "Tells the resources that the version has";
    GET    "/healthz"                       1 NotFound NO_ARGS, 200 Nothing, Named("Health"), "Says that the process answers";
    GET    "/metrics"                       1 NotFound NO_ARGS, 200 Nothing, Named("Metrics"), "Tells what Prometheus collects";
    GET    "/readyz"                        1 NotFound NO_ARGS, 200 Nothing, Named("Health"), "Says that the database answers too";
    GET    "/openapi.json"                  1 NotFound g::OPENAPI_ARGS, 200 Nothing, Named("OpenApi"), "Describes the API, for programs";
    GET    "/docs"                          1 NotFound NO_ARGS, 200 Nothing, Named("Page"), "Describes the API, for people";

    GET    "/nodes"                         1 NotFound g::NODES_ARGS, 200 Nothing, List(Node), "Lists nodes";
    POST   "/nodes"                         1 NotFound NO_ARGS, 201 New(Node), Item(Node), "Enrols a node";
    GET    "/nodes/detail"                  1 NotFound g::NODES_DETAIL_ARGS, 200 Nothing, List(Node), "Lists nodes with all fields";
    GET    "/nodes/validate"                1 NotFound g::VALIDATE_ARGS, 200 Nothing, Named("Validation"), "Validates the interfaces of a node";
    GET    "/nodes/{ident}"                 1 NotFound g::ITEM_ARGS, 200 Nothing, Item(Node), "Shows a node";
    PATCH  "/nodes/{ident}"                 1 NotFound g::PATCH_NODE_ARGS, 200 Patch(Node), Item(Node), "Changes a node";
    DELETE "/nodes/{ident}"                 1 NotFound NO_ARGS, 204 Nothing, Nothing, "Forgets a node and all that belongs to it";
    GET    "/nodes/{ident}/validate"        1 NotFound NO_ARGS, 200 Nothing, Named("Validation"), "Validates the interfaces of a node";
    GET    "/nodes/{ident}/states"          1 NotFound NO_ARGS, 200 Nothing, Named("States"), "Shows a node's states";
    PUT    "/nodes/{ident}/states/power"    1 NotFound g::POWER_ARGS, 202 Named("PowerTarget"), Nothing, "Changes a node's power state";
    PUT    "/nodes/{ident}/states/provision" 1 NotFound g::PROVISION_ARGS, 202 Named("ProvisionTarget"), Nothing, "Moves a node to another provision state";
    PUT    "/nodes/{ident}/maintenance"     1 NotFound g::MAINTENANCE_ARGS, 202 Named("Maintenance"), Nothing, "Puts a node into maintenance";
    DELETE "/nodes/{ident}/maintenance"     1 NotFound NO_ARGS, 202 Nothing, Nothing, "Takes a node out of maintenance";
    GET    "/nodes/{ident}/management/boot_device" 1 NotFound NO_ARGS, 200 Nothing, Named("BootDevice"), "Shows a node's boot device";
    PUT    "/nodes/{ident}/management/boot_device" 1 NotFound g::BOOT_DEVICE_ARGS, 204 Named("NewBootDevice"), Nothing, "Sets a node's boot device";
    GET    "/nodes/{ident}/management/boot_device/supported" 1 NotFound NO_ARGS, 200 Nothing, Named("SupportedBootDevices"), "Lists the boot devices that can be set";
    PUT    "/nodes/{ident}/states/raid"    12 NotAcceptable NO_ARGS, 204 Named("RaidConfig"), Nothing, "Says which RAID configuration is wanted";
    GET    "/nodes/{ident}/states/console"  1 NotFound NO_ARGS, 200 Nothing, Named("Console"), "Tells where a node's console is";
    PUT    "/nodes/{ident}/states/console"  1 NotFound g::CONSOLE_ARGS, 202 Named("NewConsole"), Nothing, "Switches a node's console";
    PUT    "/nodes/{ident}/states/boot_mode" 76 NotFound(SINCE_76) g::TARGET_ARGS, 202 Named("NewBootMode"), Nothing, "Changes a node's boot mode";
    PUT    "/nodes/{ident}/states/secure_boot" 76 NotFound(SINCE_76) g::TARGET_ARGS, 202 Named("NewSecureBoot"), Nothing, "Switches a node's secure boot";
    PUT    "/nodes/{ident}/management/inject_nmi" 29 NotFound(NO_RESOURCE) NO_ARGS, 204 Named("Empty"), Nothing, "Interrupts a node, as a button on its front would";
    GET    "/nodes/{ident}/management/indicators" 1 NotFound NO_ARGS, 200 Nothing, Named("Indicators"), "Lists a node's lights";
    PUT    "/nodes/{ident}/management/indicators" 1 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: a light must be named";
    GET    "/nodes/{ident}/management/indicators/{indicator}" 1 NotFound NO_ARGS, 200 Nothing, Named("Indicator"), "Shows what a light shows";
    PUT    "/nodes/{ident}/management/indicators/{indicator}" 1 NotFound g::INDICATOR_ARGS, 204 Named("Indicator"), Nothing, "Makes a light show something";
    GET    "/nodes/{ident}/bios"           40 NotFound g::BIOS_ARGS, 200 Nothing, Named("BiosSettings"), "Lists a node's BIOS settings as they were last read";
    GET    "/nodes/{ident}/bios/{setting}" 40 NotFound NO_ARGS, 200 Nothing, Named("OneBiosSetting"), "Shows a BIOS setting";
    GET    "/nodes/{ident}/firmware"       86 NotFound g::FIRMWARE_ARGS, 200 Nothing, Named("Firmware"), "Lists a node's firmware components as they were last seen";
    GET    "/nodes/{ident}/vmedia"         93 NotFound(NO_VMEDIA) NO_ARGS, 200 Nothing, Named("Vmedia"), "Lists a node's virtual drives";
    POST   "/nodes/{ident}/vmedia"         89 NotFound NO_ARGS, 204 Named("NewVmedia"), Nothing, "Puts an image into a virtual drive";
    DELETE "/nodes/{ident}/vmedia"         89 NotFound g::VMEDIA_DETACH_ARGS, 204 Nothing, Nothing, "Empties virtual drives";
    DELETE "/nodes/{ident}/vmedia/{device_types}" 89 NotFound NO_ARGS, 204 Nothing, Nothing, "Empties virtual drives of these types";
    GET    "/nodes/{ident}/vendor_passthru/methods" 1 NotFound NO_ARGS, 200 Nothing, Named("VendorMethods"), "Lists the vendor methods of a node";
    ANY    "/nodes/{ident}/vendor_passthru" 1 NotFound g::VENDOR_ARGS, 200 Free, Free, "Calls a vendor method of a node, named by the query";
    ANY    "/nodes/{ident}/vendor_passthru/{method}" 1 NotFound NO_ARGS, 200 Free, Free, "Calls a vendor method of a node";
    GET    "/nodes/{ident}/traits"         37 NotAcceptable NO_ARGS, 200 Nothing, Named("Traits"), "Lists a node's traits";
    PUT    "/nodes/{ident}/traits"         37 MethodNotAllowed NO_ARGS, 204 Named("Traits"), Nothing, "Replaces a node's traits";
    DELETE "/nodes/{ident}/traits"         37 NotFound(NO_RESOURCE) NO_ARGS, 204 Nothing, Nothing, "Takes all traits from a node";
    PUT    "/nodes/{ident}/traits/{trait}" 37 MethodNotAllowed NO_ARGS, 204 Nothing, Nothing, "Gives a node a trait";
    DELETE "/nodes/{ident}/traits/{trait}" 37 NotFound(NO_RESOURCE) NO_ARGS, 204 Nothing, Nothing, "Takes a trait from a node";
    GET    "/nodes/{ident}/history"        78 NotFound g::HISTORY_ARGS, 200 Nothing, Named("History"), "Lists what happened to a node";
    GET    "/nodes/{ident}/history/{line}" 78 NotFound NO_ARGS, 200 Nothing, Named("HistoryLine"), "Shows one thing that happened to a node";
    GET    "/nodes/{ident}/inventory"      81 NotFound NO_ARGS, 200 Nothing, Named("Inventory"), "Shows what an inspection found";
    GET    "/nodes/{ident}/children"       83 NotFound NO_ARGS, 200 Nothing, Named("Children"), "Lists a node's children";
    GET    "/nodes/{ident}/ports"           1 NotFound g::PORTS_ARGS, 200 Nothing, List(Port), "Lists a node's ports";
    GET    "/nodes/{ident}/ports/detail"    1 NotFound g::PORTS_DETAIL_ARGS, 200 Nothing, List(Port), "Lists a node's ports with all fields";

    GET    "/ports"                         1 NotFound g::PORTS_ARGS, 200 Nothing, List(Port), "Lists ports";
    POST   "/ports"                         1 NotFound NO_ARGS, 201 New(Port), Item(Port), "Creates a port";
    PATCH  "/ports"                         1 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: a port must be named";
    DELETE "/ports"                         1 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: a port must be named";
    GET    "/ports/detail"                  1 NotFound g::PORTS_DETAIL_ARGS, 200 Nothing, List(Port), "Lists ports with all fields";
    GET    "/ports/{ident}"                 1 NotFound g::ITEM_ARGS, 200 Nothing, Item(Port), "Shows a port";
    POST   "/ports/{ident}"                 1 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: the collection takes new ports";
    PATCH  "/ports/{ident}"                 1 NotFound NO_ARGS, 200 Patch(Port), Item(Port), "Changes a port";
    DELETE "/ports/{ident}"                 1 NotFound NO_ARGS, 204 Nothing, Nothing, "Removes a port";

    GET    "/chassis"                       1 NotFound g::CHASSIS_ARGS, 200 Nothing, List(Chassis), "Lists chassis";
    POST   "/chassis"                       1 NotFound NO_ARGS, 201 New(Chassis), Item(Chassis), "Creates a chassis";
    PATCH  "/chassis"                       1 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: a chassis must be named";
    DELETE "/chassis"                       1 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: a chassis must be named";
    GET    "/chassis/detail"                1 NotFound g::SUB_DETAIL_ARGS, 200 Nothing, List(Chassis), "Lists chassis with all fields";
    GET    "/chassis/{uuid}"                1 NotFound g::ITEM_ARGS, 200 Nothing, Item(Chassis), "Shows a chassis";
    POST   "/chassis/{uuid}"                1 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: the collection takes new chassis";
    PATCH  "/chassis/{uuid}"                1 NotFound NO_ARGS, 200 Patch(Chassis), Item(Chassis), "Changes a chassis";
    DELETE "/chassis/{uuid}"                1 NotFound NO_ARGS, 204 Nothing, Nothing, "Removes a chassis that has no nodes";
    GET    "/chassis/{uuid}/nodes"          1 NotFound g::CHASSIS_NODES_ARGS, 200 Nothing, List(Node), "Lists the nodes in a chassis";
    GET    "/chassis/{uuid}/nodes/detail"   1 NotFound g::CHASSIS_NODES_DETAIL_ARGS, 200 Nothing, List(Node), "Lists the nodes in a chassis with all fields";

    GET    "/portgroups"                   23 Unsupported g::PORTGROUPS_ARGS, 200 Nothing, List(Portgroup), "Lists port groups";
    POST   "/portgroups"                   23 Unsupported NO_ARGS, 201 New(Portgroup), Item(Portgroup), "Creates a port group";
    PATCH  "/portgroups"                   23 Unsupported NO_ARGS, 400 Nothing, Nothing, "Always refused: a port group must be named";
    DELETE "/portgroups"                   23 Unsupported NO_ARGS, 400 Nothing, Nothing, "Always refused: a port group must be named";
    GET    "/portgroups/detail"            23 Unsupported g::PORTGROUPS_DETAIL_ARGS, 200 Nothing, List(Portgroup), "Lists port groups with all fields";
    GET    "/portgroups/{ident}"           23 Unsupported g::ITEM_ARGS, 200 Nothing, Item(Portgroup), "Shows a port group";
    POST   "/portgroups/{ident}"           23 Unsupported NO_ARGS, 400 Nothing, Nothing, "Always refused: the collection takes new port groups";
    PATCH  "/portgroups/{ident}"           23 Unsupported NO_ARGS, 200 Patch(Portgroup), Item(Portgroup), "Changes a port group";
    DELETE "/portgroups/{ident}"           23 Unsupported NO_ARGS, 204 Nothing, Nothing, "Removes a port group that has no ports";
    GET    "/portgroups/{uuid}/ports"      24 NotFound g::PORTS_ARGS, 200 Nothing, List(Port), "Lists the ports of a port group";
    GET    "/portgroups/{uuid}/ports/detail" 24 NotFound g::PORTS_DETAIL_ARGS, 200 Nothing, List(Port), "Lists the ports of a port group with all fields";
    GET    "/nodes/{ident}/portgroups"     24 NotFound g::NODE_PORTGROUPS_ARGS, 200 Nothing, List(Portgroup), "Lists a node's port groups";
    GET    "/nodes/{ident}/portgroups/detail" 24 NotFound g::SUB_DETAIL_ARGS, 200 Nothing, List(Portgroup), "Lists a node's port groups with all fields";

    GET    "/volume"                       32 Unsupported NO_ARGS, 200 Nothing, Named("Volume"), "Tells what there is of volumes";
    GET    "/volume/connectors"            32 NotFound g::VOLUMES_ARGS, 200 Nothing, List(Connector), "Lists volume connectors";
    POST   "/volume/connectors"            32 NotFound NO_ARGS, 201 New(Connector), Item(Connector), "Creates a volume connector";
    PATCH  "/volume/connectors"            32 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: a volume connector must be named";
    DELETE "/volume/connectors"            32 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: a volume connector must be named";
    GET    "/volume/connectors/{uuid}"     32 NotFound g::ITEM_ARGS, 200 Nothing, Item(Connector), "Shows a volume connector";
    POST   "/volume/connectors/{uuid}"     32 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: the collection takes new volume connectors";
    PATCH  "/volume/connectors/{uuid}"     32 NotFound NO_ARGS, 200 Patch(Connector), Item(Connector), "Changes a volume connector";
    DELETE "/volume/connectors/{uuid}"     32 NotFound NO_ARGS, 204 Nothing, Nothing, "Removes a volume connector";
    GET    "/volume/targets"               32 NotFound g::VOLUMES_ARGS, 200 Nothing, List(Target), "Lists volume targets";
    POST   "/volume/targets"               32 NotFound NO_ARGS, 201 New(Target), Item(Target), "Creates a volume target";
    PATCH  "/volume/targets"               32 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: a volume target must be named";
    DELETE "/volume/targets"               32 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: a volume target must be named";
    GET    "/volume/targets/{uuid}"        32 NotFound g::ITEM_ARGS, 200 Nothing, Item(Target), "Shows a volume target";
    POST   "/volume/targets/{uuid}"        32 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: the collection takes new volume targets";
    PATCH  "/volume/targets/{uuid}"        32 NotFound NO_ARGS, 200 Patch(Target), Item(Target), "Changes a volume target";
    DELETE "/volume/targets/{uuid}"        32 NotFound NO_ARGS, 204 Nothing, Nothing, "Removes a volume target";
    GET    "/nodes/{ident}/volume"         32 Unsupported NO_ARGS, 200 Nothing, Named("Volume"), "Tells what there is of a node's volumes";
    GET    "/nodes/{ident}/volume/connectors" 32 NotFound g::NODE_VOLUMES_ARGS, 200 Nothing, List(Connector), "Lists a node's volume connectors";
    GET    "/nodes/{ident}/volume/targets" 32 NotFound g::NODE_VOLUMES_ARGS, 200 Nothing, List(Target), "Lists a node's volume targets";

    GET    "/drivers"                       1 NotFound g::DRIVERS_ARGS, 200 Nothing, Named("Drivers"), "Lists hardware types";
    GET    "/drivers/properties"            1 NotFound g::DRIVER_PROPERTIES_ARGS, 200 Nothing, Named("Descriptions"), "Describes the driver_info of a hardware type";
    GET    "/drivers/{name}"                1 NotFound g::DRIVER_ARGS, 200 Nothing, Named("Driver"), "Shows a hardware type";
    GET    "/drivers/{name}/properties"     1 NotFound NO_ARGS, 200 Nothing, Named("Descriptions"), "Describes the driver_info of a hardware type";
    GET    "/drivers/{name}/raid/logical_disk_properties" 12 NotAcceptable NO_ARGS, 200 Nothing, Named("Descriptions"), "Describes what can be said of a logical disk";
    GET    "/drivers/{name}/vendor_passthru/methods" 1 NotFound NO_ARGS, 200 Nothing, Named("VendorMethods"), "Lists the vendor methods of a hardware type";
    ANY    "/drivers/{name}/vendor_passthru" 1 NotFound g::VENDOR_ARGS, 200 Free, Free, "Calls a vendor method of a hardware type, named by the query";
    ANY    "/drivers/{name}/vendor_passthru/{method}" 1 NotFound NO_ARGS, 200 Free, Free, "Calls a vendor method of a hardware type";
    GET    "/conductors"                   49 NotFound(NOT_SUPPORTED) g::CONDUCTORS_ARGS, 200 Nothing, Named("Conductors"), "Lists conductors";
    GET    "/conductors/{hostname}"        49 NotFound(NOT_SUPPORTED) g::ITEM_ARGS, 200 Nothing, Named("Conductor"), "Shows a conductor";

    GET    "/nodes/{ident}/vifs"           28 NotFound NO_ARGS, 200 Nothing, Named("Vifs"), "Lists the VIFs that a node has";
    POST   "/nodes/{ident}/vifs"           28 NotFound NO_ARGS, 204 Named("NewVif"), Nothing, "Plugs a VIF into a node";
    DELETE "/nodes/{ident}/vifs"           28 NotFound NO_ARGS, 400 Nothing, Nothing, "Always refused: a VIF must be named";
    DELETE "/nodes/{ident}/vifs/{vif}"     28 NotFound NO_ARGS, 204 Nothing, Nothing, "Unplugs a VIF from a node";
    GET    "/nodes/{ident}/allocation"     52 NotFound g::ITEM_ARGS, 200 Nothing, Item(Allocation), "Shows the allocation of a node";
    DELETE "/nodes/{ident}/allocation"     52 NotFound NO_ARGS, 204 Nothing, Nothing, "Removes the allocation of a node";

    GET    "/allocations"                  52 NotFound(NO_ALLOCATIONS) g::ALLOCATIONS_ARGS, 200 Nothing, List(Allocation), "Lists allocations";
    POST   "/allocations"                  52 MethodNotAllowed(NO_ALLOCATIONS) NO_ARGS, 201 New(Allocation), Item(Allocation), "Asks for a node, or notes what a node is used for";
    PATCH  "/allocations"                  57 MethodNotAllowed(NO_UPDATES) NO_ARGS, 400 Nothing, Nothing, "Always refused: an allocation must be named";
    DELETE "/allocations"                  52 MethodNotAllowed(NO_ALLOCATIONS) NO_ARGS, 400 Nothing, Nothing, "Always refused: an allocation must be named";
    GET    "/allocations/{ident}"          52 NotFound(NO_ALLOCATIONS) g::ITEM_ARGS, 200 Nothing, Item(Allocation), "Shows an allocation";
    PATCH  "/allocations/{ident}"          57 MethodNotAllowed(NO_UPDATES) NO_ARGS, 200 Patch(Allocation), Item(Allocation), "Changes name and extra of an allocation";
    DELETE "/allocations/{ident}"          52 MethodNotAllowed(NO_ALLOCATIONS) NO_ARGS, 204 Nothing, Nothing, "Removes an allocation, which frees its node";
    GET    "/shards"                       82 NotFound(NO_SHARDS) NO_ARGS, 200 Nothing, Named("Shards"), "Counts the nodes of each shard";
    GET    "/shards/{name}"                82 NotFound(NO_SHARDS) NO_ARGS, 404 Nothing, Nothing, "Never there: shards are merely counted";
    POST   "/events"                       54 NotFound(NOT_SUPPORTED) NO_ARGS, 204 Named("NetworkEvents"), Nothing, "Takes what Neutron tells of ports";

    GET    "/deploy_templates"             55 NotFound g::TEMPLATES_ARGS, 200 Nothing, List(Template), "Lists deploy templates";
    POST   "/deploy_templates"             55 MethodNotAllowed NO_ARGS, 201 New(Template), Item(Template), "Creates a deploy template";
    PATCH  "/deploy_templates"             55 MethodNotAllowed NO_ARGS, 400 Nothing, Nothing, "Always refused: a deploy template must be named";
    DELETE "/deploy_templates"             55 MethodNotAllowed NO_ARGS, 400 Nothing, Nothing, "Always refused: a deploy template must be named";
    GET    "/deploy_templates/{ident}"     55 NotFound g::ITEM_ARGS, 200 Nothing, Item(Template), "Shows a deploy template";
    PATCH  "/deploy_templates/{ident}"     55 MethodNotAllowed NO_ARGS, 200 Patch(Template), Item(Template), "Changes a deploy template";
    DELETE "/deploy_templates/{ident}"     55 MethodNotAllowed NO_ARGS, 204 Nothing, Nothing, "Removes a deploy template";

    GET    "/runbooks"                     92 NotFound g::RUNBOOKS_ARGS, 200 Nothing, List(Runbook), "Lists runbooks";
    POST   "/runbooks"                     92 MethodNotAllowed NO_ARGS, 201 New(Runbook), Item(Runbook), "Creates a runbook";
    PATCH  "/runbooks"                     92 MethodNotAllowed NO_ARGS, 400 Nothing, Nothing, "Always refused: a runbook must be named";
    DELETE "/runbooks"                     92 MethodNotAllowed NO_ARGS, 400 Nothing, Nothing, "Always refused: a runbook must be named";
    GET    "/runbooks/{ident}"             92 NotFound g::ITEM_ARGS, 200 Nothing, Item(Runbook), "Shows a runbook";
    PATCH  "/runbooks/{ident}"             92 MethodNotAllowed NO_ARGS, 200 Patch(Runbook), Item(Runbook), "Changes a runbook";
    DELETE "/runbooks/{ident}"             92 MethodNotAllowed NO_ARGS, 204 Nothing, Nothing, "Removes a runbook";
    GET    "/runbooks/{ident}/traits"     112 NotFound NO_ARGS, 200 Nothing, Named("Traits"), "Lists a runbook's traits";
    PUT    "/runbooks/{ident}/traits"     112 NotFound NO_ARGS, 204 Named("Traits"), Nothing, "Replaces a runbook's traits";
    DELETE "/runbooks/{ident}/traits"     112 NotFound NO_ARGS, 204 Nothing, Nothing, "Takes all traits from a runbook";
    PUT    "/runbooks/{ident}/traits/{trait}" 112 NotFound NO_ARGS, 204 Nothing, Nothing, "Gives a runbook a trait";
    DELETE "/runbooks/{ident}/traits/{trait}" 112 NotFound NO_ARGS, 204 Nothing, Nothing, "Takes a trait from a runbook";

    GET    "/inspection_rules"             96 NotFound(NO_RULES) g::RULES_ARGS, 200 Nothing, List(Rule), "Lists inspection rules";
    POST   "/inspection_rules"             96 MethodNotAllowed(NO_RULES) NO_ARGS, 201 New(Rule), Item(Rule), "Creates an inspection rule";
    PATCH  "/inspection_rules"             96 MethodNotAllowed(NO_RULES) NO_ARGS, 400 Nothing, Nothing, "Always refused: an inspection rule must be named";
    DELETE "/inspection_rules"             96 MethodNotAllowed(NO_RULES) NO_ARGS, 204 Nothing, Nothing, "Removes every inspection rule but the built-in ones";
    GET    "/inspection_rules/{uuid}"      96 NotFound(NO_RULES) g::ITEM_ARGS, 200 Nothing, Item(Rule), "Shows an inspection rule";
    PATCH  "/inspection_rules/{uuid}"      96 MethodNotAllowed(NO_RULES) NO_ARGS, 200 Patch(Rule), Item(Rule), "Changes an inspection rule";
    DELETE "/inspection_rules/{uuid}"      96 MethodNotAllowed(NO_RULES) NO_ARGS, 204 Nothing, Nothing, "Removes an inspection rule";

    GET    "/lookup"                       22 NotFound(NO_RESOURCE) g::LOOKUP_ARGS, 200 Nothing, Named("Lookup"), "Tells a ramdisk which node it runs on";
    POST   "/heartbeat/{ident}"            22 NotFound(NO_RESOURCE) g::HEARTBEAT_ARGS, 202 Named("Heartbeat"), Nothing, "A ramdisk says that it is there";
    POST   "/continue_inspection"           1 NotFound g::CONTINUE_INSPECTION_ARGS, 202 Free, Named("Inspected"), "A ramdisk hands in what it found";

    GET    "/v1/ferric/health"              1 NotFound NO_ARGS, 200 Nothing, Named("FleetHealth"), "Shows how the periodic look at the fleet's power goes";
    POST   "/v1/ferric/power_sync"          1 NotFound NO_ARGS, 202 Nothing, Named("Sweep"), "Looks at the power of every node, now";
    GET    "/v1/ferric/doing"               1 NotFound NO_ARGS, 200 Nothing, Named("Doing"), "Lists what every node at work is doing";
    GET    "/v1/ferric/queue"               1 NotFound NO_ARGS, 200 Nothing, Named("Queue"), "Shows who waits for a place";
    GET    "/v1/ferric/nodes/{ident}/doing" 1 NotFound NO_ARGS, 200 Nothing, Named("NodeDoing"), "Shows what a node is doing";
    GET    "/v1/ferric/nodes/{ident}/steps" 1 NotFound g::STEPS_ARGS, 200 Nothing, Named("NodeSteps"), "Shows the steps of a node's last work";
    GET    "/v1/ferric/nodes/{ident}/sensors" 1 NotFound g::SENSORS_ARGS, 200 Nothing, Named("NodeSensors"), "Reads the sensors of a node, and how it is";
    GET    "/v1/ferric/nodes/{ident}/sel"   1 NotFound g::EVENT_LOG_ARGS, 200 Nothing, Named("NodeEventLog"), "Reads the event log of a node's BMC, the newest first";
    DELETE "/v1/ferric/nodes/{ident}/sel"   1 NotFound NO_ARGS, 204 Nothing, Nothing, "Clears the event log of a node's BMC";
    GET    "/v1/ferric/nodes/{ident}/fru"   1 NotFound NO_ARGS, 200 Nothing, Named("NodeFru"), "Reads the inventory that a node's BMC keeps";
    PUT    "/v1/ferric/nodes/{ident}/identify" 1 NotFound g::IDENTIFY_ARGS, 204 Named("Identify"), Nothing, "Switches the light by which a node is found";
    GET    "/v1/ferric/nodes/{ident}/console" 1 NotFound g::TERMINAL_ARGS, 101 Nothing, Nothing, "Opens a node's serial console, as a WebSocket";
    GET    "/v1/ferric/events"              1 NotFound g::EVENTS_ARGS, 200 Nothing, Named("EventStream"), "Follows what happens, as server-sent events";
}

/// The rows of a path.
#[must_use]
pub fn of_path(path: &str) -> Vec<&'static Operation> {
    OPERATIONS.iter().filter(|row| row.path == path).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_method_of_a_path_is_there_once() {
        let mut seen = HashSet::new();
        for row in OPERATIONS {
            assert!(seen.insert((row.method, row.path)), "{row:?}");
            assert!(row.since >= 1 && row.since <= crate::version::Version::MAX.0, "{row:?}");
        }
    }
}
