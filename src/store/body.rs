//! The body of an answer: as one piece, or cut into pieces that have memory of their own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{GetResult, GetResultPayload};

use super::error::Cause;
use super::failure::{Judged, judge_io};
use super::file::blocking;

/// How the bytes of an answer are wanted.
#[derive(Clone, Copy)]
pub(super) enum Cut<'a> {
    /// As they come.
    Whole,
    /// In pieces of these lengths, each in memory of its own that it fills. What the object has less is missing from
    /// the last ones.
    Pieces(&'a [u64], Come<'a>),
}

/// Who hears of each piece as soon as it is there and whole, with its number.
pub(super) type Come<'a> = &'a (dyn Fn(usize, &Bytes) + Sync);

impl Cut<'_> {
    /// Reads the body. A body in pieces is moved once, from where the wire or the file has it to where it stays.
    pub(super) async fn read(self, result: GetResult) -> object_store::Result<Vec<Bytes>> {
        let Cut::Pieces(lens, come) = self else {
            return Ok(vec![result.bytes().await?]);
        };
        let range = result.range.clone();
        let mut pieces = Pieces::new(lens, range.end - range.start, come);
        match result.payload {
            GetResultPayload::File(file, _) => {
                let lens = pieces.wanted();
                let wanted = lens.clone();
                let found = blocking(move || from_file(file, &range, &wanted)).await?;
                // A file that is cut short while it is read ends within a piece.
                let pairs = found.iter().zip(lens);
                let whole = pairs.take_while(|(piece, len)| piece.len() == *len);
                for (number, (piece, _)) in whole.enumerate() {
                    come(number, piece);
                }
                Ok(found)
            }
            GetResultPayload::Stream(mut body) => {
                while let Some(bytes) = body.try_next().await? {
                    pieces.push(&bytes);
                }
                Ok(pieces.finish())
            }
        }
    }

    /// Cuts what is in memory anyway.
    pub(super) fn of(self, bytes: Bytes) -> Vec<Bytes> {
        let Cut::Pieces(lens, come) = self else {
            return vec![bytes];
        };
        let mut pieces = Pieces::new(lens, bytes.len() as u64, come);
        pieces.push(&bytes);
        pieces.finish()
    }
}

/// Pieces that are being filled.
struct Pieces<'a> {
    /// The lengths of those that are not begun, the next last.
    lens: Vec<usize>,
    current: Vec<u8>,
    /// What the current one still takes.
    space: usize,
    full: Vec<Bytes>,
    come: Come<'a>,
}

impl<'a> Pieces<'a> {
    /// Pieces of these lengths for a body of `body` bytes.
    fn new(lens: &[u64], mut body: u64, come: Come<'a>) -> Pieces<'a> {
        let mut wanted = Vec::with_capacity(lens.len());
        for len in lens {
            let len = (*len).min(body);
            body -= len;
            wanted.push(usize::try_from(len).unwrap_or(usize::MAX));
        }
        wanted.reverse();
        let full = Vec::with_capacity(wanted.len());
        let mut pieces = Pieces {
            lens: wanted,
            current: Vec::new(),
            space: 0,
            full,
            come,
        };
        pieces.begin();
        pieces
    }

    fn begin(&mut self) {
        self.space = self.lens.pop().unwrap_or(0);
        self.current = Vec::with_capacity(self.space);
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.space > 0 {
            let (now, later) = bytes.split_at(bytes.len().min(self.space));
            self.current.extend_from_slice(now);
            self.space -= now.len();
            bytes = later;
            if self.space == 0 {
                self.end();
                self.begin();
            }
        }
    }

    fn end(&mut self) {
        let piece = Bytes::from(std::mem::take(&mut self.current));
        (self.come)(self.full.len(), &piece);
        self.full.push(piece);
    }

    /// The lengths, if nothing was pushed yet.
    fn wanted(&self) -> Vec<usize> {
        let later = self.lens.iter().rev().copied();
        std::iter::once(self.space).chain(later).collect()
    }

    fn finish(mut self) -> Vec<Bytes> {
        // The body broke off: nobody is to take this for what was asked for.
        if !self.current.is_empty() {
            self.full.push(self.current.into());
        }
        self.full
    }
}

fn from_file(
    mut file: File,
    range: &Range<u64>,
    lens: &[usize],
) -> object_store::Result<Vec<Bytes>> {
    let failed = |error: std::io::Error| {
        let judged = Judged {
            verdict: judge_io(&error, true),
            cause: Cause::of(&error),
        };
        judged.wrap("file")
    };
    file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
    let mut pieces = Vec::with_capacity(lens.len());
    for len in lens.iter().copied().filter(|len| *len > 0) {
        let mut piece = Vec::with_capacity(len);
        // Into memory that nobody has cleared before, up to the piece's end or the file's.
        let mut part = (&mut file).take(len as u64);
        part.read_to_end(&mut piece).map_err(failed)?;
        pieces.push(Bytes::from(piece));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn pieces_have_the_lengths_that_were_asked_for_however_the_body_comes() {
        let body: Vec<u8> = (0..100u8).collect();
        for at_once in [1, 7, 30, 100] {
            for lens in [vec![100], vec![10, 90], vec![33, 33, 34], vec![60, 60, 60]] {
                let come = Mutex::new(Vec::new());
                let note =
                    |number, piece: &Bytes| come.lock().unwrap().push((number, piece.clone()));
                let mut pieces = Pieces::new(&lens, body.len() as u64, &note);
                for (pushed, part) in (at_once..).step_by(at_once).zip(body.chunks(at_once)) {
                    pieces.push(part);
                    let come: usize = come
                        .lock()
                        .unwrap()
                        .iter()
                        .map(|(_, piece)| piece.len())
                        .sum();
                    let longest = lens.iter().max().unwrap();
                    assert!(
                        come as u64 + longest > pushed.min(body.len()) as u64,
                        "none is kept back"
                    );
                }
                let pieces = pieces.finish();
                assert_eq!(pieces.concat(), body, "{lens:?} by {at_once}");
                let come = come.into_inner().unwrap();
                assert_eq!(come, pieces.iter().cloned().enumerate().collect::<Vec<_>>());
                for (piece, len) in pieces.iter().zip(&lens).take(pieces.len() - 1) {
                    assert_eq!(piece.len() as u64, *len);
                }
            }
        }
    }

    #[test]
    fn a_piece_that_broke_off_is_not_told_of() {
        let come = Mutex::new(Vec::new());
        let note = |number, _: &Bytes| come.lock().unwrap().push(number);
        let mut pieces = Pieces::new(&[4, 4], 7, &note);
        pieces.push(b"abcdef");
        assert_eq!(pieces.finish(), ["abcd", "ef"]);
        assert_eq!(*come.lock().unwrap(), [0]);
    }

    #[test]
    fn what_is_behind_the_last_piece_is_left_out() {
        let nobody = |_, _: &Bytes| ();
        let mut pieces = Pieces::new(&[2, 1], 3, &nobody);
        pieces.push(b"abcd");
        assert_eq!(pieces.finish(), ["ab", "c"]);
        assert!(Pieces::new(&[], 0, &nobody).finish().is_empty());
        assert!(Pieces::new(&[5, 5], 0, &nobody).finish().is_empty());
    }
}
