//! Reading records one after the other, from memory or from a decompressor.
//!
//! ```text
//! record: length varint | attributes i8 | time stamp delta varlong | offset delta varint
//!         | key length varint, key | value length varint, value
//!         | header count varint, then per header: key length, key, value length, value
//! ```
//!
//! Varints are zigzag. A length of -1 is null, for keys, values and header values.

use std::io::Read;

use super::codec::Decompressor;
use super::{BatchError, BatchHeader, Codec, RecordFault};

/// How much a batch may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that compressed records may decompress to.
    pub max_uncompressed: usize,
}

/// Where records are read from.
pub(super) trait Source {
    /// A field of a record: its bytes, or nothing where they are only skipped.
    type Chunk;

    /// How many bytes were read.
    fn position(&self) -> u64;
    /// Reads a byte; `None` at the end.
    fn byte(&mut self) -> Result<Option<u8>, BatchError>;
    /// Reads `len` bytes; `None` when there are fewer.
    fn chunk(&mut self, len: u64) -> Result<Option<Self::Chunk>, BatchError>;
}

/// Records in memory; fields are slices of it.
#[derive(Debug, Clone)]
pub(super) struct SliceSource<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> SliceSource<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> SliceSource<'a> {
        SliceSource { bytes, at }
    }
}

impl<'a> Source for SliceSource<'a> {
    type Chunk = &'a [u8];

    fn position(&self) -> u64 {
        self.at as u64
    }

    fn byte(&mut self) -> Result<Option<u8>, BatchError> {
        let byte = self.bytes.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        Ok(byte)
    }

    fn chunk(&mut self, len: u64) -> Result<Option<&'a [u8]>, BatchError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let chunk = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        self.at += chunk.map_or(0, <[u8]>::len);
        Ok(chunk)
    }
}

const BUFFER: usize = 16 << 10;

/// Records out of a decompressor; fields are skipped, so that memory stays small however long the
/// records are.
pub(super) struct StreamSource<'a> {
    codec: Codec,
    reader: Decompressor<'a>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    position: u64,
    /// How many more bytes may come out of the decompressor.
    allowance: usize,
    limit: usize,
}

impl<'a> StreamSource<'a> {
    pub(super) fn new(codec: Codec, reader: Decompressor<'a>, limits: Limits) -> StreamSource<'a> {
        let limit = limits.max_uncompressed;
        StreamSource {
            codec,
            reader,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            position: 0,
            allowance: limit,
            limit,
        }
    }

    /// Refills the empty buffer; false at the end.
    fn fill(&mut self) -> Result<bool, BatchError> {
        let codec = self.codec;
        let n = self
            .reader
            .read(&mut self.buffer)
            .map_err(|e| BatchError::Decompress {
                codec,
                reason: e.to_string(),
            })?;
        (self.start, self.end) = (0, n);
        self.allowance = self.allowance.checked_sub(n).ok_or(BatchError::Bomb {
            codec,
            limit: self.limit,
        })?;
        Ok(n > 0)
    }
}

impl Source for StreamSource<'_> {
    type Chunk = ();

    fn position(&self) -> u64 {
        self.position
    }

    fn byte(&mut self) -> Result<Option<u8>, BatchError> {
        if self.start == self.end && !self.fill()? {
            return Ok(None);
        }
        let byte = self.buffer.get(self.start).copied();
        self.start += 1;
        self.position += 1;
        Ok(byte)
    }

    fn chunk(&mut self, len: u64) -> Result<Option<()>, BatchError> {
        let mut left = len;
        while left > 0 {
            if self.start == self.end && !self.fill()? {
                return Ok(None);
            }
            let ready = self.end - self.start;
            let n = usize::try_from(left).map_or(ready, |left| left.min(ready));
            self.start += n;
            self.position += n as u64;
            left -= n as u64;
        }
        Ok(Some(()))
    }
}

/// The fields of a record, as they are on the wire.
pub(super) struct RawRecord<C> {
    /// Where its attributes are: behind its length.
    pub(super) body_at: u64,
    pub(super) timestamp_delta: i64,
    /// Where what follows the time stamp delta begins.
    pub(super) rest_at: u64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<C>,
    pub(super) value: Option<C>,
}

/// Why a record could not be read: the record's own fault, or that of the batch around it.
pub(super) enum ReadError {
    Record(RecordFault),
    Batch(BatchError),
}

impl From<BatchError> for ReadError {
    fn from(error: BatchError) -> ReadError {
        ReadError::Batch(error)
    }
}

impl From<RecordFault> for ReadError {
    fn from(fault: RecordFault) -> ReadError {
        ReadError::Record(fault)
    }
}

impl ReadError {
    /// The error of the record at `index`.
    pub(super) fn at(self, index: i32) -> BatchError {
        match self {
            ReadError::Record(fault) => BatchError::Record { index, fault },
            ReadError::Batch(error) => error,
        }
    }
}

