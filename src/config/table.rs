//! Turns one aligned table of options into the structs, their defaults, their documentation and their lookup.

/// Declares sections with their options: `key: type = default;` with a doc comment that `config show` prints.
macro_rules! sections {
    ($( $(#[doc = $sdoc:literal])+ $section:ident: $Section:ident {
        $( $(#[doc = $doc:literal])+ $key:ident: $ty:ty = $default:expr; )+
    } )+) => {
        $( $(#[doc = $sdoc])+
        #[derive(Clone, Debug)]
        pub(crate) struct $Section { $( $(#[doc = $doc])+ pub(crate) $key: $ty, )+ }

        impl Default for $Section {
            fn default() -> Self { Self { $( $key: $default, )+ } }
        } )+

        /// Everything that can be configured.
        #[derive(Clone, Debug, Default)]
        pub(crate) struct Config { $( $(#[doc = $sdoc])+ pub(crate) $section: $Section, )+ }

        /// Every option in the order of declaration.
        pub(crate) static OPTIONS: &[$crate::config::OptionInfo] = &[ $( $(
            $crate::config::OptionInfo {
                section: stringify!($section), key: stringify!($key), doc: concat!($($doc),+),
            },
        )+ )+ ];

        /// Every section with its documentation.
        pub(crate) static SECTIONS: &[(&str, &str)] = &[ $( (stringify!($section), concat!($($sdoc),+)), )+ ];

        impl Config {
            /// Sets one option. `Err(None)`: there is no such option; `Err(Some(why))`: the value cannot be used.
            pub(crate) fn set(
                &mut self, section: &str, key: &str, input: $crate::config::value::Input<'_>,
            ) -> Result<(), Option<String>> {
                match (section, key) {
                    $( $( (stringify!($section), stringify!($key)) => {
                        self.$section.$key = <$ty as $crate::config::value::Setting>::read(input).map_err(Some)?;
                        Ok(())
                    } )+ )+
                    (_, _) => Err(None),
                }
            }

            /// One option as TOML, secrets masked; `None` when it is unset or unknown.
            pub(crate) fn show(&self, section: &str, key: &str) -> Option<String> {
                match (section, key) {
                    $( $( (stringify!($section), stringify!($key)) => {
                        $crate::config::value::Setting::show(&self.$section.$key)
                    } )+ )+
                    (_, _) => None,
                }
            }
        }
    };
}
pub(crate) use sections;
