//! Whether a request's bytes may be handed to the codec.
//!
//! The codec reserves memory for as many elements as an array's length says, so a frame of forty bytes
//! could ask for two hundred gigabytes and abort the process. It also reads a known tagged field
//! without regard to the size declared for it. The guard walks a body beforehand along the [`shape`] of its
//! API and version, which is in the table of [`apis`](super::apis): every length must fit in what remains, every
//! known tagged field must fill its declared size, and the memory that the decoded request will take is added up as
//! it goes ([`Verdict::memory`]), so that it can be charged to the budget.
//!
//! Bytes after the end of a body are ignored, as Kafka ignores them.

use kafka_protocol::messages::ApiKey;

use super::apis::Api;

pub(super) mod shape;

use shape::{Field, Kind, Shape};

/// What the guard found out about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Where the body ends. Anything after it is ignored.
    pub(crate) end: usize,
    /// How much memory the decoded request takes at most, besides the frame's own bytes.
    pub(crate) memory: usize,
}

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("it ends in the middle of a field, at byte {0}")]
    Truncated(usize),
    #[error("at byte {at}, {what} of length {length} does not fit in the {left} bytes left")]
    Length {
        at: usize,
        what: &'static str,
        length: u64,
        left: usize,
    },
    #[error("at byte {0}, a length is negative")]
    Negative(usize),
    #[error("at byte {0}, a variable-length integer is too long")]
    Varint(usize),
    #[error("at byte {0}, a field is null that must not be")]
    Null(usize),
    #[error("the tagged field {tag} at byte {at} does not fill its declared size")]
    Tag { at: usize, tag: u32 },
    #[error("it would take more than {0} bytes of memory")]
    Amplified(usize),
}

/// The most memory that the decoded form of a request of `size` bytes may take, besides the frame's own
/// bytes. No well-formed request of a real client comes near; one of nothing but empty strings does.
///
/// Other requests than Produce are small and full of small things; a Produce is large and nearly all of it
/// is records, which the decoded form only refers to.
pub(crate) fn memory_limit(key: i16, size: usize) -> usize {
    const ALLOWANCE: usize = 16 << 10;
    let (times, most) = if key == ApiKey::Produce as i16 {
        (2, 1 << 20)
    } else {
        (32, 64 << 20)
    };
    size.saturating_mul(times).min(most) + ALLOWANCE
}

/// Judges the body of a request.
pub(crate) fn check(api: &Api, version: i16, body: &[u8]) -> Result<Verdict, Refused> {
    let mut walk = Walk {
        body,
        at: 0,
        version,
        flexible: api.is_flexible(version),
        memory: 0,
        limit: memory_limit(api.key as i16, body.len()),
    };
    walk.fields(&api.shape, true)?;
    Ok(Verdict {
        end: walk.at,
        memory: walk.memory,
    })
}

/// Judges a request header of version 1 or 2: where it ends. (The client id is never compact.)
pub(crate) fn check_header(header_version: i16, frame: &[u8]) -> Result<usize, Refused> {
    let mut walk = Walk {
        body: frame,
        at: 0,
        version: 0,
        flexible: false,
        memory: 0,
        limit: memory_limit(0, frame.len()),
    };
    walk.skip(8)?;
    walk.field(&Kind::String, true)?;
    if header_version >= 2 {
        walk.tags(&[])?;
    }
    Ok(walk.at)
}

/// What an unknown tagged field takes in memory: the codec keeps it in a map, whose nodes are at least half full ...
const TAG_MEMORY: usize = 104;

/// ... but for the first of a struct, which has a node for eleven to itself.
const TAGS_MEMORY: usize = 416;

struct Walk<'a> {
    body: &'a [u8],
    at: usize,
    version: i16,
    flexible: bool,
    memory: usize,
    limit: usize,
}

