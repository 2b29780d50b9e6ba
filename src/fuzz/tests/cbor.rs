//! Mutations that leave CBOR well-formed, or break it at one length: most bytes of a commit are heads of items, and a
//! byte changed by chance is refused at the first of them.

use super::chance::Chance;
use super::mutate::HOSTILE;

/// One item: a number, a text, an array with all that is in it.
#[derive(Clone, Copy, Debug)]
struct Item {
    start: usize,
    /// Where its head ends: its type and its number.
    head: usize,
    end: usize,
    major: u8,
    number: u64,
    /// The array or map that it is in.
    parent: Option<usize>,
}

/// Changes one thing. Bytes that are no CBOR are left alone.
pub(super) fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut Chance) {
    let items = parse(input);
    if items.is_empty() {
        return;
    }
    let mut item = *chance.of(&items);
    // Numbers are what the rules of the fold compute with.
    for _ in 0..2 {
        if item.major > 1 {
            item = *chance.of(&items);
        }
    }
    match chance.below(8) {
        0..=2 => number(input, item, chance),
        // A length that lies.
        3 => {
            let lie = *chance.of(HOSTILE);
            let lie = head(item.major, lie);
            input.splice(item.start..item.head, lie);
        }
        // Something else in its place, of this input or another.
        4 => {
            let other = chance.of(corpus);
            let found = parse(other);
            if let Some(there) = (!found.is_empty()).then(|| *chance.of(&found)) {
                let bytes = other[there.start..there.end].to_vec();
                input.splice(item.start..item.end, bytes);
            }
        }
        5 => {
            input.splice(item.start..item.end, [0xf6]);
        }
        6 => resize(input, &items, item, true),
        _ => resize(input, &items, item, false),
    }
}

/// Another number in the place of one.
fn number(input: &mut Vec<u8>, item: Item, chance: &mut Chance) {
    if item.major > 1 {
        return;
    }
    let (mut major, mut number) = (item.major, item.number);
    match chance.below(4) {
        0 => number = number.wrapping_add(1),
        1 => number = number.wrapping_sub(1),
        2 => number = chance.below(8) as u64,
        _ => {
            number = *chance.of(HOSTILE);
            major = u8::from(chance.once_in(3));
        }
    }
    input.splice(item.start..item.head, head(major, number));
}

/// An element of an array once more, or once less; of a map only the whole map's first pair and key can be.
fn resize(input: &mut Vec<u8>, items: &[Item], item: Item, more: bool) {
    let Some(parent) = item.parent.and_then(|parent| items.get(parent)) else {
        return;
    };
    if parent.major != 4 {
        return;
    }
    let count = if more {
        let again = input[item.start..item.end].to_vec();
        input.splice(item.end..item.end, again);
        parent.number + 1
    } else {
        input.drain(item.start..item.end);
        parent.number.saturating_sub(1)
    };
    input.splice(parent.start..parent.head, head(4, count));
}

/// The head of an item, as short as it can be.
fn head(major: u8, number: u64) -> Vec<u8> {
    let first = |info: u8| major << 5 | info;
    let bytes = number.to_be_bytes();
    match number {
        0..24 => vec![first(number as u8)],
        24..0x100 => vec![first(24), bytes[7]],
        0x100..0x1_0000 => [&[first(25)], &bytes[6..]].concat(),
        0x1_0000..0x1_0000_0000 => [&[first(26)], &bytes[4..]].concat(),
        _ => [&[first(27)], &bytes[..]].concat(),
    }
}

/// All items in order, each before what is in it; as far as the bytes are CBOR of definite lengths.
fn parse(bytes: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    parse_one(bytes, 0, None, 0, &mut items);
    items
}

fn parse_one(
    bytes: &[u8],
    start: usize,
    parent: Option<usize>,
    depth: usize,
    items: &mut Vec<Item>,
) -> Option<usize> {
    let first = *bytes.get(start)?;
    let (major, info) = (first >> 5, first & 31);
    let width = match info {
        0..24 => 0,
        24..28 => 1 << (info - 24),
        _ => return None,
    };
    let head = start + 1 + width;
    let wide = bytes.get(start + 1..head)?;
    let number = if width == 0 {
        u64::from(info)
    } else {
        wide.iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let index = items.len();
    let item = Item {
        start,
        head,
        end: head,
        major,
        number,
        parent,
    };
    items.push(item);
    let inside = match major {
        2 | 3 => {
            let end = head.checked_add(usize::try_from(number).ok()?)?;
            bytes.get(head..end)?;
            items[index].end = end;
            return Some(end);
        }
        4 => number,
        5 => number.checked_mul(2)?,
        6 => 1,
        _ => 0,
    };
    let mut at = head;
    for _ in 0..inside {
        if depth > 64 {
            return None;
        }
        match parse_one(bytes, at, Some(index), depth + 1, items) {
            Some(end) => at = end,
            None => {
                items.truncate(index);
                return None;
            }
        }
    }
    items[index].end = at;
    Some(at)
}

#[test]
fn items_are_found_with_what_is_in_them() {
    // [1, "ab", {-1: h'07'}]
    let bytes = [0x83, 0x01, 0x62, b'a', b'b', 0xa1, 0x20, 0x41, 0x07];
    let items = parse(&bytes);
    let found: Vec<_> = items
        .iter()
        .map(|item| (item.start, item.end, item.major, item.parent))
        .collect();
    assert_eq!(
        found,
        [
            (0, 9, 4, None),
            (1, 2, 0, Some(0)),
            (2, 5, 3, Some(0)),
            (5, 9, 5, Some(0)),
            (6, 7, 1, Some(3)),
            (7, 9, 2, Some(3)),
        ]
    );
    assert!(
        parse(&[0x82, 0x01]).is_empty(),
        "a torn array is not taken apart"
    );
}

#[test]
fn heads_are_as_short_as_they_can_be() {
    for (number, length) in [
        (0, 1),
        (23, 1),
        (24, 2),
        (255, 2),
        (256, 3),
        (65_536, 5),
        (1 << 32, 9),
    ] {
        let head = head(4, number);
        assert_eq!(head.len(), length);
        let mut decoder = minicbor::Decoder::new(&head);
        assert_eq!(decoder.array().unwrap(), Some(number));
    }
}

#[test]
fn an_element_more_or_less_leaves_it_well_formed() {
    let whole = vec![0x83, 0x01, 0x82, 0x02, 0x03, 0x62, b'a', b'b'];
    let items = parse(&whole);
    for more in [true, false] {
        for item in &items {
            let mut bytes = whole.clone();
            resize(&mut bytes, &items, *item, more);
            assert_eq!(
                parse(&bytes).first().map(|whole| whole.end),
                Some(bytes.len())
            );
        }
    }
}