/// Reads one record; `header` gets each of its headers.
pub(super) fn read_record<S: Source>(
    source: &mut S,
    mut header: impl FnMut(S::Chunk, Option<S::Chunk>),
) -> Result<RawRecord<S::Chunk>, ReadError> {
    let length = varint(source)?;
    let Ok(declared) = u64::try_from(length) else {
        return Err(RecordFault::BadLength {
            field: "record length",
            length,
        }
        .into());
    };
    let mut body = Body {
        start: source.position(),
        declared,
        source,
    };
    body.source.byte()?.ok_or(RecordFault::Truncated)?; // attributes: none are defined
    let timestamp_delta = varlong(body.source)?;
    let rest_at = body.source.position();
    let offset_delta = varint(body.source)?;
    let key = body.nullable("key length")?;
    let value = body.nullable("value length")?;
    let length = varint(body.source)?;
    let Ok(headers) = u32::try_from(length) else {
        return Err(RecordFault::BadLength {
            field: "header count",
            length,
        }
        .into());
    };
    // Kafka refuses a number that cannot be before it reads the first, too. Each takes two bytes at least.
    if u64::from(headers) * 2 > declared.saturating_sub(body.taken()) {
        let field = "header count";
        return Err(RecordFault::BadLength { field, length }.into());
    }
    for _ in 0..headers {
        let length = varint(body.source)?;
        let field = "header key length";
        let len = u64::try_from(length).map_err(|_| RecordFault::BadLength { field, length })?;
        let key = body.chunk(len)?;
        let value = body.nullable("header value length")?;
        header(key, value);
    }
    let taken = body.taken();
    if taken != declared {
        return Err(RecordFault::LengthMismatch { declared, taken }.into());
    }
    Ok(RawRecord {
        body_at: body.start,
        timestamp_delta,
        rest_at,
        offset_delta,
        key,
        value,
    })
}

/// The inside of a record, whose length is known.
struct Body<'s, S> {
    source: &'s mut S,
    start: u64,
    declared: u64,
}

impl<S: Source> Body<'_, S> {
    fn taken(&self) -> u64 {
        self.source.position() - self.start
    }

    fn nullable(&mut self, field: &'static str) -> Result<Option<S::Chunk>, ReadError> {
        match varint(self.source)? {
            -1 => Ok(None),
            length => {
                let len =
                    u64::try_from(length).map_err(|_| RecordFault::BadLength { field, length })?;
                self.chunk(len).map(Some)
            }
        }
    }

    fn chunk(&mut self, len: u64) -> Result<S::Chunk, ReadError> {
        let taken = self.taken().saturating_add(len);
        let declared = self.declared;
        if taken > declared {
            return Err(RecordFault::LengthMismatch { declared, taken }.into());
        }
        Ok(self.source.chunk(len)?.ok_or(RecordFault::Truncated)?)
    }
}

/// Reads a zigzag varint of 32 bits.
fn varint<S: Source>(source: &mut S) -> Result<i32, ReadError> {
    let raw = unsigned(source, 5)?;
    let raw = u32::try_from(raw).map_err(|_| RecordFault::LongVarint)?;
    Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Reads a zigzag varint of 64 bits.
fn varlong<S: Source>(source: &mut S) -> Result<i64, ReadError> {
    let raw = unsigned(source, 10)?;
    Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

fn unsigned<S: Source>(source: &mut S, max_bytes: u32) -> Result<u64, ReadError> {
    let mut value = 0;
    for i in 0..max_bytes {
        let byte = source.byte()?.ok_or(RecordFault::Truncated)?;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * i);
        if shifted >> (7 * i) != bits {
            return Err(RecordFault::LongVarint.into());
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(RecordFault::LongVarint.into())
}

/// What a walk over the records of a batch shows of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The record's index in the batch.
    pub(super) index: i32,
    pub(super) offset_delta: i32,
    pub(super) timestamp_delta: i64,
    pub(super) has_key: bool,
}

/// Walks all records of `batch`, whose header is `header`, in little memory: checks that they are
/// well-formed, as many as the header says, and that nothing is left over. `each` may end the walk by
/// returning false. Returns how many bytes of records were read, decompressed.
pub(super) fn walk(
    batch: &[u8],
    header: &BatchHeader,
    limits: Limits,
    each: impl FnMut(Seen) -> Result<bool, BatchError>,
) -> Result<u64, BatchError> {
    let codec = header.attributes.codec()?;
    let records = records_of(batch, header)?;
    match Decompressor::new(codec, records)? {
        None => walk_source(SliceSource::new(records, 0), header, each),
        Some(reader) => walk_source(StreamSource::new(codec, reader, limits), header, each),
    }
}

fn walk_source<S: Source>(
    mut source: S,
    header: &BatchHeader,
    mut each: impl FnMut(Seen) -> Result<bool, BatchError>,
) -> Result<u64, BatchError> {
    for index in 0..header.record_count {
        let raw = read_record(&mut source, |_, _| ()).map_err(|e| e.at(index))?;
        let seen = Seen {
            index,
            offset_delta: raw.offset_delta,
            timestamp_delta: raw.timestamp_delta,
            has_key: raw.key.is_some(),
        };
        if !each(seen)? {
            return Ok(source.position());
        }
    }
    match source.byte()? {
        None => Ok(source.position()),
        Some(_) => Err(BatchError::LeftOver {
            record_count: header.record_count,
        }),
    }
}

/// The record bytes of a batch, compressed as they are.
pub(super) fn records_of<'a>(
    batch: &'a [u8],
    header: &BatchHeader,
) -> Result<&'a [u8], BatchError> {
    batch
        .get(super::BATCH_HEADER_LEN..header.size)
        .ok_or(BatchError::Truncated {
            needed: header.size,
            found: batch.len(),
        })
}
