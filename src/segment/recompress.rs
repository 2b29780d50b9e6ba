//! A batch with its records in another codec, for topics whose `compression.type` is not the producer's choice.

use std::io::{self, Read, Write};

use bytes::Bytes;

use super::batch::crc_of;
use super::codec::Decompressor;
use super::walk::records_of;
use super::{Attributes, BATCH_HEADER_LEN, BatchError, BatchHeader, Codec};

/// The bytes of one batch, whose records were validated, with the records in `codec`. `level` is the codec's; one that
/// it does not have counts as its default.
///
/// Records go from one codec to the other piece by piece, and a batch that becomes longer than `max_batch_bytes` is
/// an error as soon as it does: memory is bounded by that.
pub fn recompress(
    batch: &[u8],
    codec: Codec,
    level: Option<i32>,
    max_batch_bytes: usize,
) -> Result<Bytes, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let from = header.attributes.codec()?;
    let stored = records_of(batch, &header)?;
    let mut out = Bounded {
        bytes: vec![0; BATCH_HEADER_LEN],
        most: max_batch_bytes,
        over: false,
    };
    let encoded = match Decompressor::new(from, stored)? {
        None => codec.encode(level, &mut &*stored, &mut out),
        Some(mut reader) => codec.encode(level, &mut reader as &mut dyn Read, &mut out),
    };
    let failed = encoded.err();
    if out.over {
        return Err(BatchError::TooLarge {
            size: out.bytes.len(),
            limit: max_batch_bytes,
        });
    }
    if let Some(error) = failed {
        let reason = error.to_string();
        return Err(BatchError::Compress { codec, reason });
    }
    let mut bytes = out.bytes;
    let codec = i16::from(codec.id());
    let mut new = BatchHeader {
        size: bytes.len(),
        attributes: Attributes(header.attributes.0 & !Attributes::CODEC_MASK | codec),
        ..header
    };
    let (head, records) = bytes.split_at_mut(BATCH_HEADER_LEN);
    new.crc = crc_of(&new.encode()?, records);
    head.copy_from_slice(&new.encode()?);
    Ok(Bytes::from(bytes))
}

/// Bytes in memory, and no more than so many.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        self.over |= self.bytes.len() + more.len() > self.most;
        if self.over {
            return Err(io::Error::other("more bytes than a batch may have"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
