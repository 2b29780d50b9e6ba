//! Avro object container files, as much of it as manifests need, with the same bytes for the same content.

/// How a file of Avro begins.
const MAGIC: &[u8; 4] = b"Obj\x01";

/// What ends each block. It need not be random: it only must be the same in the whole file.
const SYNC: &[u8; 16] = b"weir avro block.";

/// How many bytes of records make a block.
const BLOCK_BYTES: usize = 64 << 10;

/// Values in Avro's binary encoding.
#[derive(Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    pub(super) fn long(&mut self, value: i64) -> &mut Encoder {
        // Zigzag, then seven bits at a time, the least first.
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest >= 0x80 {
            self.0.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    pub(super) fn int(&mut self, value: i32) -> &mut Encoder {
        self.long(value.into())
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Encoder {
        // No slice is longer than an `i64` can say.
        self.long(i64::try_from(value.len()).unwrap_or(i64::MAX));
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn string(&mut self, value: &str) -> &mut Encoder {
        self.bytes(value.as_bytes())
    }

    pub(super) fn boolean(&mut self, value: bool) -> &mut Encoder {
        self.0.push(u8::from(value));
        self
    }

    /// The null of a union whose first branch is null.
    pub(super) fn null(&mut self) -> &mut Encoder {
        self.long(0)
    }

    /// What follows is the value of a union whose first branch is null.
    pub(super) fn some(&mut self) -> &mut Encoder {
        self.long(1)
    }

    /// All of an array, each element by `encode`.
    pub(super) fn array<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut encode: impl FnMut(&mut Encoder, T),
    ) -> &mut Encoder {
        if items.len() > 0 {
            self.long(i64::try_from(items.len()).unwrap_or(i64::MAX));
            for item in items {
                encode(self, item);
            }
        }
        self.long(0)
    }
}

/// A file whose records are of `schema`, with `metadata` in its header.
pub(super) fn file(
    schema: &str,
    metadata: &[(&str, String)],
    records: impl Iterator<Item = Encoder>,
) -> Vec<u8> {
    let mut header = Encoder(MAGIC.to_vec());
    let own = [
        ("avro.schema", schema.to_owned()),
        ("avro.codec", "null".to_owned()),
    ];
    header.array(
        own.iter().chain(metadata).collect::<Vec<_>>().into_iter(),
        |header, (key, value)| {
            header.string(key).string(value);
        },
    );
    let mut file = header.0;
    file.extend_from_slice(SYNC);
    let (mut count, mut block) = (0i64, Vec::new());
    for record in records {
        block.extend_from_slice(&record.0);
        count += 1;
        if block.len() >= BLOCK_BYTES {
            end_block(&mut file, &mut count, &mut block);
        }
    }
    if count > 0 {
        end_block(&mut file, &mut count, &mut block);
    }
    file
}

fn end_block(file: &mut Vec<u8>, count: &mut i64, block: &mut Vec<u8>) {
    let mut encoder = Encoder(std::mem::take(file));
    encoder.long(*count).bytes(block);
    encoder.0.extend_from_slice(SYNC);
    *file = encoder.0;
    (*count, _) = (0, block.clear());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zigzag_varints() {
        for (value, bytes) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (64, &[0x80, 1]),
            (-65, &[0x81, 1]),
            (
                i64::MAX,
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            ),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            ),
        ] {
            let mut encoder = Encoder::default();
            encoder.long(value);
            assert_eq!(encoder.0, bytes, "{value}");
        }
    }
}
