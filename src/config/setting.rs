//! One setting, and groups of them.

use std::time::Duration;

use crate::types::ByteCount;

/// What there is to know of a setting, apart from its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key in the configuration file: `commit_interval`.
    pub key: &'static str,
    /// Its flag, without the dashes: `commit-interval`.
    pub flag: &'static str,
    /// Its environment variable: `WEIR_COMMIT_INTERVAL`.
    pub variable: &'static str,
    /// What a value is, in a word: `SIZE`.
    pub kind: &'static str,
    /// The default as it would be written; empty where the node decides.
    pub default: &'static str,
    /// What it means. Its first sentence stands alone.
    pub doc: &'static str,
}

/// Some settings that belong together, as a struct with a field for each.
pub trait Group: Default {
    /// What the group is about, as a heading.
    const TITLE: &'static str;
    /// The settings, in the order in which people should read them.
    const SETTINGS: &'static [Setting];

    /// Sets the setting `key` to the value written as `text`. `None` if it is of another group.
    fn set(&mut self, key: &str, text: &str) -> Option<Result<(), String>>;
}

/// The type of a setting: how it is written.
pub trait Value: Sized {
    /// What it is, in a word, as a placeholder: `SIZE`.
    const KIND: &'static str;

    /// Reads it. The error says what is expected.
    fn read(text: &str) -> Result<Self, String>;
}

impl Value for String {
    const KIND: &'static str = "TEXT";

    fn read(text: &str) -> Result<String, String> {
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        Ok(text.to_owned())
    }
}

impl Value for bool {
    const KIND: &'static str = "on|off";

    fn read(text: &str) -> Result<bool, String> {
        match text {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err("it is neither on nor off".to_owned()),
        }
    }
}

impl Value for u32 {
    const KIND: &'static str = "NUMBER";

    fn read(text: &str) -> Result<u32, String> {
        text.parse()
            .map_err(|_| "it is not a whole number from 0 to 4294967295".to_owned())
    }
}

impl Value for ByteCount {
    const KIND: &'static str = "SIZE";

    fn read(text: &str) -> Result<ByteCount, String> {
        text.parse().map_err(|_| {
            "it is not a size; write, for example, 8MiB, 512KiB or a number of bytes".to_owned()
        })
    }
}

impl Value for Duration {
    const KIND: &'static str = "DURATION";

    fn read(text: &str) -> Result<Duration, String> {
        if text.trim() == "0" {
            return Ok(Duration::ZERO);
        }
        humantime::parse_duration(text)
            .map_err(|_| "it is not a duration; write for example 250ms, 10s or 5min".to_owned())
    }
}

/// A setting for which the node finds a value when there is none.
impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;

    fn read(text: &str) -> Result<Option<T>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        T::read(text).map(Some)
    }
}

/// Writes a field's name with `-` for `_`. `N` is the length of `name`.
pub(super) const fn flag_of<const N: usize>(name: &str) -> [u8; N] {
    let mut out = [0; N];
    let mut at = 0;
    while at < N {
        let byte = name.as_bytes()[at];
        out[at] = if byte == b'_' { b'-' } else { byte };
        at += 1;
    }
    out
}

/// Writes a field's name in capitals after `WEIR_`. `N` is the length of `name` and 5.
pub(super) const fn variable_of<const N: usize>(name: &str) -> [u8; N] {
    let mut out = [0; N];
    let mut at = 0;
    while at < N {
        out[at] = if at < 5 {
            b"WEIR_"[at]
        } else {
            name.as_bytes()[at - 5].to_ascii_uppercase()
        };
        at += 1;
    }
    out
}

/// The text of bytes that came from the name of a field.
pub(super) const fn text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("the name of a field is UTF-8"),
    }
}

/// Declares a [`Group`]: a struct whose fields are settings, each with its documentation (which is also
/// the help text), its type and its default as a person would write it.
macro_rules! settings {
    (
        #[title = $title:literal]
        $(#[$about:meta])*
        pub struct $group:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:literal,
            )+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $group {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", $default, "`")]
                pub $field: $type,
            )+
        }

        impl $crate::config::Group for $group {
            const TITLE: &'static str = $title;
            const SETTINGS: &'static [$crate::config::Setting] = &[
                $($crate::config::Setting {
                    key: stringify!($field),
                    flag: {
                        const NAME: &[u8] =
                            &$crate::config::setting::flag_of::<{ stringify!($field).len() }>(
                                stringify!($field),
                            );
                        $crate::config::setting::text(NAME)
                    },
                    variable: {
                        const NAME: &[u8] =
                            &$crate::config::setting::variable_of::<
                                { stringify!($field).len() + 5 },
                            >(stringify!($field));
                        $crate::config::setting::text(NAME)
                    },
                    kind: <$type as $crate::config::Value>::KIND,
                    default: $default,
                    doc: concat!($($doc, "\n"),+),
                }),+
            ];

            fn set(&mut self, key: &str, text: &str) -> Option<Result<(), String>> {
                match key {
                    $(stringify!($field) => Some(
                        <$type as $crate::config::Value>::read(text)
                            .map(|value| self.$field = value)
                    ),)+
                    _ => None,
                }
            }
        }

        impl Default for $group {
            fn default() -> $group {
                $group {
                    $(
                        $field: <$type as $crate::config::Value>::read($default)
                            .expect("a test reads the default of every setting"),
                    )+
                }
            }
        }
    };
}

pub(super) use settings;
