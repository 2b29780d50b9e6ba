//! Metadata with the table at another URL.

use super::iceberg::{archived, typed};
use crate::table::iceberg::{Relocation, Unreadable};

const HERE: &str = "file:///var/archive/orders_eu_1";
const THERE: &str = "s3://fs/var/archive/orders_eu_1";

fn relocated(path: &str, bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let relocation = Relocation::new(HERE, THERE).unwrap();
    match path.rsplit_once('.') {
        Some((_, "json")) => relocation.metadata(bytes),
        Some((_, "avro")) => relocation.avro(bytes.to_vec()),
        _ => Ok(bytes.to_vec()),
    }
}

#[test]
fn relocated_metadata_is_that_of_a_table_that_was_written_there() {
    for table in [archived, typed] {
        let (mut here, mut there) = (table(HERE), table(THERE));
        here.publish();
        there.publish();
        assert_eq!(here.objects.len(), there.objects.len());
        let (mut avro, mut json) = (0, 0);
        for (path, bytes) in &here.objects {
            let other = &there.objects[&path.replace(HERE, THERE)];
            let moved = relocated(path, bytes).unwrap();
            if path.ends_with(".json") {
                json += 1;
                let read =
                    |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
                assert_eq!(read(&moved), read(other), "{path}");
                continue;
            }
            avro += usize::from(path.ends_with(".avro") && bytes != other);
            assert!(&moved == other, "{path}");
        }
        assert!(avro >= 6 && json >= 1, "{avro} {json}");
    }
}

#[test]
fn what_producers_write_is_not_taken_for_a_path() {
    let spoof = format!("{HERE}/data/x.parquet");
    let with_spoof = |location: &str| {
        let mut archiving = archived(location);
        let record = crate::table::ArchivedRecord {
            key: Some(spoof.clone().into()),
            ..super::record(2, 10)
        };
        archiving.archive(&[record], vec![super::iceberg::range(2, 10, 11)]);
        archiving
    };
    let (here, there) = (with_spoof(HERE), with_spoof(THERE));
    let holds = |bytes: &[u8]| {
        bytes
            .windows(spoof.len())
            .any(|window| window == spoof.as_bytes())
    };
    let mut spoofed = 0;
    for (path, bytes) in here
        .objects
        .iter()
        .filter(|(path, _)| path.ends_with(".avro"))
    {
        let moved = relocated(path, bytes).unwrap();
        assert!(moved == there.objects[&path.replace(HERE, THERE)], "{path}");
        spoofed += usize::from(holds(&moved));
    }
    assert_eq!(spoofed, 1);
}

#[test]
fn damaged_metadata_is_refused_or_left_as_it_is() {
    let mut table = archived(HERE);
    table.publish();
    for (path, bytes) in &table.objects {
        if path.ends_with(".parquet") {
            continue;
        }
        for len in (0..bytes.len().min(6000)).step_by(41) {
            // Where a block ends a file may end, too.
            if let Ok(cut) = relocated(path, &bytes[..len]) {
                assert_eq!(cut.len(), len, "{path}");
            }
        }
        for at in (0..bytes.len().min(6000)).step_by(17) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x55;
            if let Ok(moved) = relocated(path, &damaged)
                && path.ends_with(".avro")
            {
                assert_eq!(moved.len(), bytes.len(), "{path} {at}");
            }
        }
    }
    let relocation = Relocation::new(HERE, THERE).unwrap();
    for bad in [
        &b""[..],
        b"Obj",
        b"PAR1",
        b"Obj\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ] {
        assert!(relocation.avro(bad.to_vec()).is_err());
        assert!(relocation.metadata(bad).is_err());
    }
    assert_eq!(Relocation::new("file:///a", "s3://fs/ab"), None);
}
