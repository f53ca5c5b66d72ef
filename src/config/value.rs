//! The kinds of value that an option can have: read from TOML or from the text of `--set` and the environment, shown
//! as TOML again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

/// A value as it came in.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// From a file.
    Toml(&'a Value),
    /// From `--set` or the environment: no quotes needed.
    Text(&'a str),
}

/// A type that an option can have.
pub(crate) trait Setting: Sized {
    /// Reads it. The error says what would be right, without repeating the value (it may be a secret).
    fn read(input: Input<'_>) -> Result<Self, String>;
    /// Shows it as TOML, secrets masked; `None` for what is unset.
    fn show(&self) -> Option<String>;
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

impl Setting for bool {
    fn read(input: Input<'_>) -> Result<Self, String> {
        let text = match input {
            Input::Toml(Value::Boolean(is)) => return Ok(*is),
            Input::Toml(Value::String(text)) => text.as_str(),
            Input::Text(text) => text,
            Input::Toml(_) => return Err("must be true or false".to_owned()),
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        }
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! whole_numbers {
    ($($ty:ty),+) => { $(
        impl Setting for $ty {
            fn read(input: Input<'_>) -> Result<Self, String> {
                let wrong = || format!("must be a whole number from 0 to {}", <$ty>::MAX);
                match input {
                    Input::Toml(Value::Integer(number)) => <$ty>::try_from(*number).map_err(|_| wrong()),
                    Input::Text(text) => text.trim().parse().map_err(|_| wrong()),
                    Input::Toml(_) => Err(wrong()),
                }
            }
            fn show(&self) -> Option<String> { Some(self.to_string()) }
        }
    )+ };
}
whole_numbers!(u8, u16, u32, u64);

/// Times are written as seconds, whole or not, as Ironic does.
impl Setting for Duration {
    fn read(input: Input<'_>) -> Result<Self, String> {
        let wrong = || "must be a number of seconds, 0 or more".to_owned();
        let seconds = match input {
            Input::Toml(Value::Integer(number)) => {
                return u64::try_from(*number).map(Duration::from_secs).map_err(|_| wrong());
            }
            Input::Toml(Value::Float(number)) => *number,
            Input::Text(text) => text.trim().parse().map_err(|_| wrong())?,
            Input::Toml(_) => return Err(wrong()),
        };
        Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
    }
    fn show(&self) -> Option<String> {
        Some(self.as_secs_f64().to_string())
    }
}

impl Setting for String {
    fn read(input: Input<'_>) -> Result<Self, String> {
        match input {
            Input::Toml(Value::String(text)) => Ok(text.clone()),
            Input::Text(text) => Ok(text.to_owned()),
            Input::Toml(_) => Err("must be a text in quotes".to_owned()),
        }
    }
    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for PathBuf {
    fn read(input: Input<'_>) -> Result<Self, String> {
        String::read(input).map(PathBuf::from)
    }
    fn show(&self) -> Option<String> {
        Some(quoted(&self.display().to_string()))
    }
}

impl Setting for Vec<String> {
    fn read(input: Input<'_>) -> Result<Self, String> {
        let wrong = || "must be a list of texts, a,b or a TOML array, [\"a\", \"b\"]".to_owned();
        let array = |all: &Vec<Value>| {
            all.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        };
        let parts = |text: &str| {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        match input {
            Input::Toml(Value::Array(all)) => array(all),
            Input::Toml(Value::String(text)) => Ok(parts(text)),
            // as config show prints it
            Input::Text(text) if text.trim_start().starts_with('[') => {
                let table: toml::Table =
                    toml::from_str(&format!("list = {}", text.trim())).map_err(|_| wrong())?;
                table.get("list").and_then(Value::as_array).ok_or_else(wrong).and_then(array)
            }
            Input::Text(text) => Ok(parts(text)),
            Input::Toml(_) => Err(wrong()),
        }
    }
    fn show(&self) -> Option<String> {
        Some(format!("[{}]", self.iter().map(|one| quoted(one)).collect::<Vec<_>>().join(", ")))
    }
}

/// How long something pretended takes: seconds, or two numbers of seconds, `3,10`, between which chance decides.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SecondsRange {
    /// At the least.
    pub(crate) from: Duration,
    /// At the most.
    pub(crate) to: Duration,
}

impl Setting for SecondsRange {
    fn read(input: Input<'_>) -> Result<Self, String> {
        let wrong = || "must be a number of seconds, or two, the smaller first: 5 or 3,10".to_owned();
        let text = match input {
            Input::Toml(Value::Integer(number)) => number.to_string(),
            Input::Toml(Value::Float(number)) => number.to_string(),
            Input::Toml(Value::String(text)) => text.clone(),
            Input::Text(text) => text.to_owned(),
            Input::Toml(_) => return Err(wrong()),
        };
        let seconds = |word: &str| {
            let number = word.trim().parse().map_err(|_| wrong())?;
            Duration::try_from_secs_f64(number).map_err(|_| wrong())
        };
        let (from, to) = match text.split_once(',') {
            Some((from, to)) => (seconds(from)?, seconds(to)?),
            None if text.trim().is_empty() => (Duration::ZERO, Duration::ZERO),
            None => (seconds(&text)?, seconds(&text)?),
        };
        if from > to { Err(wrong()) } else { Ok(Self { from, to }) }
    }
    fn show(&self) -> Option<String> {
        let (from, to) = (self.from.as_secs_f64(), self.to.as_secs_f64());
        Some(quoted(&if self.from == self.to { from.to_string() } else { format!("{from},{to}") }))
    }
}

impl Setting for std::net::IpAddr {
    fn read(input: Input<'_>) -> Result<Self, String> {
        String::read(input)?.trim().parse().map_err(|_| "must be an IP address".to_owned())
    }
    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

/// Ranges of TCP ports as Ironic writes them, `10000:20000` each: the first is used, the last is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PortRanges(pub(crate) Vec<std::ops::Range<u16>>);

impl Setting for PortRanges {
    fn read(input: Input<'_>) -> Result<Self, String> {
        let wrong = || "must be ranges of ports: 10000:20000, or 10000:11000,12000:13000".to_owned();
        let words = <Vec<String> as Setting>::read(input).map_err(|_| wrong())?;
        let range = |word: &String| {
            let (first, end) = word.split_once(':').ok_or_else(wrong)?;
            let port =
                |word: &str| word.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
            let range = port(first)?..port(end)?;
            if range.start > range.end { Err(wrong()) } else { Ok(range) }
        };
        words.iter().map(range).collect::<Result<_, _>>().map(Self)
    }
    fn show(&self) -> Option<String> {
        let words: Vec<String> =
            self.0.iter().map(|range| format!("{}:{}", range.start, range.end)).collect();
        words.show()
    }
}

/// Priorities of steps, by `interface.step`: a table in TOML, or `deploy.erase_devices:20,raid.create:0` as Ironic
/// writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepPriorities(pub(crate) BTreeMap<String, i32>);

impl Setting for StepPriorities {
    fn read(input: Input<'_>) -> Result<Self, String> {
        const FORM: &str = "must name steps with their priorities, 0 or more: { \"deploy.erase_devices\" = 0 } or \
                            deploy.erase_devices:0,raid.create_configuration:5";
        let wrong = || FORM.to_owned();
        let mut all = BTreeMap::new();
        let mut put = |name: &str, priority: Option<i32>| {
            let named = name.split_once('.').is_some_and(|(of, step)| !of.is_empty() && !step.is_empty());
            let priority = priority.filter(|priority| *priority >= 0 && named).ok_or_else(wrong)?;
            all.insert(name.to_owned(), priority);
            Ok::<_, String>(())
        };
        let mut words = |text: &str| {
            for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
                let (name, priority) = word.rsplit_once(':').ok_or_else(wrong)?;
                put(name.trim(), priority.trim().parse().ok())?;
            }
            Ok::<_, String>(())
        };
        match input {
            Input::Text(text) => words(text)?,
            Input::Toml(Value::String(text)) => words(text)?,
            Input::Toml(Value::Array(list)) => {
                for one in list {
                    words(one.as_str().ok_or_else(wrong)?)?;
                }
            }
            Input::Toml(Value::Table(table)) => {
                for (name, priority) in table {
                    put(name, priority.as_integer().and_then(|number| i32::try_from(number).ok()))?;
                }
            }
            Input::Toml(_) => return Err(wrong()),
        }
        Ok(Self(all))
    }
    fn show(&self) -> Option<String> {
        let pair = |(name, priority): (&String, &i32)| format!("{} = {priority}", quoted(name));
        Some(format!("{{ {} }}", self.0.iter().map(pair).collect::<Vec<_>>().join(", ")))
    }
}

/// An optional value; an empty text unsets it.
impl<T: Setting> Setting for Option<T> {
    fn read(input: Input<'_>) -> Result<Self, String> {
        let empty = match input {
            Input::Toml(value) => value.as_str().is_some_and(str::is_empty),
            Input::Text(text) => text.is_empty(),
        };
        if empty { Ok(None) } else { T::read(input).map(Some) }
    }
    fn show(&self) -> Option<String> {
        self.as_ref().and_then(Setting::show)
    }
}

/// A database address; its password never prints.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ConnectionUrl(String);

impl ConnectionUrl {
    /// The address with its password, for the database only.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// The address with `******` for a password.
    pub(crate) fn masked(&self) -> String {
        let hidden = "******";
        let mut text = self.0.clone();
        if let Some(start) = text.find("://").map(|at| at + 3) {
            // the last '@' ends the user part: a password may hold '@', '/' and '?' of its own
            if let Some(at) = text[start..].rfind('@').map(|at| start + at)
                && let Some(colon) = text[start..at].find(':').map(|at| start + at)
            {
                text.replace_range(colon + 1..at, hidden);
            }
        }
        for key in ["password=", "passwd="] {
            let mut from = 0;
            while let Some(at) = text[from..].to_ascii_lowercase().find(key).map(|at| from + at + key.len()) {
                let end = text[at..].find(['&', ' ', ';']).map_or(text.len(), |n| at + n);
                text.replace_range(at..end, hidden);
                from = at + hidden.len();
            }
        }
        text
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Setting for ConnectionUrl {
    fn read(input: Input<'_>) -> Result<Self, String> {
        String::read(input).map(ConnectionUrl)
    }
    fn show(&self) -> Option<String> {
        Some(quoted(&self.masked()))
    }
}

/// A password or the like: shown as stars.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// The secret itself, for whom it is meant only.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}

impl Setting for Secret {
    fn read(input: Input<'_>) -> Result<Self, String> {
        String::read(input).map(Secret)
    }
    fn show(&self) -> Option<String> {
        Some(quoted("******"))
    }
}

/// Declares an option type with a fixed set of words.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$vmeta])* $variant,)+ }

        impl Setting for $name {
            fn read(input: Input<'_>) -> Result<Self, String> {
                match String::read(input)?.as_str() {
                    $($text => Ok($name::$variant),)+
                    _ => Err(format!("must be one of: {}", [$($text),+].join(", "))),
                }
            }
            fn show(&self) -> Option<String> {
                Some(quoted(match self { $($name::$variant => $text,)+ }))
            }
        }
    };
}

impl fmt::Display for AuthStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthStrategy::Noauth => "noauth",
            AuthStrategy::HttpBasic => "http_basic",
            AuthStrategy::Keystone => "keystone",
        })
    }
}

choice! {
    /// How callers prove who they are.
    AuthStrategy {
        /// Not at all: everybody is the administrator.
        Noauth = "noauth",
        /// By a name and a password of a file.
        HttpBasic = "http_basic",
        /// By a token of Keystone.
        Keystone = "keystone",
    }
}

choice! {
    /// What happens to a committed change when the power fails.
    Durability {
        /// It is on the disk before the caller gets its answer.
        Full = "full",
        /// The last moments may be lost; nothing is torn.
        Normal = "normal",
    }
}

choice! {
    /// What runs in the ramdisk of simulated machines.
    SimRamdisk {
        /// An agent.
        Agent = "agent",
        /// A script of the time before agents.
        Bash = "bash",
    }
}

choice! {
    /// How images come to simulated machines.
    SimImages {
        /// Byte by byte for up to 256 machines, counted for more.
        Auto = "auto",
        /// Byte by byte.
        Bytes = "bytes",
        /// Counted.
        Counted = "counted",
    }
}

choice! {
    /// What simulated BMCs speak.
    SimBmc {
        /// IPMI.
        Ipmi = "ipmi",
        /// IPMI and Redfish.
        Redfish = "redfish",
    }
}

choice! {
    /// What the DHCP server does.
    DhcpMode {
        /// Nothing.
        Off = "off",
        /// Gives addresses and boot files.
        Full = "full",
        /// Gives boot files only, beside a DHCP server that gives the addresses.
        Proxy = "proxy",
    }
}

choice! {
    /// The firmware interface of machines that do not say.
    DefaultBootMode {
        /// Legacy BIOS.
        Bios = "bios",
        /// UEFI.
        Uefi = "uefi",
    }
}

choice! {
    /// How rescue passwords are hashed.
    RescueHash {
        /// SHA-256 crypt.
        Sha256 = "sha256",
        /// SHA-512 crypt.
        Sha512 = "sha512",
    }
}

choice! {
    /// When the ramdisk's logs are fetched.
    CollectLogs {
        /// After every deployment and cleaning.
        Always = "always",
        /// After one that failed.
        OnFailure = "on_failure",
        /// Never.
        Never = "never",
    }
}

choice! {
    /// Which network cards that an inspection finds become ports.
    AddPorts {
        /// Those that the ramdisk was booted from.
        Pxe = "pxe",
        /// Those with a link or an address.
        Active = "active",
        /// All.
        All = "all",
        /// None.
        Disabled = "disabled",
    }
}

choice! {
    /// Which ports stay after an inspection.
    KeepPorts {
        /// All.
        All = "all",
        /// Those whose card was found.
        Present = "present",
        /// Those that the inspection would have added.
        Added = "added",
    }
}

choice! {
    /// From whom passwords in what the ramdisk sent are hidden.
    MaskSecrets {
        /// From all rules.
        Always = "always",
        /// From none.
        Never = "never",
        /// From those that are not marked as sensitive.
        Sensitive = "sensitive",
    }
}
