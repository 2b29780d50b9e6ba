//! The table is held against the codec: it makes bodies, and the codec must read them to the end and
//! write the same bytes again.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::kafka::apis::{self, APIS, with_request_type};

use super::*;

fn find(api: ApiKey) -> &'static Api {
    apis::find(api as i16).unwrap()
}

fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<Verdict, Refused> {
    super::check(find(api), version, body)
}

/// Makes bodies out of shapes. Choices come from a list of bytes, so that proptest can shrink them.
pub(in crate::kafka) struct Maker<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    version: i16,
    flexible: bool,
    pub(in crate::kafka) out: Vec<u8>,
    /// The places of lengths, and how wide they are.
    lengths: Vec<(usize, usize)>,
}

impl<'a> Maker<'a> {
    pub(in crate::kafka) fn make(api: ApiKey, version: i16, choices: &'a [u8]) -> Maker<'a> {
        let api = find(api);
        let mut maker = Maker {
            choices: choices.iter().cycle(),
            version,
            flexible: api.is_flexible(version),
            out: Vec::new(),
            lengths: Vec::new(),
        };
        maker.fields(&api.shape, true);
        maker
    }

    fn choose(&mut self, below: u8) -> u8 {
        self.choices.next().copied().unwrap_or(0) % below
    }

    fn fields(&mut self, shape: &Shape, tagged: bool) {
        for field in &shape.fields {
            if field.tag.is_none() && field.versions.contains(self.version) {
                self.field(field);
            }
        }
        if tagged && self.flexible {
            let version = self.version;
            let known: Vec<&Field> = shape
                .fields
                .iter()
                .filter(|field| field.tag.is_some() && field.versions.contains(version))
                .filter(|_| self.choose(2) == 1)
                .collect();
            let unknown = u32::from(self.choose(3));
            self.varint(known.len() as u32 + unknown);
            for field in known {
                self.varint(field.tag.unwrap());
                let start = self.out.len();
                let lengths = self.lengths.len();
                self.field(field);
                let value = self.out.split_off(start);
                self.varint(value.len() as u32);
                let moved = self.out.len() - start;
                for (at, _) in &mut self.lengths[lengths..] {
                    *at += moved;
                }
                self.out.extend(value);
            }
            for tag in 0..unknown {
                self.varint(1000 + tag);
                let size = self.choose(4);
                self.varint(u32::from(size));
                self.out.extend((0..size).map(|_| 7));
            }
        }
    }

    fn field(&mut self, field: &Field) {
        // In versions before a field was nullable the codec refuses null; such bodies are made too, and the test
        // below tells them apart.
        // A tagged field that is null is its default, which the codec does not write.
        let null = field.nullable && field.tag.is_none() && self.choose(4) == 0;
        match &field.kind {
            Kind::Fixed(1) => {
                let bit = self.choose(2);
                self.out.push(bit);
            }
            Kind::Fixed(size) => {
                for _ in 0..*size {
                    let byte = self.choose(255);
                    self.out.push(byte);
                }
                // Not the default, so that tagged fields are written again.
                *self.out.last_mut().unwrap() |= 1;
            }
            Kind::String => {
                let size = self.choose(4);
                self.length((!null).then_some(usize::from(size)), 2);
                if !null {
                    self.out.extend((0..size).map(|_| b'x'));
                }
            }
            Kind::Bytes => {
                let size = self.choose(200);
                self.length((!null).then_some(usize::from(size)), 4);
                if !null {
                    self.out.extend(0..size);
                }
            }
            Kind::Array(element) => self.array(element, null, true),
            Kind::Plain(element) => self.array(element, null, false),
            Kind::Optional(shape) => {
                if self.choose(2) == 0 {
                    self.out.push(0xff);
                } else {
                    self.out.push(1);
                    self.fields(shape, true);
                }
            }
            Kind::Struct(shape) => self.fields(shape, true),
        }
    }

    fn array(&mut self, element: &Shape, null: bool, tagged: bool) {
        let count = self.choose(4);
        self.length((!null).then_some(usize::from(count)), 4);
        if !null {
            for _ in 0..count {
                self.fields(element, tagged);
            }
        }
    }

    fn length(&mut self, length: Option<usize>, width: usize) {
        let at = self.out.len();
        if self.flexible {
            self.varint(length.map_or(0, |length| length as u32 + 1));
        } else {
            let length = length.map_or(-1, |length| length as i32);
            self.out
                .extend_from_slice(&length.to_be_bytes()[4 - width..]);
        }
        self.lengths.push((at, self.out.len() - at));
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}

/// Decodes with the codec; answers how many bytes were left and what it writes.
fn through_the_codec(api: ApiKey, version: i16, body: &[u8]) -> Result<(usize, Vec<u8>), String> {
    use kafka_protocol::protocol::{Decodable, Encodable};
    let mut body = Bytes::copy_from_slice(body);
    with_request_type!(api, R => {
        let request = R::decode(&mut body, version).map_err(|error| error.to_string())?;
        let mut again = BytesMut::new();
        request.encode(&mut again, version).map_err(|error| error.to_string())?;
        Ok((body.len(), again.to_vec()))
    }, else Err("not offered".to_owned()))
}

fn every_version() -> impl Iterator<Item = (ApiKey, i16)> {
    APIS.iter()
        .flat_map(|api| (api.versions.min..=api.versions.max).map(|version| (api.key, version)))
}

fn choices() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..200)
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

#[test]
fn what_the_table_makes_the_codec_reads_to_the_end_and_writes_again() {
    for (api, version) in every_version() {
        let accepted = std::cell::Cell::new(0);
        runner(60)
            .run(&choices(), |choices| {
                let made = Maker::make(api, version, &choices);
                let verdict = check(api, version, &made.out);
                prop_assert_eq!(
                    verdict
                        .as_ref()
                        .map(|verdict| verdict.end)
                        .map_err(Clone::clone),
                    Ok(made.out.len())
                );
                match through_the_codec(api, version, &made.out) {
                    Ok((left, again)) => {
                        prop_assert_eq!(left, 0);
                        prop_assert_eq!(again, made.out);
                        accepted.set(accepted.get() + 1);
                    }
                    // Null where this version does not have it, or a null that the codec cannot write.
                    Err(error) => prop_assert!(
                        error.contains("is negative (-1)") || error.contains("not available"),
                        "{}",
                        error
                    ),
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{api:?} version {version}: {error}"));
        assert!(
            accepted.get() >= 10,
            "{api:?} version {version}: {}",
            accepted.get()
        );
    }
}

#[test]
fn the_codecs_default_requests_are_accepted() {
    use kafka_protocol::protocol::Encodable;
    for (api, version) in every_version() {
        let mut body = BytesMut::new();
        with_request_type!(api, R => {
            R::default().encode(&mut body, version).unwrap();
        }, else panic!("not offered"));
        let verdict = check(api, version, &body);
        assert_eq!(
            verdict.map(|verdict| verdict.end),
            Ok(body.len()),
            "{api:?} {version}"
        );
    }
}

#[test]
fn a_body_that_is_cut_short_is_refused_and_bytes_after_it_are_ignored() {
    for (api, version) in every_version() {
        let choices: Vec<u8> = (1..=199).collect();
        let made = Maker::make(api, version, &choices).out;
        for end in 0..made.len() {
            assert!(
                check(api, version, &made[..end]).is_err(),
                "{api:?} {version}: {end} of {}",
                made.len()
            );
        }
        let mut longer = made.clone();
        longer.extend_from_slice(b"garbage");
        assert_eq!(check(api, version, &longer).unwrap().end, made.len());
    }
}

#[test]
fn a_length_that_lies_is_refused_wherever_it_stands() {
    for (api, version) in every_version() {
        runner(20)
            .run(&choices(), |choices| {
                let made = Maker::make(api, version, &choices);
                for &(at, width) in &made.lengths {
                    let lies: &[&[u8]] = match (made.flexible, width) {
                        (true, _) => &[
                            &[0xff, 0xff, 0xff, 0xff, 0x0f],
                            &[0xff, 0xff, 0xff, 0xff, 0x7f],
                            &[0xff, 0xff, 0xff, 0xff, 0xff],
                            &[0x80, 0x80, 0x80, 0x80, 0x08],
                            &[0xff, 0xff, 0x7f],
                        ],
                        (false, 2) => &[&[0x7f, 0xff], &[0x80, 0], &[0xff, 0xfe]],
                        (false, _) => &[
                            &[0x7f, 0xff, 0xff, 0xff],
                            &[0x80, 0, 0, 0],
                            &[0, 1, 0, 0],
                            &[0xff, 0xff, 0xff, 0xfe],
                        ],
                    };
                    for lie in lies {
                        let mut body = made.out.clone();
                        body.splice(at..at + width, lie.iter().copied());
                        prop_assert!(check(api, version, &body).is_err(), "at {}", at);
                    }
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{api:?} version {version}: {error}"));
    }
}

#[test]
fn whatever_the_guard_lets_through_the_codec_takes_without_panic_and_to_the_same_end() {
    for (api, version) in every_version() {
        let mutations = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
        runner(150)
            .run(&(choices(), mutations), |(choices, mutations)| {
                let mut body = Maker::make(api, version, &choices).out;
                for (place, byte) in mutations {
                    if !body.is_empty() {
                        let place = place.index(body.len());
                        body[place] = byte;
                    }
                }
                if let Ok(verdict) = check(api, version, &body) {
                    prop_assert!(verdict.memory <= memory_limit(api as i16, body.len()));
                    if let Ok((left, _)) = through_the_codec(api, version, &body) {
                        prop_assert_eq!(body.len() - left, verdict.end);
                    }
                }
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{api:?} version {version}: {error}"));
    }
}

#[test]
fn random_bytes_never_panic() {
    for (api, version) in every_version() {
        runner(100)
            .run(&prop::collection::vec(any::<u8>(), 0..300), |body| {
                if check(api, version, &body).is_ok() {
                    let _ = through_the_codec(api, version, &body);
                }
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn what_is_charged_covers_what_the_codec_makes() {
    // Sizes of the codec's types on 64 bits, for the elements that a client can repeat most cheaply.
    use kafka_protocol::messages::{fetch_request, metadata_request, produce_request};
    let memory = |api, version, body: &[u8]| check(api, version, body).unwrap().memory;
    // One topic without partitions.
    let produce = [0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    assert!(memory(ApiKey::Produce, 3, &produce) >= size_of::<produce_request::TopicProduceData>());
    let metadata = [0, 0, 0, 1, 0, 1, b'a'];
    assert!(
        memory(ApiKey::Metadata, 0, &metadata)
            >= size_of::<metadata_request::MetadataRequestTopic>()
    );
    let mut fetch = vec![0; 17];
    fetch.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    fetch.extend([0; 16]);
    assert!(
        memory(ApiKey::Fetch, 4, &fetch)
            >= size_of::<fetch_request::FetchTopic>() + size_of::<fetch_request::FetchPartition>()
    );
}

/// The budget of a node counts what the guard says. What the allocator says must not be more.
#[test]
fn no_request_takes_more_memory_than_it_is_charged_for() {
    /// An allocator is asked for as many bytes as a type has, and rounds up.
    const SLACK: u64 = 512;
    for (api, version) in every_version() {
        runner(40)
            .run(&choices(), |choices| {
                let body = Bytes::from(Maker::make(api, version, &choices).out);
                let charged = check(api, version, &body).unwrap().memory as u64;
                let mut left = body.clone();
                let taken = with_request_type!(api, R => {
                    use kafka_protocol::protocol::Decodable;
                    let mut request = None;
                    allocation_counter::measure(|| request = R::decode(&mut left, version).ok())
                        .bytes_max
                }, else panic!("not offered"));
                prop_assert!(
                    taken <= charged + SLACK,
                    "{} taken, {} charged",
                    taken,
                    charged
                );
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{api:?} version {version}: {error}"));
    }
}

#[test]
fn requests_that_would_blow_up_in_memory_are_refused() {
    // Unknown tagged fields are kept by the codec in a map, an entry for two bytes of the wire.
    let mut tags = vec![1, 1, 0xff, 0x7f];
    tags.extend([5, 0].repeat(0x3fff));
    let refused = check(ApiKey::ApiVersions, 3, &tags);
    assert!(matches!(refused, Err(Refused::Amplified(_))), "{refused:?}");
    // A hundred thousand topics without partitions in a Produce.
    let mut topics = vec![0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x86, 0xa0];
    topics.extend([0; 6].repeat(100_000));
    let refused = check(ApiKey::Produce, 3, &topics);
    assert!(matches!(refused, Err(Refused::Amplified(_))), "{refused:?}");
}
