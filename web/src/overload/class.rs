//! Which class a request is of.

use actix_web::http::Method;

/// Requests that are admitted alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// What work waits for, or what ends work: never refused, and never waits for others.
    Priority,
    /// A read of one thing.
    Read,
    /// A page of things.
    List,
    /// A change.
    Write,
    /// What waits for a BMC before it is answered, which may take long and costs little meanwhile.
    Bmc,
    /// What monitoring collects: all of the fleet at once, of anybody who asks.
    Metrics,
}

impl Class {
    pub(crate) const ALL: [Class; 6] =
        [Class::Priority, Class::Read, Class::List, Class::Write, Class::Bmc, Class::Metrics];

    /// The value of the label in `/metrics`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Class::Priority => "priority",
            Class::Read => "read",
            Class::List => "list",
            Class::Write => "write",
            Class::Bmc => "bmc",
            Class::Metrics => "metrics",
        }
    }

    /// By method and path; a path that nobody has is a read.
    ///
    /// Priority have: what ramdisks say (a deployment that is under way waits for it, and it is answered soon), changes of
    /// power, whether there is life, the versions (a client asks for them before it may abort), and what has places of its
    /// own ([`crate::server::WebSettings::event_streams`], consoles). `PUT …/states/provision` has it until its body is
    /// read: see [`crate::routes::provision`].
    pub(crate) fn of(method: &Method, path: &str) -> Class {
        let mut parts = parts(path);
        let (first, second, third, fourth, fifth) =
            (parts.next().unwrap_or(""), parts.next(), parts.next(), parts.next(), parts.next());
        let reads = method.is_safe();
        match (first, second, third, fourth) {
            ("" | "heartbeat" | "lookup" | "continue_inspection", _, _, _)
            | ("healthz" | "readyz" | "ui" | "docs", _, _, _)
            | ("ferric", Some("events"), None, None)
            | ("ferric", Some("nodes"), Some(_), Some("console")) => Class::Priority,
            ("nodes", Some(_), Some("states"), Some("power" | "provision")) if !reads => Class::Priority,
            // what ramdisks without an agent say
            (
                "nodes",
                Some(_),
                Some("vendor_passthru"),
                Some("pass_deploy_info" | "pass_bootloader_install_info"),
            ) => Class::Priority,
            ("metrics", None, None, None) => Class::Metrics,
            // what stands in the way there and is known without asking the machine
            ("nodes", Some(_), Some("management"), Some("boot_device"))
                if reads && fifth == Some("supported") =>
            {
                Class::Read
            }
            ("nodes" | "drivers", Some(_), Some("vendor_passthru"), Some("methods")) if reads => Class::Read,
            // what only the machine itself can tell or do before the answer
            ("nodes", Some(_), Some("management" | "vendor_passthru"), _)
            | ("nodes", Some(_), Some("states"), Some("console"))
            | ("ferric", Some("nodes"), Some(_), Some("sensors" | "sel" | "fru" | "identify"))
            | ("drivers", Some(_), Some("vendor_passthru"), _) => Class::Bmc,
            ("openapi.json", None, None, None) => Class::List,
            ("ferric", Some("doing" | "queue"), None, None) if reads => Class::List,
            ("volume", Some("connectors" | "targets"), None | Some("detail"), None) if reads => Class::List,
            ("chassis" | "portgroups", Some(_), Some("nodes" | "ports"), _) if reads => Class::List,
            (_, None | Some("detail"), None, None) if reads => Class::List,
            _ if reads => Class::Read,
            _ => Class::Write,
        }
    }
}

/// The parts of a path, `/v1` left out.
fn parts(path: &str) -> std::str::Split<'_, char> {
    let path = path.trim_matches('/');
    path.strip_prefix("v1").map_or(path, |rest| rest.trim_start_matches('/')).split('/')
}

