//! The compression codecs of a batch.

use std::fmt;
use std::io::{self, Read, Write};

use super::BatchError;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// gzip (RFC 1952), also of several members.
    Gzip,
    /// Snappy blocks, in snappy-java's framing or a single bare block: both are in use. Written
    /// with the framing.
    Snappy,
    /// The LZ4 frame format, with independent blocks when written.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    /// The codec's number in the attributes of a batch.
    pub const fn id(self) -> u8 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// The codec of a number.
    pub fn from_id(id: u8) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.id() == id)
    }

    /// The codec's name, as in Kafka's `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// Compresses the records of a batch.
    pub(crate) fn compress(self, records: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Codec::None => Ok(records),
            _ => self.encode(None, &mut &records[..], Vec::new()),
        }
    }

    /// Compresses what `records` reads into `out`, piece by piece. A level that the codec does not have is its default.
    pub(super) fn encode<W: Write>(
        self,
        level: Option<i32>,
        records: &mut dyn Read,
        mut out: W,
    ) -> io::Result<W> {
        match self {
            Codec::None => {
                io::copy(records, &mut out)?;
                Ok(out)
            }
            Codec::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok());
                let level = level.filter(|level| (1..=9).contains(level));
                let level = level.map_or_else(flate2::Compression::default, |level| {
                    flate2::Compression::new(level)
                });
                let mut encoder = flate2::write::GzEncoder::new(out, level);
                io::copy(records, &mut encoder)?;
                encoder.finish()
            }
            Codec::Snappy => snappy_java(records, out),
            Codec::Lz4 => {
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_mode(lz4_flex::frame::BlockMode::Independent)
                    .block_size(lz4_flex::frame::BlockSize::Max64KB);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
                io::copy(records, &mut encoder)?;
                encoder.finish().map_err(io::Error::other)
            }
            Codec::Zstd => {
                // Asked for more, zstd takes its highest: a hundred times slower, with windows of 128 MiB.
                let level = level.filter(|level| zstd::compression_level_range().contains(level));
                let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
                let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
                io::copy(records, &mut encoder)?;
                encoder.finish()
            }
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Reads what compressed records decompress to. Its memory is bounded by the codec's window (for
/// zstd at most 128 MiB, of which no more is touched than is read), whatever the input claims.
pub(super) enum Decompressor<'a> {
    Gzip(Box<flate2::bufread::MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyReader<'a>),
    Lz4(Box<lz4_flex::frame::FrameDecoder<&'a [u8]>>),
    Zstd(zstd::stream::read::Decoder<'static, &'a [u8]>),
}

impl<'a> Decompressor<'a> {
    /// A reader of `compressed`, or `None` when the codec is none.
    pub(super) fn new(
        codec: Codec,
        compressed: &'a [u8],
    ) -> Result<Option<Decompressor<'a>>, BatchError> {
        let malformed = |e: io::Error| BatchError::Decompress {
            codec,
            reason: e.to_string(),
        };
        Ok(Some(match codec {
            Codec::None => return Ok(None),
            Codec::Gzip => {
                Decompressor::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(compressed)))
            }
            Codec::Snappy => Decompressor::Snappy(SnappyReader::new(compressed)),
            Codec::Lz4 => {
                if !compressed.starts_with(&LZ4_FRAME_MAGIC) {
                    return Err(malformed(bad("not an LZ4 frame")));
                }
                let decoder = lz4_flex::frame::FrameDecoder::new(compressed);
                Decompressor::Lz4(Box::new(decoder))
            }
            Codec::Zstd => {
                let decoder =
                    zstd::stream::read::Decoder::with_buffer(compressed).map_err(malformed)?;
                Decompressor::Zstd(decoder)
            }
        }))
    }
}

impl Read for Decompressor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Decompressor::Gzip(reader) => reader.read(buf),
            Decompressor::Snappy(reader) => reader.read(buf),
            Decompressor::Lz4(reader) => reader.read(buf),
            Decompressor::Zstd(reader) => reader.read(buf),
        }
    }
}

const LZ4_FRAME_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();

/// snappy-java's stream header: magic, version 1, compatible with version 1.
const SNAPPY_JAVA: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const SNAPPY_JAVA_MAGIC: usize = 8;
const SNAPPY_JAVA_BLOCK: usize = 32 << 10;

/// No Snappy block grows more than this: its densest element is 64 bytes out of 3.
const SNAPPY_MAX_GROWTH: usize = 22;

fn snappy_java<W: Write>(records: &mut dyn Read, mut out: W) -> io::Result<W> {
    let mut encoder = snap::raw::Encoder::new();
    out.write_all(&SNAPPY_JAVA)?;
    let mut block = Vec::with_capacity(SNAPPY_JAVA_BLOCK);
    loop {
        block.clear();
        (&mut *records)
            .take(SNAPPY_JAVA_BLOCK as u64)
            .read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(out);
        }
        let compressed = encoder.compress_vec(&block).map_err(io::Error::other)?;
        let length = u32::try_from(compressed.len()).map_err(io::Error::other)?;
        out.write_all(&length.to_be_bytes())?;
        out.write_all(&compressed)?;
    }
}

/// Reads Snappy blocks one at a time.
pub(super) struct SnappyReader<'a> {
    /// What is not yet read; the stream header is gone.
    rest: &'a [u8],
    /// Whether blocks have lengths before them; else `rest` is one block.
    framed: bool,
    /// The current block, decompressed.
    block: Vec<u8>,
    /// How much of it was handed out.
    at: usize,
}

impl<'a> SnappyReader<'a> {
    fn new(compressed: &'a [u8]) -> SnappyReader<'a> {
        let framed = compressed.starts_with(&SNAPPY_JAVA[..SNAPPY_JAVA_MAGIC]);
        let header = if framed { SNAPPY_JAVA.len() } else { 0 };
        let rest = compressed.get(header..).unwrap_or_default();
        SnappyReader {
            rest,
            framed,
            block: Vec::new(),
            at: 0,
        }
    }

    /// Decompresses the next block; false at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        if self.rest.is_empty() {
            return Ok(false);
        }
        let block = if self.framed {
            let (length, rest) = self
                .rest
                .split_first_chunk::<4>()
                .ok_or_else(|| bad("truncated block length"))?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
            let (block, rest) = rest
                .split_at_checked(length)
                .ok_or_else(|| bad("truncated block"))?;
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let length = snap::raw::decompress_len(block).map_err(io::Error::other)?;
        if length > block.len().saturating_mul(SNAPPY_MAX_GROWTH) {
            return Err(bad("a block that claims more than Snappy can compress"));
        }
        self.block.clear();
        self.block.resize(length, 0);
        self.at = 0;
        snap::raw::Decoder::new()
            .decompress(block, &mut self.block)
            .map_err(io::Error::other)?;
        Ok(true)
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let ready = self.block.get(self.at..).unwrap_or_default();
            if !ready.is_empty() {
                let n = ready.len().min(buf.len());
                buf[..n].copy_from_slice(&ready[..n]);
                self.at += n;
                return Ok(n);
            }
            if !self.next_block()? {
                return Ok(0);
            }
        }
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
