use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn joined(parts: &[Bytes]) -> Bytes {
    parts.concat().into()
}

fn object(kind: ObjectKind, head: &[u8], data: &[&[u8]], tail: &[u8]) -> Bytes {
    let mut builder = ObjectBuilder::new(kind);
    for part in data {
        builder.push(Bytes::copy_from_slice(part));
    }
    joined(&builder.finish(head, tail).unwrap())
}

/// A sound object with some header bytes replaced and the header's checksum made right again.
fn with_header(object: &[u8], at: usize, bytes: &[u8]) -> Bytes {
    let mut object = object.to_vec();
    object[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&object[..36]);
    object[36..40].copy_from_slice(&crc.to_le_bytes());
    object.into()
}

/// One object of each kind as version 1 was written. These files never change.
const VERSION_1: [(ObjectKind, &[u8]); 5] = [
    (
        ObjectKind::Commit,
        include_bytes!("../../tests/fixtures/formats/commit.1"),
    ),
    (
        ObjectKind::Snapshot,
        include_bytes!("../../tests/fixtures/formats/snapshot.1"),
    ),
    (
        ObjectKind::Segment,
        include_bytes!("../../tests/fixtures/formats/segment.1"),
    ),
    (
        ObjectKind::Boundary,
        include_bytes!("../../tests/fixtures/formats/boundary.1"),
    ),
    (
        ObjectKind::Compacted,
        include_bytes!("../../tests/fixtures/formats/compacted.1"),
    ),
];

#[test]
fn version_1_of_every_kind_is_read_for_ever() {
    for (kind, fixture) in VERSION_1 {
        let found = Object::decode_as("fixture", kind, &Bytes::from_static(fixture)).unwrap();
        assert_eq!((found.header.kind(), found.header.version()), (kind, 1));
        assert_eq!(found.header.object_len(), fixture.len() as u64);
        if !matches!(kind, ObjectKind::Segment | ObjectKind::Compacted) {
            assert_eq!(found.head, format!("the head of a {kind}"));
            assert_eq!(found.data, format!("the data of a {kind}"));
            assert_eq!(found.tail, "");
        }
    }
}

#[test]
fn the_head_of_a_commit_is_read_without_its_data() {
    let whole = object(ObjectKind::Commit, b"ops", &[b"message bytes"], b"");
    let prefix = whole.slice(..43);
    let found = ObjectHead::decode("manifest/log/1", ObjectKind::Commit, &prefix).unwrap();
    assert_eq!(found.head, "ops");
    assert_eq!(found.header.data_range(), 43..56);
    assert_eq!(&whole[43..56], b"message bytes");
    let short = whole.slice(..42);
    let error = ObjectHead::decode("manifest/log/1", ObjectKind::Commit, &short).unwrap_err();
    assert_eq!(
        error.to_string(),
        "manifest/log/1: truncated in the head: 42 of 43 bytes"
    );
}

#[test]
fn parts_of_the_data_are_not_copied_and_their_ranges_are_right() {
    let parts = [
        Bytes::from(vec![1; 1000]),
        Bytes::new(),
        Bytes::from(vec![2; 500]),
    ];
    let mut builder = ObjectBuilder::new(ObjectKind::Commit);
    let ranges: Vec<_> = parts
        .iter()
        .map(|part| builder.push(part.clone()))
        .collect();
    assert_eq!(ranges, [0..1000, 1000..1000, 1000..1500]);
    let written = builder.finish(b"a head", b"a tail").unwrap();
    assert_eq!(written[1].as_ptr(), parts[0].as_ptr());
    assert_eq!(written[2].as_ptr(), parts[2].as_ptr());
    let whole = joined(&written);
    let header = ObjectHeader::parse("x", &whole).unwrap();
    let at = header.locate(&ranges[2]).unwrap();
    assert_eq!(whole[at.start as usize..at.end as usize], parts[2]);
    assert_eq!(header.locate(&(1400..1501)), None);
}

