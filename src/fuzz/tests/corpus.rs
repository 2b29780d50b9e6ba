//! What inputs are made of: the fixtures of every format, what real clients sent, and inputs that broke something.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use super::chance::Chance;
use crate::format::Object;
use crate::kafka::tests::examples;
use crate::segment::{BatchBuilder, Codec, CompactedDirectory};
use crate::state::table::{DataFile, FieldId, PartitionBy, PartitionSpec};
use crate::table::iceberg::{Location, ManifestFile, manifest};
use crate::table::{ColumnStats, FileStats, base_schema};
use crate::types::{FileId, ProducerEpoch, ProducerId, Timestamp};

pub(super) fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(folder)
}

/// The files of a folder, in the order of their names; none if there is no such folder.
pub(super) fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(fixtures(folder)) else {
        return Vec::new();
    };
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// The corpus of a target.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    let mut corpus = match target {
        "object" => objects("").into_iter().map(|(_, whole)| whole).collect(),
        "commit" => sections("commit", |object| object.head),
        "snapshot" => sections("snapshot", |object| object.data),
        "segment_index" => sections("segment", |object| object.tail),
        "compacted" => compacted(),
        "batch" => batches(),
        "records" => records(),
        "kafka_request" => frames(),
        "kafka_stream" => streams(),
        "group_metadata" => group_metadata(),
        "metadata" => metadata(),
        "text" => texts(),
        other => panic!("there is no corpus for {other}"),
    };
    let broken = files(&format!("fuzz/{target}"));
    corpus.extend(broken.into_iter().map(|(_, input)| input));
    assert!(!corpus.is_empty(), "{target} has something to begin with");
    corpus
}

/// The fixtures of a kind of object.
fn objects(kind: &str) -> Vec<(String, Vec<u8>)> {
    let all = files("formats").into_iter();
    all.filter(|(name, _)| name.starts_with(kind)).collect()
}

/// A section of each fixture of a kind.
fn sections(kind: &str, section: fn(Object) -> Bytes) -> Vec<Vec<u8>> {
    let decode = |(name, whole): (String, Vec<u8>)| Object::decode(&name, &whole.into());
    let decoded = objects(kind).into_iter().map(decode);
    // Not all fixtures hold something: an object of nothing but a header is one, too.
    decoded
        .map(|object| section(object.unwrap()).to_vec())
        .filter(|section| !section.is_empty())
        .collect()
}

/// The directory of each compacted segment, and the indexes of its slices without their checksums.
fn compacted() -> Vec<Vec<u8>> {
    let mut corpus = sections("compacted", |object| object.tail);
    for (name, whole) in objects("compacted") {
        let (directory, _) = CompactedDirectory::decode(&name, &whole.clone().into()).unwrap();
        for slice in directory.slices {
            let index = slice.index.start as usize..slice.index.end as usize - 4;
            corpus.push(whole[index].to_vec());
        }
    }
    corpus
}

fn batch(codec: Codec, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(codec).producer(ProducerId(7), ProducerEpoch(1), 5);
    for n in 0..records {
        let value = vec![n as u8; n * 7 % 300];
        let key = (n % 3 > 0).then_some(b"key".as_slice());
        let time = Timestamp(1_700_000_000_000 + n as i64 * 3);
        builder.push(time, key, Some(&value), &[]).unwrap();
    }
    builder.finish().unwrap()
}

fn batches() -> Vec<Vec<u8>> {
    let clients = files("batches").into_iter();
    let mut corpus: Vec<Vec<u8>> = clients
        .filter(|(name, _)| name.ends_with(".batch"))
        .map(|(_, batch)| batch)
        .collect();
    for codec in Codec::ALL {
        corpus.push(batch(codec, 1).to_vec());
        corpus.push(batch(codec, 60).to_vec());
        // Ten thousand records that compress to nothing: long for its length.
        corpus.push(bomb(codec));
    }
    corpus
}

/// Records of one byte, so alike that they compress to nothing.
fn bomb(codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for _ in 0..10_000 {
        builder
            .push(Timestamp(0), None, Some(&[0; 40]), &[])
            .unwrap();
    }
    let batch = builder.finish().unwrap().to_vec();
    if batch.len() > 32 << 10 {
        Vec::new()
    } else {
        batch
    }
}

fn records() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for codec in Codec::ALL {
        for count in [1u8, 5, 40] {
            let plain = batch(Codec::None, count.into());
            let records = &plain[crate::segment::BATCH_HEADER_LEN..];
            corpus.push([&[codec.id() | 0x80, count], records].concat());
            let compressed = batch(codec, count.into());
            let records = &compressed[crate::segment::BATCH_HEADER_LEN..];
            corpus.push([&[codec.id(), count], records].concat());
        }
        let many = i32::MAX.to_be_bytes();
        corpus.push([&[codec.id() | 0x80, 255], &many[..], &[0; 200]].concat());
    }
    corpus
}

