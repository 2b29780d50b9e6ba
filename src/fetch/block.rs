//! What the caches hold for an extent: its bytes, in pieces.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::extents::BLOCK;

/// The bytes of an extent, as pieces that follow one another. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Block(Pieces);

#[derive(Clone, Debug)]
enum Pieces {
    One(Bytes),
    Several(Arc<[Bytes]>),
}

impl Block {
    fn of(mut pieces: Vec<Bytes>) -> Block {
        Block(match (pieces.len(), pieces.pop()) {
            (1, Some(only)) => Pieces::One(only),
            (_, last) => Pieces::Several(pieces.into_iter().chain(last).collect()),
        })
    }

    /// Its pieces, in order.
    pub fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Pieces::One(bytes) => std::slice::from_ref(bytes),
            Pieces::Several(pieces) => pieces,
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What one piece has of the bytes from `from` to `to`: the first of them, unless there are none.
    pub(super) fn part(&self, mut from: usize, mut to: usize) -> Bytes {
        for piece in self.pieces() {
            if from < piece.len() {
                return piece.slice(from..to.clamp(from, piece.len()));
            }
            from -= piece.len();
            to = to.saturating_sub(piece.len());
        }
        Bytes::new()
    }

    /// All its bytes as one. They are copied if they are several pieces.
    pub(super) fn into_bytes(self) -> Bytes {
        match self.0 {
            Pieces::One(bytes) => bytes,
            Pieces::Several(pieces) => pieces.concat().into(),
        }
    }
}

impl From<Bytes> for Block {
    fn from(bytes: Bytes) -> Block {
        Block(Pieces::One(bytes))
    }
}

/// Cuts the parts of an object into blocks. Parts of at least `shared` bytes stay where they are, and must be nearly
/// all of the memory that they keep; shorter ones are copied into memory of their own. So what the cache counts is what
/// it holds.
pub fn split(parts: &[Bytes], shared: usize) -> Vec<Block> {
    let mut left: usize = parts.iter().map(Bytes::len).sum();
    let mut blocks = Vec::with_capacity(left.div_ceil(BLOCK as usize));
    let mut block = Cut::new(left);
    for part in parts {
        let mut rest = part.clone();
        while !rest.is_empty() {
            let now = rest.split_to(rest.len().min(block.space));
            left -= now.len();
            block.push(now, part.len() >= shared);
            if block.space == 0 {
                blocks.push(std::mem::replace(&mut block, Cut::new(left)).finish());
            }
        }
    }
    if block.len > 0 {
        blocks.push(block.finish());
    }
    blocks
}

/// A block that is being filled.
struct Cut {
    pieces: Vec<Bytes>,
    copied: BytesMut,
    len: usize,
    space: usize,
}

impl Cut {
    /// A block of an object of which `left` bytes are left.
    fn new(left: usize) -> Cut {
        Cut {
            pieces: Vec::new(),
            copied: BytesMut::new(),
            len: 0,
            space: left.min(BLOCK as usize),
        }
    }

    fn push(&mut self, part: Bytes, shared: bool) {
        let len = part.len();
        if shared {
            self.seal();
            self.pieces.push(part);
        } else {
            if self.len == 0 {
                // Mostly all of a block is short parts, or all of it is long ones.
                self.copied.reserve(self.space);
            }
            self.copied.extend_from_slice(&part);
        }
        self.len += len;
        self.space -= len;
    }

    fn seal(&mut self) {
        if !self.copied.is_empty() {
            let copied = std::mem::take(&mut self.copied);
            let is_tight = copied.len() >= copied.capacity() / 2;
            self.pieces.push(match is_tight {
                true => copied.freeze(),
                false => Bytes::copy_from_slice(&copied),
            });
        }
    }

    fn finish(mut self) -> Block {
        self.seal();
        Block::of(self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = BLOCK as usize;

    fn parts(lengths: &[usize]) -> Vec<Bytes> {
        let numbered = (0u8..).zip(lengths);
        numbered.map(|(n, len)| vec![n; *len].into()).collect()
    }

    fn lies_in(piece: &Bytes, parts: &[Bytes]) -> bool {
        let within = |part: &&Bytes| part.as_ptr_range().contains(&piece.as_ptr());
        parts.iter().find(within).is_some()
    }

    #[test]
    fn blocks_are_cut_at_their_length_whatever_the_parts() {
        for lengths in [
            vec![],
            vec![0],
            vec![1],
            vec![MIB],
            vec![700_000; 5],
            vec![3_000_000, 5],
            vec![20, 600_000, 1, 3_000_000, 7, 0, 499_999, 500_000, 30],
        ] {
            let parts = parts(&lengths);
            for shared in [0, 500_000, usize::MAX] {
                let blocks = split(&parts, shared);
                let (last, full) = match blocks.split_last() {
                    Some((last, full)) => (last.len(), full),
                    None => (1, &[][..]),
                };
                assert!(full.iter().all(|block| block.len() == MIB));
                assert!((1..=MIB).contains(&last));
                let pieces: Vec<_> = blocks.iter().flat_map(Block::pieces).cloned().collect();
                assert!(pieces.iter().all(|piece| !piece.is_empty()));
                assert_eq!(pieces.concat(), parts.concat());
            }
        }
    }

    #[test]
    fn only_what_is_long_stays_where_it_is() {
        let parts = parts(&[20, 600_000, 40, 40, 900_000, 499_999]);
        let blocks = split(&parts, 500_000);
        let seen = |block: &Block| {
            let pieces = block.pieces().iter();
            let seen = pieces.map(|piece| (piece.len(), lies_in(piece, &parts)));
            seen.collect::<Vec<_>>()
        };
        let first = MIB - 600_100;
        assert_eq!(
            seen(&blocks[0]),
            [(20, false), (600_000, true), (80, false), (first, true)]
        );
        assert_eq!(
            seen(&blocks[1]),
            [(900_000 - first, true), (499_999, false)]
        );
        let copied = split(&parts, usize::MAX);
        assert!(copied.iter().all(|block| block.pieces().len() == 1));
        assert!(!lies_in(&copied[0].pieces()[0], &parts));
    }

    #[test]
    fn a_part_of_a_block_is_of_one_piece() {
        let block = Block::of(parts(&[3, 2, 4]));
        assert_eq!((block.len(), block.is_empty()), (9, false));
        for (from, to, expected) in [
            (0, 9, &[0, 0, 0][..]),
            (1, 2, &[0]),
            (2, 3, &[0]),
            (3, 9, &[1, 1]),
            (4, 5, &[1]),
            (5, 100, &[2, 2, 2, 2]),
            (8, 9, &[2]),
            (9, 10, &[]),
            (4, 4, &[]),
        ] {
            assert_eq!(block.part(from, to), expected, "{from}..{to}");
        }
        assert_eq!(block.into_bytes(), [0, 0, 0, 1, 1, 2, 2, 2, 2][..]);
        assert!(Block::of(Vec::new()).is_empty());
    }
}