/// The node whose BMC a request of [`Class::Bmc`] asks, as the client names it: a UUID in one spelling, or a name.
pub(crate) fn bmc_of(path: &str) -> Option<String> {
    let mut parts = parts(path);
    let ident = match parts.next()? {
        "nodes" => parts.next()?,
        "ferric" => parts.nth(1)?,
        _ => return None,
    };
    Some(uuid::Uuid::try_parse(ident).map_or_else(|_| ident.to_owned(), |id| id.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::OPERATIONS;

    fn class(method: &str, path: &str) -> Class {
        Class::of(&method.parse().expect("a method"), path)
    }

    #[test]
    fn what_ends_work_and_what_work_waits_for_comes_first() {
        for (method, path) in [
            ("POST", "/v1/heartbeat/1be26c0b-03f2-4d2e-ae87-c02d7f33c123"),
            ("POST", "/heartbeat/x"),
            ("GET", "/v1/lookup"),
            ("POST", "/v1/continue_inspection"),
            ("POST", "/v1/nodes/x/vendor_passthru/pass_deploy_info"),
            ("PUT", "/v1/nodes/x/states/power"),
            ("PUT", "/v1/nodes/x/states/provision"),
            ("GET", "/healthz"),
            ("GET", "/v1/"),
            ("GET", "/"),
            ("GET", "/ui/app.js"),
            ("GET", "/v1/ferric/events"),
            ("GET", "/v1/ferric/nodes/x/console"),
        ] {
            assert_eq!(class(method, path), Class::Priority, "{method} {path}");
        }
    }

    #[test]
    fn every_operation_is_of_the_class_of_what_it_costs() {
        let mut lists = Vec::new();
        for row in OPERATIONS {
            for method in row.method.names() {
                let class = class(method, row.path);
                assert_eq!(class, self::class(method, &format!("{}/", row.path)), "{method} {}", row.path);
                match class {
                    Class::Read | Class::List => assert_eq!(*method, "GET", "{}", row.path),
                    Class::Write => assert_ne!(*method, "GET", "{}", row.path),
                    Class::Priority | Class::Bmc | Class::Metrics => {}
                }
                if class == Class::List {
                    lists.push(row.path);
                }
            }
        }
        for path in
            ["/nodes", "/nodes/detail", "/ports", "/allocations", "/chassis/{uuid}/nodes", "/volume/targets"]
        {
            assert!(lists.contains(&path), "{path} is a list");
        }
        for path in ["/nodes/{ident}", "/nodes/{ident}/states", "/nodes/{ident}/ports", "/ports/{ident}"] {
            assert!(!lists.contains(&path), "{path} is none");
        }
    }

    #[test]
    fn what_asks_no_bmc_waits_for_none() {
        for path in [
            "/v1/nodes/x/validate",
            "/v1/nodes/validate",
            "/v1/nodes/x/management/boot_device/supported",
            "/v1/nodes/x/vendor_passthru/methods",
            "/v1/drivers/ipmi/vendor_passthru/methods",
        ] {
            assert_eq!(class("GET", path), Class::Read, "{path}");
        }
        for (method, path) in [
            ("GET", "/v1/nodes/x/management/boot_device"),
            ("PUT", "/v1/nodes/x/management/boot_device"),
            ("PUT", "/v1/nodes/x/management/boot_device/supported"),
            ("GET", "/v1/ferric/nodes/x/sensors"),
            ("DELETE", "/v1/ferric/nodes/x/sel/"),
            ("POST", "/v1/nodes/x/vendor_passthru"),
        ] {
            assert_eq!(class(method, path), Class::Bmc, "{method} {path}");
            assert_eq!(bmc_of(path).as_deref(), Some("x"), "{path}");
        }
        assert_eq!(class("GET", "/metrics"), Class::Metrics);
    }

    #[test]
    fn a_node_is_the_same_however_its_id_is_spelt() {
        let id = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123";
        for path in [
            format!("/v1/nodes/{id}/management/boot_device"),
            format!("/nodes/{}/management/inject_nmi", id.to_uppercase()),
            format!("/v1/ferric/nodes/{}/sensors", id.replace('-', "")),
        ] {
            assert_eq!(bmc_of(&path).as_deref(), Some(id), "{path}");
        }
        assert_eq!(bmc_of("/v1/drivers/ipmi/vendor_passthru/x"), None);
    }

    #[test]
    fn who_names_a_node_like_a_path_gains_nothing() {
        assert_eq!(class("GET", "/v1/nodes/heartbeat"), Class::Read);
        assert_eq!(class("PATCH", "/v1/nodes/power"), Class::Write);
        assert_eq!(class("GET", "/v1/nodes/x/states/power"), Class::Read);
        assert_eq!(class("DELETE", "/v1x/lookup"), Class::Write);
    }
}
