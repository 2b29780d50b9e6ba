//! The shapes of requests, parsed from the lines of the table in [`apis`](crate::kafka::apis).
//!
//! A shape has the fields in the order of the wire. A field is followed by the versions that have it, where these are
//! not all:
//!
//! | shape | field |
//! |---|---|
//! | `1` `2` `4` `8` `16` | so many bytes |
//! | `s` `b` | a string, bytes; with `?` they may be null |
//! | `[...]` | an array of structs; `[...]?` may be null |
//! | `*x` | an array of plain fields `x` |
//! | `?{...}` | a struct after a byte that says whether it is there |
//! | `#n:x` | tagged field `n`, only in flexible versions; `{...}` for a struct |
//! | `x@3+` `x@3-7` `x@-2` | the versions of `x`: from 3, from 3 to 7, up to 2 |
//!
//! Lengths are compact, and structs end in tagged fields, from the API's first flexible version on
//! (KIP-482). The tests hold this table against the codec for every API and version.

/// The fields of a struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(super) fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) kind: Kind,
    pub(super) nullable: bool,
    pub(super) versions: Versions,
    pub(super) tag: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Fixed(usize),
    String,
    Bytes,
    /// An array of structs, which end in tagged fields in flexible versions.
    Array(Shape),
    /// An array of a plain field, which do not.
    Plain(Shape),
    /// A struct that may be absent.
    Optional(Shape),
    Struct(Shape),
}

/// From and to, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Versions(i16, i16);

impl Versions {
    pub(super) fn contains(self, version: i16) -> bool {
        (self.0..=self.1).contains(&version)
    }
}

impl Shape {
    /// The shape that a line of the table describes.
    pub(crate) fn of(text: &str) -> Shape {
        parse(text).expect("the table is well-formed; a test parses it")
    }

    /// The fewest bytes that it takes on the wire.
    pub(super) fn smallest(&self, version: i16, flexible: bool, tagged: bool) -> usize {
        let length = |wide| if flexible { 1 } else { wide };
        let fields: usize = self
            .present(version)
            .map(|field| match &field.kind {
                Kind::Fixed(size) => *size,
                Kind::String => length(2),
                Kind::Bytes | Kind::Array(_) | Kind::Plain(_) => length(4),
                Kind::Optional(_) => 1,
                Kind::Struct(shape) => shape.smallest(version, flexible, true),
            })
            .sum();
        fields + usize::from(flexible && tagged)
    }

    /// The most memory that it takes when decoded, without what its arrays hold. That is the same in all versions:
    /// fields that a version does not have take memory, too.
    pub(super) fn memory(&self, tagged: bool) -> usize {
        let fields: usize = self
            .fields
            .iter()
            .map(|field| match &field.kind {
                Kind::Fixed(size) => *size.max(&4),
                Kind::String | Kind::Bytes => 32,
                Kind::Array(_) | Kind::Plain(_) => 24,
                Kind::Optional(shape) | Kind::Struct(shape) => shape.memory(true) + 8,
            })
            .sum();
        if tagged { fields + 24 } else { fields }
    }

    fn present(&self, version: i16) -> impl Iterator<Item = &Field> {
        self.fields
            .iter()
            .filter(move |field| field.tag.is_none() && field.versions.contains(version))
    }
}

/// Parses a shape; `None` if it is not well-formed.
fn parse(text: &str) -> Option<Shape> {
    let mut rest = text;
    let shape = fields(&mut rest, None)?;
    rest.is_empty().then_some(shape)
}

/// Fields up to `end` (or the end of the text).
fn fields(rest: &mut &str, end: Option<char>) -> Option<Shape> {
    let mut fields = Vec::new();
    loop {
        *rest = rest.trim_start();
        if let Some(end) = end {
            if let Some(after) = rest.strip_prefix(end) {
                *rest = after;
                return Some(Shape { fields });
            }
        } else if rest.is_empty() {
            return Some(Shape { fields });
        }
        fields.push(field(rest)?);
    }
}

fn field(rest: &mut &str) -> Option<Field> {
    let mut tag = None;
    if eat(rest, '#') {
        tag = Some(number(rest)?.try_into().ok()?);
        eat(rest, ':').then_some(())?;
    }
    let kind = kind(rest)?;
    let nullable = eat(rest, '?');
    let mut versions = Versions(0, i16::MAX);
    if eat(rest, '@') {
        versions.0 = number(rest).unwrap_or(0);
        if !eat(rest, '+') {
            eat(rest, '-').then_some(())?;
            versions.1 = number(rest)?;
        }
    }
    Some(Field {
        kind,
        nullable,
        versions,
        tag,
    })
}

fn kind(rest: &mut &str) -> Option<Kind> {
    if eat(rest, 's') {
        Some(Kind::String)
    } else if eat(rest, 'b') {
        Some(Kind::Bytes)
    } else if eat(rest, '[') {
        Some(Kind::Array(fields(rest, Some(']'))?))
    } else if eat(rest, '{') {
        Some(Kind::Struct(fields(rest, Some('}'))?))
    } else if eat(rest, '?') {
        eat(rest, '{').then_some(())?;
        Some(Kind::Optional(fields(rest, Some('}'))?))
    } else if eat(rest, '*') {
        let plain = Field {
            kind: kind(rest)?,
            nullable: false,
            versions: Versions(0, i16::MAX),
            tag: None,
        };
        Some(Kind::Plain(Shape {
            fields: vec![plain],
        }))
    } else {
        let size = usize::try_from(number(rest)?).ok()?;
        matches!(size, 1 | 2 | 4 | 8 | 16).then_some(Kind::Fixed(size))
    }
}

fn eat(rest: &mut &str, wanted: char) -> bool {
    match rest.strip_prefix(wanted) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

fn number(rest: &mut &str) -> Option<i16> {
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, after) = rest.split_at(digits);
    *rest = after;
    number.parse().ok()
}
