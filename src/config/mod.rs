//! The configuration: defaults, then a TOML file, then `FERRIC_SECTION__KEY` in the environment, then `--set`; each
//! value remembers where it came from. Unknown keys are errors with the nearest name.

mod check;
mod options;
mod table;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

pub(crate) use options::{Config, OPTIONS, SECTIONS};
use value::Input;

/// What is known of an option besides its type and default.
#[derive(Debug)]
pub(crate) struct OptionInfo {
    /// Its section.
    pub(crate) section: &'static str,
    /// Its name.
    pub(crate) key: &'static str,
    /// What it does, in a sentence or two.
    pub(crate) doc: &'static str,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody said anything else.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// The command line.
    Set,
    /// The command itself (`ferric demo` sets some).
    Command(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::Set => f.write_str("--set"),
            Source::Command(name) => write!(f, "ferric {name}"),
        }
    }
}

/// Why a configuration cannot be used; each text says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read the configuration file {path}; name an existing file with --config, or leave it out for the defaults"
    )]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// The file is not TOML.
    // not the parser's own words: they repeat the line, which may hold a password
    #[error(
        "{path}, line {line}, is not TOML ({why}); sections are [name], values are key = value, texts stand in quotes"
    )]
    Syntax { path: PathBuf, line: usize, why: String },
    /// No such section.
    #[error("unknown section [{section}] ({origin}); {hint}")]
    UnknownSection { section: String, origin: Source, hint: String },
    /// No such option.
    #[error("unknown option {section}.{key} ({origin}); {hint}")]
    UnknownKey { section: String, key: String, origin: Source, hint: String },
    /// A value of the wrong kind.
    #[error("{section}.{key} ({origin}) {reason}")]
    Value { section: String, key: String, origin: Source, reason: String },
    /// `--set` without a dot or an equals sign.
    #[error("--set '{given}' is not of the form section.key=value, for example --set api.port=6386")]
    SetForm { given: String },
    /// Values that do not go together.
    #[error("{0}")]
    Together(String),
}

/// A configuration with its sources.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loaded {
    /// The effective values.
    pub(crate) config: Config,
    sources: BTreeMap<(&'static str, &'static str), Source>,
}

impl Loaded {
    /// Reads everything in the order of precedence and checks it.
    pub(crate) fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<Self, ConfigError> {
        let mut loaded = Self::default();
        if let Some(path) = file {
            loaded.read_file(path)?;
        }
        for (name, text) in environment {
            // a single underscore is for variables about Ferric that are no options, e.g. FERRIC_LOG
            let Some((section, key)) = name.strip_prefix("FERRIC_").and_then(|rest| rest.split_once("__"))
            else {
                continue;
            };
            let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
            loaded.set(&section, &key, Input::Text(&text), Source::Environment(name))?;
        }
        for given in sets {
            let form =
                || ConfigError::SetForm { given: given.split('=').next().unwrap_or_default().to_owned() };
            let (name, text) = given.split_once('=').ok_or_else(form)?;
            let (section, key) = name.trim().split_once('.').ok_or_else(form)?;
            loaded.set(section, key, Input::Text(text), Source::Set)?;
        }
        loaded.config.check().map_err(ConfigError::Together)?;
        Ok(loaded)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let table: toml::Table =
            toml::from_str(&text).map_err(|error: toml::de::Error| ConfigError::Syntax {
                path: path.to_owned(),
                line: error.span().map_or(1, |at| text[..at.start.min(text.len())].lines().count().max(1)),
                why: error.message().to_owned(),
            })?;
        let origin = Source::File(path.to_owned());
        for (section, options) in &table {
            let Some(options) = options.as_table() else {
                let hint =
                    format!("options stand in sections, for example [api]; found '{section}' outside of any");
                return Err(ConfigError::UnknownSection { section: section.clone(), origin, hint });
            };
            if !SECTIONS.iter().any(|(name, _)| name == section) {
                let first = options.keys().next().map(String::as_str);
                return Err(unknown_section(section, first, origin));
            }
            for (key, value) in options {
                self.set(section, key, Input::Toml(value), origin.clone())?;
            }
        }
        Ok(())
    }

    /// Sets one option and remembers who did.
    pub(crate) fn set(
        &mut self,
        section: &str,
        key: &str,
        input: Input<'_>,
        origin: Source,
    ) -> Result<(), ConfigError> {
        match self.config.set(section, key, input) {
            Ok(()) => {
                let info = OPTIONS.iter().find(|info| info.section == section && info.key == key);
                let info =
                    info.expect("what Config::set knows stands in OPTIONS: both are made from one table");
                self.sources.insert((info.section, info.key), origin);
                Ok(())
            }
            Err(Some(reason)) => {
                Err(ConfigError::Value { section: section.to_owned(), key: key.to_owned(), origin, reason })
            }
            Err(None) if SECTIONS.iter().any(|(name, _)| *name == section) => {
                Err(unknown_key(section, key, origin))
            }
            Err(None) => Err(unknown_section(section, Some(key), origin)),
        }
    }

