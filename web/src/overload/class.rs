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
}

impl Class {
    pub(crate) const ALL: [Class; 5] = [Class::Priority, Class::Read, Class::List, Class::Write, Class::Bmc];

    /// The value of the label in `/metrics`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Class::Priority => "priority",
            Class::Read => "read",
            Class::List => "list",
            Class::Write => "write",
            Class::Bmc => "bmc",
        }
    }

    /// By method and path; a path that nobody has is a read.
    ///
    /// Priority have: what ramdisks say (a deployment that is under way waits for it, and it is answered soon), changes of
    /// power, what monitoring asks, the versions (a client asks for them before it may abort), and what has places of its
    /// own ([`crate::server::WebSettings::event_streams`], consoles). `PUT …/states/provision` has it until its body is
    /// read: see [`crate::routes::provision`].
    pub(crate) fn of(method: &Method, path: &str) -> Class {
        let path = path.trim_matches('/');
        let path = path.strip_prefix("v1").map_or(path, |rest| rest.trim_start_matches('/'));
        let mut parts = path.split('/');
        let (first, second, third, fourth) =
            (parts.next().unwrap_or(""), parts.next(), parts.next(), parts.next());
        let reads = method.is_safe();
        match (first, second, third, fourth) {
            ("" | "heartbeat" | "lookup" | "continue_inspection", _, _, _)
            | ("healthz" | "readyz" | "metrics" | "ui" | "docs", _, _, _)
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
            // what only the machine itself can tell or do before the answer
            ("nodes", Some("validate"), None, None)
            | ("nodes", Some(_), Some("validate" | "management" | "vendor_passthru"), _)
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
            ("GET", "/metrics"),
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
                    Class::Priority | Class::Bmc => {}
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
    fn who_names_a_node_like_a_path_gains_nothing() {
        assert_eq!(class("GET", "/v1/nodes/heartbeat"), Class::Read);
        assert_eq!(class("PATCH", "/v1/nodes/power"), Class::Write);
        assert_eq!(class("GET", "/v1/nodes/x/states/power"), Class::Read);
        assert_eq!(class("DELETE", "/v1x/lookup"), Class::Write);
    }
}
