//! The same metadata with the table under another URL, for engines that reach it by another way than the one by which
//! it is written down.
//!
//! The two URLs are of one length. So manifests and lists of them stay as long as they were, which is what other
//! metadata says of them, and nothing but the paths changes. A path is found by the schema in the file, and not by what
//! it looks like: what producers write stands in bounds of columns, and may look like anything.

use std::ops::Range;

use serde_json::Value;

/// How a file of Avro begins.
const MAGIC: &[u8] = b"Obj\x01";

/// How many bytes mark the end of a block.
const SYNC: usize = 16;

/// The deepest that types are in one another.
const MAX_DEPTH: usize = 32;

/// The bytes are not those of a manifest, a list or metadata as they are written here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metadata cannot be read: {0}")]
pub struct Unreadable(&'static str);

/// From which URL to which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    from: String,
    to: String,
}

impl Relocation {
    /// From one URL to another; `None` if they differ in length.
    pub fn new(from: &str, to: &str) -> Option<Relocation> {
        (from.len() == to.len()).then(|| Relocation {
            from: from.to_owned(),
            to: to.to_owned(),
        })
    }

    /// A manifest, or a list of manifests.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn avro(&self, mut file: Vec<u8>) -> Result<Vec<u8>, Unreadable> {
        let mut paths = Vec::new();
        find_paths(&file, &mut paths)?;
        for at in paths {
            if let Some(path) = file.get_mut(at)
                && let Some(from) = path.get_mut(..self.from.len())
                && from == self.from.as_bytes()
            {
                from.copy_from_slice(self.to.as_bytes());
            }
        }
        Ok(file)
    }

    /// The metadata of a table.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn metadata(&self, json: &[u8]) -> Result<Vec<u8>, Unreadable> {
        const NO_JSON: Unreadable = Unreadable("it is not JSON");
        let mut metadata: Value = serde_json::from_slice(json).map_err(|_| NO_JSON)?;
        for path in [
            "/location",
            "/properties/write.data.path",
            "/properties/write.metadata.path",
        ] {
            self.text(metadata.pointer_mut(path));
        }
        let snapshots = metadata
            .get_mut("snapshots")
            .and_then(Value::as_array_mut)
            .into_iter();
        for snapshot in snapshots.flatten() {
            self.text(snapshot.get_mut("manifest-list"));
        }
        serde_json::to_vec(&metadata).map_err(|_| NO_JSON)
    }

    fn text(&self, value: Option<&mut Value>) {
        if let Some(Value::String(text)) = value
            && let Some(rest) = text.strip_prefix(&self.from)
        {
            *text = format!("{}{rest}", self.to);
        }
    }
}

/// What values of a type are made of, as far as they have to be passed over.
enum Shape {
    Null,
    Long,
    Bytes,
    /// So many bytes.
    Fixed(usize),
    /// The path of a file.
    Path,
    Many(Box<Shape>),
    /// A map: strings, and what they name.
    Named(Box<Shape>),
    Union(Vec<Shape>),
    Record(Vec<Shape>),
}

impl Shape {
    fn of(schema: &Value, name: &str, depth: usize) -> Result<Shape, Unreadable> {
        if depth > MAX_DEPTH {
            return Err(Unreadable("its types are too deep"));
        }
        let inner = |schema: &Value| Shape::of(schema, "", depth + 1);
        let part = |of: &str| -> Result<Box<Shape>, Unreadable> {
            let part = schema.get(of).ok_or(Unreadable("a type lacks a part"))?;
            Ok(Box::new(inner(part)?))
        };
        if let Some(branches) = schema.as_array() {
            let branches: Result<_, _> = branches.iter().map(inner).collect();
            return Ok(Shape::Union(branches?));
        }
        let Some(kind) = schema.as_str() else {
            return match schema.get("type").and_then(Value::as_str) {
                Some("array") => Ok(Shape::Many(part("items")?)),
                Some("map") => Ok(Shape::Named(part("values")?)),
                Some("fixed") => {
                    let size = schema.get("size").and_then(Value::as_u64);
                    let size = size.and_then(|size| usize::try_from(size).ok());
                    size.map(Shape::Fixed)
                        .ok_or(Unreadable("a type lacks its size"))
                }
                Some("record") => {
                    let fields = schema.get("fields").and_then(Value::as_array);
                    let fields = fields.ok_or(Unreadable("a record lacks its fields"))?;
                    let field = |field: &Value| {
                        let name = field.get("name").and_then(Value::as_str);
                        let of = field.get("type");
                        let of = of.ok_or(Unreadable("a field lacks its type"))?;
                        Shape::of(of, name.unwrap_or_default(), depth + 1)
                    };
                    let fields: Result<_, _> = fields.iter().map(field).collect();
                    Ok(Shape::Record(fields?))
                }
                // A type with a name for what it means.
                Some(_) => {
                    let of = schema
                        .get("type")
                        .ok_or(Unreadable("a type lacks a part"))?;
                    Shape::of(of, name, depth + 1)
                }
                None => match schema.get("type") {
                    Some(of) => Shape::of(of, name, depth + 1),
                    None => Err(Unreadable("a type is unknown")),
                },
            };
        };
        match kind {
            "null" => Ok(Shape::Null),
            "int" | "long" => Ok(Shape::Long),
            "boolean" => Ok(Shape::Fixed(1)),
            "float" => Ok(Shape::Fixed(4)),
            "double" => Ok(Shape::Fixed(8)),
            "string" if matches!(name, "file_path" | "manifest_path") => Ok(Shape::Path),
            "string" | "bytes" => Ok(Shape::Bytes),
            _ => Err(Unreadable("a type is unknown")),
        }
    }
}

