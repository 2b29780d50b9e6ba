//! Iceberg's metadata, as nodes serve it to engines: with the paths of files replaced.

use crate::table::iceberg::Relocation;

/// A manifest, a list of manifests, or the metadata of a table.
pub(super) fn metadata(input: &[u8]) -> bool {
    let relocation = Relocation::new("file:///w/archive/t", "s3://fs/w/archive/t");
    let relocation = relocation.expect("the two are of one length");
    let avro = relocation.avro(input.to_vec());
    if let Ok(moved) = &avro {
        assert_eq!(moved.len(), input.len(), "it stays as long as it was");
        assert_eq!(
            relocation.avro(moved.clone()).as_ref(),
            Ok(moved),
            "nothing is left to replace"
        );
    }
    let json = relocation.metadata(input);
    if let Ok(moved) = &json {
        assert!(relocation.metadata(moved).is_ok(), "it is JSON still");
    }
    avro.is_ok() || json.is_ok()
}