    /// Where a value came from.
    pub(crate) fn source(&self, section: &str, key: &str) -> Source {
        self.sources
            .iter()
            .find(|((of, name), _)| *of == section && *name == key)
            .map_or(Source::Default, |(_, source)| source.clone())
    }

    /// The configuration file, if it holds passwords that hold.
    pub(crate) fn file_with_secrets(&self) -> Option<PathBuf> {
        let of = &self.config.database.connection;
        let in_url = of.as_ref().is_some_and(|url| url.masked() != url.reveal());
        let keystone = &self.config.keystone_authtoken;
        [
            ("database", "connection", in_url),
            ("keystone_authtoken", "password", keystone.password.is_some()),
            (
                "keystone_authtoken",
                "application_credential_secret",
                keystone.application_credential_secret.is_some(),
            ),
        ]
        .into_iter()
        .filter(|(_, _, secret)| *secret)
        .find_map(|(section, key, _)| match self.source(section, key) {
            Source::File(path) => Some(path),
            Source::Default | Source::Environment(_) | Source::Set | Source::Command(_) => None,
        })
    }

    /// The effective configuration as TOML that can be read again (but for masked secrets), each value with its
    /// source; `explain` puts each option's meaning above it.
    pub(crate) fn show(&self, explain: bool) -> String {
        let mut text = String::new();
        for (section, doc) in SECTIONS {
            if !text.is_empty() {
                text.push('\n');
            }
            if explain {
                let _ = writeln!(text, "#{doc}");
            }
            let _ = writeln!(text, "[{section}]");
            for info in OPTIONS.iter().filter(|info| info.section == *section) {
                if explain {
                    let _ = writeln!(text, "#{}", info.doc);
                }
                let source = self.source(section, info.key);
                match self.config.show(section, info.key) {
                    Some(value) => {
                        let _ = writeln!(text, "{:<60} # {source}", format!("{} = {value}", info.key));
                    }
                    None => {
                        let _ = writeln!(text, "{:<60} # {source}", format!("#{} =", info.key));
                    }
                }
            }
        }
        text
    }
}

fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (strsim::jaro_winkler(word, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Options of Ironic's `[DEFAULT]`, a section that is not here, whose names changed with their place (config.md).
const MOVED: &[(&str, &str)] = &[
    ("auth_strategy", "[auth] strategy"),
    ("enabled_drivers", "[hardware] enabled_hardware_types, which takes classic drivers as well,"),
    ("my_ip", "[api] host_ip, or [dhcp] server_ip"),
    ("state_path", "--data-dir"),
    ("debug", "--log debug"),
];

/// Where an option of Ironic's `[DEFAULT]` lives here.
fn moved(key: Option<&str>) -> String {
    let key = key.unwrap_or("auth_strategy");
    let place = MOVED.iter().find(|(name, _)| *name == key).map(|(_, place)| (*place).to_owned());
    let place = place.or_else(|| {
        OPTIONS.iter().find(|info| info.key == key).map(|info| format!("[{}] {}", info.section, info.key))
    });
    place.map_or_else(
        || format!("Ironic's [DEFAULT] is spread over the sections, and {key} is in none: take it away, or look at ferric config show --explain"),
        |place| format!("Ironic's [DEFAULT] is spread over the sections: {key} is {place} here"),
    )
}

/// `first` is an option that stands in it.
fn unknown_section(section: &str, first: Option<&str>, origin: Source) -> ConfigError {
    if section.eq_ignore_ascii_case("default") {
        let (section, hint) = (section.to_ascii_uppercase(), moved(first));
        return ConfigError::UnknownSection { section, origin, hint };
    }
    let hint = nearest(section, SECTIONS.iter().map(|(name, _)| *name)).map_or_else(
        || format!("there are: {}", SECTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")),
        |name| format!("did you mean [{name}]?"),
    );
    ConfigError::UnknownSection { section: section.to_owned(), origin, hint }
}

fn unknown_key(section: &str, key: &str, origin: Source) -> ConfigError {
    let elsewhere = OPTIONS.iter().find(|info| info.key == key);
    let near = nearest(key, OPTIONS.iter().filter(|info| info.section == section).map(|info| info.key));
    let hint = match (elsewhere, near) {
        (Some(info), _) => format!("did you mean {}.{}?", info.section, info.key),
        (None, Some(name)) => format!("did you mean {section}.{name}?"),
        (None, None) => "ferric config show lists every option".to_owned(),
    };
    ConfigError::UnknownKey { section: section.to_owned(), key: key.to_owned(), origin, hint }
}

#[cfg(test)]
mod tests;