impl Walk<'_> {
    fn fields(&mut self, shape: &Shape, tagged: bool) -> Result<(), Refused> {
        for field in &shape.fields {
            if field.tag.is_none() && field.versions.contains(self.version) {
                self.field(&field.kind, field.nullable)?;
            }
        }
        if tagged && self.flexible {
            self.tags(&shape.fields)?;
        }
        Ok(())
    }

    fn field(&mut self, kind: &Kind, nullable: bool) -> Result<(), Refused> {
        match kind {
            Kind::Fixed(size) => self.skip(*size),
            Kind::String => {
                let length = self.length(Width::Short, "a string", nullable, 1)?;
                self.skip(length.unwrap_or(0))
            }
            Kind::Bytes => {
                let length = self.length(Width::Long, "a field of bytes", nullable, 1)?;
                self.skip(length.unwrap_or(0))
            }
            Kind::Array(element) => {
                let least = element.smallest(self.version, self.flexible, true);
                let length = self.length(Width::Long, "an array", nullable, least)?;
                self.elements(element, length.unwrap_or(0), true)
            }
            Kind::Plain(element) => {
                let least = element.smallest(self.version, self.flexible, false);
                let length = self.length(Width::Long, "an array", nullable, least)?;
                self.elements(element, length.unwrap_or(0), false)
            }
            Kind::Optional(shape) => match self.byte()? {
                0xff => Ok(()),
                1 => self.fields(shape, true),
                _ => Err(Refused::Null(self.at - 1)),
            },
            Kind::Struct(shape) => self.fields(shape, true),
        }
    }

    fn elements(&mut self, element: &Shape, count: usize, tagged: bool) -> Result<(), Refused> {
        let each = element.memory(tagged);
        self.remember(count.saturating_mul(each))?;
        for _ in 0..count {
            self.fields(element, tagged)?;
        }
        Ok(())
    }

    /// The tagged fields at the end of a struct (KIP-482).
    fn tags(&mut self, known: &[Field]) -> Result<(), Refused> {
        let count = self.varint()?;
        let mut unknown = false;
        for _ in 0..count {
            let at = self.at;
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            let left = self.left();
            if size > left {
                return Err(Refused::Length {
                    at,
                    what: "a tagged field",
                    length: size as u64,
                    left,
                });
            }
            self.remember(TAG_MEMORY)?;
            let end = self.at + size;
            let field = known
                .iter()
                .find(|field| field.tag == Some(tag) && field.versions.contains(self.version));
            match field {
                Some(field) => self.field(&field.kind, field.nullable)?,
                None => {
                    if !std::mem::replace(&mut unknown, true) {
                        self.remember(TAGS_MEMORY)?;
                    }
                    self.at = end;
                }
            }
            if self.at != end {
                return Err(Refused::Tag { at, tag });
            }
        }
        Ok(())
    }

    /// A length, whose elements take at least `least` bytes each.
    fn length(
        &mut self,
        width: Width,
        what: &'static str,
        nullable: bool,
        least: usize,
    ) -> Result<Option<usize>, Refused> {
        let at = self.at;
        let length = if self.flexible {
            i64::from(self.varint()?) - 1
        } else {
            match width {
                Width::Short => i64::from(i16::from_be_bytes(self.take()?)),
                Width::Long => i64::from(i32::from_be_bytes(self.take()?)),
            }
        };
        if length == -1 {
            return if nullable {
                Ok(None)
            } else {
                Err(Refused::Null(at))
            };
        }
        let length = u64::try_from(length).map_err(|_| Refused::Negative(at))?;
        let left = self.left();
        if length.saturating_mul(least as u64) > left as u64 {
            return Err(Refused::Length {
                at,
                what,
                length,
                left,
            });
        }
        Ok(Some(usize::try_from(length).unwrap_or(usize::MAX)))
    }

    fn varint(&mut self) -> Result<u32, Refused> {
        let at = self.at;
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| Refused::Varint(at));
            }
        }
        Err(Refused::Varint(at))
    }

    fn remember(&mut self, bytes: usize) -> Result<(), Refused> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > self.limit {
            return Err(Refused::Amplified(self.limit));
        }
        Ok(())
    }

    fn left(&self) -> usize {
        self.body.len() - self.at
    }

    fn skip(&mut self, size: usize) -> Result<(), Refused> {
        if size > self.left() {
            return Err(Refused::Truncated(self.at));
        }
        self.at += size;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Refused> {
        let [byte] = self.take()?;
        Ok(byte)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refused> {
        let rest = &self.body[self.at..];
        let bytes = *rest.first_chunk().ok_or(Refused::Truncated(self.at))?;
        self.at += N;
        Ok(bytes)
    }
}

/// How wide a length is where it is not compact.
#[derive(Clone, Copy)]
enum Width {
    Short,
    Long,
}

#[cfg(test)]
pub(super) mod tests;