#[test]
fn every_fault_has_its_own_error_that_names_the_object() {
    let sound = object(ObjectKind::Commit, b"head", &[b"data"], b"tail");
    let read = |bytes: &Bytes| {
        Object::decode_as("manifest/log/7.commit", ObjectKind::Commit, bytes)
            .unwrap_err()
            .to_string()
    };
    let flipped = |at: usize| {
        let mut bytes = sound.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let longer = Bytes::from([&sound[..], b"!"].concat());
    let table = [
        (Bytes::from_static(b"<html>"), "not an object of Weir"),
        (
            with_header(&sound, 4, &[9]),
            "unknown object kind 9: a newer version of Weir wrote it",
        ),
        (
            with_header(&sound, 4, &[2, 0, 1, 0]),
            "found a snapshot, expected a commit",
        ),
        (
            with_header(&sound, 6, &[7, 0]),
            "version 7 of the commit format, but this node reads 1 to 6",
        ),
        (
            with_header(&sound, 6, &[0, 0]),
            "version 0 of the commit format",
        ),
        (with_header(&sound, 5, &[4]), "unknown flags 0x04"),
        (
            with_header(&sound, 8, &[255; 4]),
            "the head has 4294967295 bytes; the limit is 67108864",
        ),
        (
            with_header(&sound, 16, &[255; 4]),
            "the tail has 4294967295 bytes",
        ),
        (
            with_header(&sound, 24, &[255; 8]),
            "the data has 18446744073709551615 bytes",
        ),
        (flipped(10), "the header is corrupt"),
        (flipped(41), "the head is corrupt"),
        (flipped(45), "the data is corrupt"),
        (flipped(49), "the tail is corrupt"),
        (sound.slice(..0), "truncated in the header: 0 of 40 bytes"),
        (sound.slice(..39), "truncated in the header: 39 of 40 bytes"),
        (sound.slice(..51), "truncated in the tail: 51 of 52 bytes"),
        (longer, "53 bytes, expected 52"),
    ];
    for (bytes, expected) in table {
        let found = read(&bytes);
        assert!(found.contains(expected), "{found}\nshould say: {expected}");
        assert!(found.starts_with("manifest/log/7.commit: "), "{found}");
    }
}

#[test]
fn a_section_that_is_too_long_is_not_written() {
    let head = vec![0; (MAX_HEAD_LEN + 1) as usize];
    let error = ObjectBuilder::new(ObjectKind::Commit)
        .finish(&head, b"")
        .unwrap_err();
    assert!(
        matches!(
            error,
            FormatError::TooLong {
                section: Section::Head,
                ..
            }
        ),
        "{error}"
    );
    let error = ObjectBuilder::new(ObjectKind::Segment)
        .finish(b"", &head)
        .unwrap_err();
    assert!(
        matches!(
            error,
            FormatError::TooLong {
                section: Section::Tail,
                ..
            }
        ),
        "{error}"
    );
}

fn any_kind() -> impl Strategy<Value = ObjectKind> {
    prop::sample::select(ObjectKind::ALL.to_vec())
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        kind in any_kind(), head in blob(), data in prop::collection::vec(blob(), 0..4), tail in blob(),
    ) {
        let parts: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let found = Object::decode_as("x", kind, &object(kind, &head, &parts, &tail)).unwrap();
        prop_assert_eq!(&found.head[..], &head[..]);
        prop_assert_eq!(&found.data[..], &data.concat()[..]);
        prop_assert_eq!(&found.tail[..], &tail[..]);
    }

    #[test]
    fn a_truncated_or_flipped_object_is_never_read(
        kind in any_kind(), head in blob(), data in blob(), tail in blob(), at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let sound = object(kind, &head, &[&data], &tail);
        for cut in 0..sound.len() {
            prop_assert!(Object::decode("x", &sound.slice(..cut)).is_err());
        }
        let mut flipped = sound.to_vec();
        flipped[at.index(sound.len())] ^= 1 << bit;
        prop_assert!(Object::decode("x", &flipped.into()).is_err());
    }

    #[test]
    fn garbage_is_refused_without_a_panic(garbage in prop::collection::vec(any::<u8>(), 0..100)) {
        let framed = [b"WEIR", &garbage[..]].concat();
        for bytes in [garbage, framed.clone()] {
            prop_assert!(Object::decode("x", &bytes.into()).is_err());
        }
        if framed.len() >= 40 {
            // The checksum is right, so that the fields are believed.
            let _ = Object::decode("x", &with_header(&framed, 0, b"WEIR"));
            let _ = Object::decode("x", &with_header(&framed, 4, &[3, 0, 1, 0]));
        }
    }
}