/// Where in a file one is.
struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

const CUT_OFF: Unreadable = Unreadable("it is cut off");

impl<'a> Cursor<'a> {
    fn rest(&self) -> usize {
        self.file.len() - self.at
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Unreadable> {
        let end = self.at.checked_add(len).ok_or(CUT_OFF)?;
        let taken = self.file.get(self.at..end).ok_or(CUT_OFF)?;
        self.at = end;
        Ok(taken)
    }

    fn long(&mut self) -> Result<i64, Unreadable> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(CUT_OFF)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Unreadable("a number is too long"))
    }

    fn len(&mut self) -> Result<usize, Unreadable> {
        let len = usize::try_from(self.long()?).map_err(|_| Unreadable("a length is negative"))?;
        if len > self.rest() {
            return Err(CUT_OFF);
        }
        Ok(len)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let len = self.len()?;
        self.take(len)
    }

    /// How many items the next block of an array or a map has.
    fn items(&mut self) -> Result<usize, Unreadable> {
        let count = self.long()?;
        if count < 0 {
            // Its length in bytes follows, for who wants to skip it.
            self.long()?;
        }
        let count = usize::try_from(count.unsigned_abs()).map_err(|_| CUT_OFF)?;
        if count > self.rest() {
            return Err(CUT_OFF);
        }
        Ok(count)
    }

    /// Passes over as many values. Each has a byte at least: of others there could be any number in a few bytes.
    fn pass_all(
        &mut self,
        count: usize,
        shape: &Shape,
        paths: &mut Vec<Range<usize>>,
    ) -> Result<(), Unreadable> {
        for _ in 0..count {
            let at = self.at;
            self.pass(shape, paths)?;
            if self.at == at {
                return Err(Unreadable("there are values without bytes"));
            }
        }
        Ok(())
    }

    /// Passes over a value, noting where paths are.
    fn pass(&mut self, shape: &Shape, paths: &mut Vec<Range<usize>>) -> Result<(), Unreadable> {
        match shape {
            Shape::Null => {}
            Shape::Long => drop(self.long()?),
            Shape::Bytes => drop(self.bytes()?),
            Shape::Fixed(len) => drop(self.take(*len)?),
            Shape::Path => {
                let len = self.len()?;
                paths.push(self.at..self.at + len);
                self.take(len)?;
            }
            Shape::Many(item) => loop {
                let count = self.items()?;
                if count == 0 {
                    break;
                }
                self.pass_all(count, item, paths)?;
            },
            Shape::Named(item) => loop {
                let count = self.items()?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    self.bytes()?;
                    self.pass(item, paths)?;
                }
            },
            Shape::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok();
                let branch = branch.and_then(|branch| branches.get(branch));
                self.pass(branch.ok_or(Unreadable("a branch is unknown"))?, paths)?;
            }
            Shape::Record(fields) => {
                for field in fields {
                    self.pass(field, paths)?;
                }
            }
        }
        Ok(())
    }
}

/// Where in a file of Avro the paths of other files begin.
fn find_paths(file: &[u8], paths: &mut Vec<Range<usize>>) -> Result<(), Unreadable> {
    let mut cursor = Cursor { file, at: 0 };
    if cursor.take(MAGIC.len())? != MAGIC {
        return Err(Unreadable("it is not Avro"));
    }
    let (mut schema, mut codec) = (None, None);
    loop {
        let count = cursor.items()?;
        if count == 0 {
            break;
        }
        for _ in 0..count {
            let (name, value) = (cursor.bytes()?, cursor.bytes()?);
            match name {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => codec = Some(value),
                _ => {}
            }
        }
    }
    if !matches!(codec, None | Some(b"null")) {
        return Err(Unreadable("it is compressed"));
    }
    let schema = schema.and_then(|schema| serde_json::from_slice(schema).ok());
    let schema: Value = schema.ok_or(Unreadable("its schema is missing"))?;
    let shape = Shape::of(&schema, "", 0)?;
    let sync = cursor.take(SYNC)?;
    while cursor.rest() > 0 {
        let count = cursor.len()?;
        let len = cursor.len()?;
        let end = cursor.at + len;
        cursor.pass_all(count, &shape, paths)?;
        if cursor.at != end || cursor.take(SYNC)? != sync {
            return Err(Unreadable("a block does not end where it should"));
        }
    }
    Ok(())
}
