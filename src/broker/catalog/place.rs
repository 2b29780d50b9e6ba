//! Where a node serves what is in its store.

/// The bucket that stands for directories and memory. Its name makes URLs as long as those that it stands for.
const DIRECTORIES: &str = "s3://fs/";

/// The URL by which a node serves what has that URL in the store. The two are of one length, so metadata that has the
/// one in the place of the other is as long as it was.
pub(super) fn served(url: &str) -> String {
    for own in ["file:///", "memory:/"] {
        if let Some(name) = url.strip_prefix(own) {
            return format!("{DIRECTORIES}{name}");
        }
    }
    match url.split_once("://") {
        Some(("gs" | "az", rest)) => format!("s3://{rest}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreUrl;

    #[test]
    fn what_is_served_has_a_url_of_the_same_length() {
        for (store, expected) in [
            ("file:///var/lib/weir", "s3://fs/var/lib/weir/archive/t"),
            ("memory://", "s3://fs/archive/t"),
            ("s3://bucket/a", "s3://bucket/a/archive/t"),
            ("gs://bucket", "s3://bucket/archive/t"),
            ("az://container/a", "s3://container/a/archive/t"),
        ] {
            let store: StoreUrl = store.parse().unwrap();
            let own = store.url_of("archive/t");
            assert_eq!(served(&own), expected);
            assert_eq!(own.len(), expected.len());
        }
        let here: StoreUrl = "file://./data".parse().unwrap();
        let own = here.url_of("archive/t");
        assert_eq!(served(&own).len(), own.len());
    }
}