/// Requests of every API in every version: those of real clients, the codec's defaults, and made-up ones.
fn frames() -> Vec<Vec<u8>> {
    let mut corpus = examples::defaults();
    let mut chance = Chance::new(1);
    for frame in corpus.clone() {
        let api = i16::from_be_bytes([frame[0], frame[1]]);
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        for _ in 0..4 {
            let choices: Vec<u8> = (0..60).map(|_| chance.byte()).collect();
            let key = ApiKey::try_from(api).unwrap();
            let body = examples::made_up(key, version, &choices);
            corpus.push(examples::frame(api, version, &body));
        }
    }
    corpus.extend(captured().iter().flat_map(|stream| cut(stream)));
    corpus
}

/// What real clients sent: a stream of frames of each, one of every kind.
fn captured() -> Vec<Vec<u8>> {
    let files = files("requests").into_iter();
    let streams: Vec<Vec<u8>> = files
        .filter(|(name, _)| name.ends_with(".frames"))
        .map(|(_, stream)| stream)
        .collect();
    assert_eq!(streams.len(), 5, "clients");
    streams
}

/// The frames of a stream, without their lengths.
fn cut(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
        let (frame, rest) = rest.split_at(length);
        frames.push(frame.to_vec());
        stream = rest;
    }
    frames
}

/// Streams of a few frames each: those of real clients, and of whatever comes.
fn streams() -> Vec<Vec<u8>> {
    let framed = |frame: &Vec<u8>| {
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        [&length[..], frame].concat()
    };
    let frames = frames();
    let made = frames.chunks(9).map(|frames| {
        frames
            .iter()
            .take(5)
            .map(framed)
            .collect::<Vec<_>>()
            .concat()
    });
    captured().into_iter().chain(made).collect()
}

fn group_metadata() -> Vec<Vec<u8>> {
    vec![
        b"\0\x01\0\0\0\x02\0\x01a\0\x06orders\xff\xff\xff\xff".to_vec(),
        b"\0\x03\0\0\0\x01\0\x01a\0\0\0\x02xy\0\0\0\0\0\0\0\0\0\0".to_vec(),
        b"\0\0\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x01\0\x01b\0\0\0\0\xff\xff\xff\xff"
            .to_vec(),
        Vec::new(),
    ]
}

/// Manifests, and what stands in the metadata of a table.
fn metadata() -> Vec<Vec<u8>> {
    let file = |n: u8| {
        let of_column = |column: u32| ColumnStats {
            bytes: 100,
            values: Some((10, 1)),
            nans: (column == 2).then_some(0),
            lower: Some(vec![n; 5]),
            upper: Some(b"file:///w/archive/t/data/key".to_vec()),
        };
        let columns = (1..4).map(|column| (FieldId(column), of_column(column)));
        ManifestFile {
            file: DataFile {
                id: FileId(uuid::Uuid::from_u128(n.into())),
                bytes: 1000,
                crc32c: 7,
                rows: 10,
                partition: Some(i32::from(n)),
            },
            stats: FileStats {
                columns: columns.collect(),
                split_offsets: vec![4, 500],
            },
        }
    };
    let location = Location::new("file:///w/archive/t");
    let mut all: Vec<Vec<u8>> = [PartitionBy::None, PartitionBy::Day, PartitionBy::Month]
        .into_iter()
        .zip(0u8..)
        .map(|(by, n)| {
            let files: Vec<ManifestFile> = (0..=n * 3).map(file).collect();
            let spec = PartitionSpec { id: n.into(), by };
            manifest(&location, &base_schema(), spec, &files).unwrap()
        })
        .collect();
    let json = r#"{"format-version":2,"location":"file:///w/archive/t","properties":{"write.data.path":
        "file:///w/archive/t/data","gc.enabled":"false"},"snapshots":[{"snapshot-id":7,"manifest-list":
        "file:///w/archive/t/metadata/snap-7.avro"},{}],"schemas":[{"fields":[{"doc":"file:///w/archive/t"}]}]}"#;
    all.push(json.as_bytes().to_vec());
    all
}

fn texts() -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = [
        "file:///var/lib/weir",
        "file://./data",
        "s3://bucket/a/b",
        "gs://some.bucket/weir",
        "az://container",
        "memory://",
        "manifest/log/00000000000000000042.commit",
        "segments/b/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b.segment",
        "check/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b/race-1",
        "8MiB",
        "1 GiB",
        "250ms",
        "10min 3s",
        "kafka=host.example:9092,http=[::1]:80",
        "127.0.0.1:9092",
        "store = \"file://./data\"\ncommit_interval = \"250ms\"\nkafka = \"0.0.0.0:9092\"\n\
         advertise = \"node-1:9092\"\nmax_connections = 100\ncache = \"1GiB\"\n",
        "segment_size = 8388608 # bytes\nlog_format = 'json'\nupload_parallelism = 8\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    // Deep nesting is where parsers of text overflow their stack.
    texts.push(format!("store = {}", "[".repeat(3000)).into_bytes());
    texts.push(format!("store{} = 1", ".a".repeat(3000)).into_bytes());
    texts.push(format!("store = {}", "{a=".repeat(3000)).into_bytes());
    texts
}
