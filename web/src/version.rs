//! Microversions: what a request negotiates (microversions.md "Negotiation"). What each version gates is data in
//! [`crate::gates`].

use std::fmt;

/// A microversion 1.N of the API, by its minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16);

impl Version {
    /// The oldest; also what a request without a version header gets.
    pub const MIN: Version = Version(1);
    /// The newest that this build knows.
    pub const MAX: Version = Version(115);

    /// Whether what came with `since` is known to this version.
    #[must_use]
    pub fn has(self, since: u16) -> bool {
        self.0 >= since
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Header that the version is looked for first, `baremetal 1.N` among possibly several services.
pub const OPENSTACK_HEADER: &str = "openstack-api-version";
/// Ironic's own header, used when the first is absent or names other services only; also the response's.
pub const IRONIC_HEADER: &str = "x-openstack-ironic-api-version";
/// Response header with the oldest version.
pub const MIN_HEADER: &str = "x-openstack-ironic-api-minimum-version";
/// Response header with the newest version.
pub const MAX_HEADER: &str = "x-openstack-ironic-api-maximum-version";

/// A version that cannot be served: unparsable, of another major, or out of range (406).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", told(asked, *max))]
pub struct OutOfRange {
    /// What the client sent.
    pub asked: String,
    /// The newest version it could have.
    pub max: Version,
}

/// Ironic's words, and what to do.
fn told(asked: &str, max: Version) -> String {
    let range = format!("The supported version range is: [1.1, {max}].");
    let remedy = "Ask for a version of it, or for 'latest', in the header X-OpenStack-Ironic-API-Version.";
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match asked.split_once('.') {
        Some(("1", minor)) if number(minor) => format!(
            "Version {asked} was requested but the minor version is not supported by this service. {range} {remedy}"
        ),
        Some((major, minor)) if number(major) && number(minor) => format!(
            "Mutually exclusive versions requested. Version {asked} requested but not supported by this service. {range} \
             {remedy}"
        ),
        Some(_) | None => {
            format!("Invalid value for X-OpenStack-Ironic-API-Version header. {range} {remedy}")
        }
    }
}

/// The version of a request. `header` looks a request header up by its lower-case name; `max` is the newest version
/// served, lowered by a pin.
///
/// # Errors
/// [`OutOfRange`] for whatever is not `latest` or in 1.1..=max.
pub fn negotiate<'a>(header: impl Fn(&str) -> Option<&'a str>, max: Version) -> Result<Version, OutOfRange> {
    let asked = header(OPENSTACK_HEADER).and_then(of_baremetal).or_else(|| header(IRONIC_HEADER));
    let Some(asked) = asked.map(str::trim) else { return Ok(Version::MIN) };
    if asked.eq_ignore_ascii_case("latest") {
        return Ok(max);
    }
    let minor = asked
        .strip_prefix("1.")
        .filter(|minor| !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()));
    match minor.and_then(|minor| minor.parse().ok()).map(Version) {
        Some(version) if version >= Version::MIN && version <= max => Ok(version),
        Some(_) | None => Err(OutOfRange { asked: asked.chars().take(64).collect(), max }),
    }
}

/// The version for our service in `compute 2.1, baremetal 1.5`.
fn of_baremetal(header: &str) -> Option<&str> {
    header.split(',').find_map(|entry| {
        let (service, version) = entry.trim().split_once(char::is_whitespace)?;
        service.eq_ignore_ascii_case("baremetal").then(|| version.trim())
    })
}

/// Ironic release → its newest minor, for `pin_release_version` (last table of microversions.md).
pub const RELEASES: &[(&str, u16)] = &[
    ("10.0", 36),
    ("10.1", 38),
    ("11.0", 43),
    ("11.1", 46),
    ("12.0", 49),
    ("12.1", 56),
    ("12.2", 58),
    ("13.0", 58),
    ("14.0", 61),
    ("15.0", 65),
    ("15.1", 67),
    ("16.0", 68),
    ("16.1", 68),
    ("16.2", 69),
    ("17.0", 72),
    ("18.0", 74),
    ("18.1", 75),
    ("18.2", 78),
    ("19.0", 78),
    ("20.0", 78),
    ("20.1", 78),
    ("20.2", 78),
    ("21.0", 79),
    ("21.1", 80),
    ("21.2", 80),
    ("21.3", 81),
    ("21.4", 82),
    ("22.0", 83),
    ("22.1", 86),
    ("23.0", 87),
    ("23.1", 88),
    ("24.0", 89),
    ("24.1", 90),
    ("25.0", 91),
    ("26.0", 91),
    ("26.1", 93),
    ("27.0", 94),
    ("28.0", 95),
    ("29.0", 96),
    ("30.0", 99),
    ("31.0", 99),
    ("32.0", 101),
    ("33.0", 104),
    ("34.0", 109),
    ("35.0", 111),
    ("36.0", 112),
    ("37.0", 112),
    ("38.0", 113),
    ("39.0", 115),
    ("master", 115),
];

/// The newest version that an Ironic `release` knew; `None` when there is no such release.
#[must_use]
pub fn of_release(release: &str) -> Option<Version> {
    RELEASES.iter().find(|(name, _)| *name == release).map(|(_, minor)| Version(*minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(openstack: Option<&str>, ironic: Option<&str>, max: u16) -> Result<u16, String> {
        let header = |name: &str| match name {
            OPENSTACK_HEADER => openstack,
            IRONIC_HEADER => ironic,
            _ => None,
        };
        negotiate(header, Version(max)).map(|version| version.0).map_err(|error| error.asked)
    }

    #[test]
    fn headers_negotiate_as_the_table_says() {
        for (openstack, ironic, max, expected) in [
            (None, None, 115, Ok(1)),
            (None, Some("1.31"), 115, Ok(31)),
            (Some("baremetal 1.50"), Some("1.31"), 115, Ok(50)),
            (Some("compute 2.1"), None, 115, Ok(1)),
            (Some("compute 2.1"), Some("1.9"), 115, Ok(9)),
            (Some("compute 2.1, baremetal 1.80"), None, 115, Ok(80)),
            (Some("baremetal latest"), None, 115, Ok(115)),
            (None, Some("latest"), 99, Ok(99)),
            (None, Some(" 1.115 "), 115, Ok(115)),
            (None, Some("1.116"), 115, Err("1.116")),
            (None, Some("1.100"), 99, Err("1.100")),
            (None, Some("1.0"), 115, Err("1.0")),
            (None, Some("2.1"), 115, Err("2.1")),
            (None, Some("1.+5"), 115, Err("1.+5")),
            (None, Some("garbage"), 115, Err("garbage")),
            (None, Some(""), 115, Err("")),
        ] {
            assert_eq!(
                asked(openstack, ironic, max),
                expected.map_err(str::to_owned),
                "{openstack:?} {ironic:?} {max}"
            );
        }
    }

    #[test]
    fn a_pin_names_a_release() {
        assert_eq!(of_release("39.0"), Some(Version(115)));
        assert_eq!(of_release("18.2"), Some(Version(78)));
        assert_eq!(of_release("40.0"), None);
    }
}
