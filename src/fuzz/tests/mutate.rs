//! From an input of the corpus to one that nobody meant.

use super::cbor;
use super::chance::Chance;
use crate::fuzz::Shape;

/// No input grows beyond this.
const MAX_INPUT: usize = 64 << 10;

/// Numbers at which lengths and sums go wrong.
pub(crate) const HOSTILE: &[u64] = &[
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    (1 << 20) - 1,
    1 << 24,
    0x7fff_fffe,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    (1 << 62) + 1,
    0x7fff_ffff_ffff_fffe,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

/// Words that mean something to somebody who reads text.
const WORDS: &[&str] = &[
    "://",
    "file",
    "s3",
    "gs",
    "az",
    "memory://",
    "/",
    "..",
    "./",
    "@",
    "?",
    "#",
    "%2f",
    "\0",
    "\n",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "[[",
    "=",
    ",",
    ":",
    "-1",
    "0",
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775808",
    "1e400",
    "nan",
    "99999999999999999999999999",
    "ns",
    "years",
    "ms",
    "GiB",
    "TiB",
    "MiB",
    "é",
    "\u{10ffff}",
    "\u{202e}",
    "kafka",
    "0.0.0.0",
    "[::]",
    ":65536",
    "off",
    "true",
    "1970-01-01",
    "manifest/log/",
    ".commit",
    "segments/",
    "commit_interval",
    "store",
    "\"\"\"",
    "\\u0000",
];

/// An input made out of one or two of `corpus`.
pub(super) fn mutate(shape: Shape, corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = chance.of(corpus).clone();
    // Often one change alone: several are soon nonsense.
    let times = if chance.once_in(2) {
        1
    } else {
        2 + chance.below(4)
    };
    for _ in 0..times {
        match shape {
            // Now and then bytes that are no CBOR, and words that are no text.
            Shape::Cbor if !chance.once_in(6) => cbor::mutate(&mut input, corpus, chance),
            Shape::Text if !chance.once_in(4) => words(&mut input, corpus, chance),
            _ => bytes(&mut input, corpus, chance),
        }
        input.truncate(MAX_INPUT);
    }
    input
}

fn bytes(input: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut Chance) {
    let len = input.len();
    let at = chance.below(len);
    match chance.below(12) {
        0 => input.truncate(at),
        1 => flip(input, at, 1 << chance.below(8)),
        2 => flip(input, at, chance.byte()),
        3 => {
            let until = (at + 1 + chance.below(16)).min(len);
            if at < until {
                input.drain(at..until);
            }
        }
        4 => {
            let until = (at + 1 + chance.below(64)).min(len);
            let again = input.get(at..until).unwrap_or_default().to_vec();
            insert(input, at, &again);
        }
        5 => {
            let noise: Vec<u8> = (0..1 + chance.below(9)).map(|_| chance.byte()).collect();
            insert(input, at, &noise);
        }
        6 => {
            let other = chance.of(corpus);
            let from = chance.below(other.len());
            input.truncate(at);
            input.extend_from_slice(other.get(from..).unwrap_or_default());
        }
        7 => varint(input, at, *chance.of(HOSTILE)),
        8 => {
            let add = chance.below(35) as u8;
            if let Some(byte) = input.get_mut(at) {
                *byte = byte.wrapping_add(add).wrapping_sub(17);
            }
        }
        _ => {
            let number = chance.of(HOSTILE).wrapping_add(chance.below(3) as u64);
            let width = *chance.of(&[1usize, 2, 4, 4, 8]);
            let big = number.to_be_bytes();
            let little = number.to_le_bytes();
            let bytes = if chance.once_in(2) {
                &big[8 - width..]
            } else {
                &little[..width]
            };
            overwrite(input, at, bytes);
        }
    }
}

fn words(input: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(input.len() + 1);
    match chance.below(4) {
        0 => insert(input, at, chance.of(WORDS).as_bytes()),
        1 => insert(input, at, &chance.of(corpus).clone()),
        2 => {
            let until = (at + 1 + chance.below(9)).min(input.len());
            if at < until {
                input.drain(at..until);
            }
            insert(input, at, chance.of(WORDS).as_bytes());
        }
        _ => {
            let times = 1 << chance.below(13);
            let word = chance.of(WORDS).repeat(times);
            insert(input, at, word.as_bytes());
        }
    }
}

/// A number as Kafka's and zigzag varints spell it, in the place of what is there.
fn varint(input: &mut Vec<u8>, at: usize, mut number: u64) {
    let mut spelt = Vec::new();
    while number >= 0x80 {
        spelt.push(number as u8 | 0x80);
        number >>= 7;
    }
    spelt.push(number as u8);
    if let Some(rest) = input.get(at..) {
        let old = rest.iter().take_while(|byte| **byte >= 0x80).count() + 1;
        let until = (at + old).min(input.len());
        input.splice(at..until, spelt);
    }
}

fn flip(input: &mut [u8], at: usize, bits: u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte ^= bits;
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let at = at.min(input.len());
    input.splice(at..at, bytes.iter().copied());
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    for (there, byte) in input.iter_mut().skip(at).zip(bytes) {
        *there = *byte;
    }
}
