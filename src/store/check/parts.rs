//! Whether a store takes large objects in parts.

use bytes::Bytes;

use super::{Checker, Doubt, KIND, Seen};
use crate::store::PART_LEN;

/// The part in the last place.
const LAST: &[u8] = b"the last part, which is sent first";

impl Checker<'_> {
    /// An object of two parts that are sent in the wrong order, and an upload that is given up.
    pub(super) async fn upload_in_parts(&self) -> Seen {
        let path = self.path("parts");
        let mut upload = self.store.upload(&path, 1, KIND).await?;
        upload.part(1, Bytes::from_static(LAST)).await?;
        upload.part(0, Bytes::from(vec![7; PART_LEN])).await?;
        upload.finish().await?;
        let seam = PART_LEN as u64;
        let wanted = seam - 1..seam + LAST.len() as u64;
        let (bytes, size) = self.store.get_range(&path, wanted.clone(), KIND).await?;
        if bytes.split_first() != Some((&7, LAST)) || size != wanted.end {
            let seen = "an object that was sent in parts has other bytes".to_owned();
            return Err(Doubt::Broken(seen));
        }
        let mut given_up = self.store.upload(&self.path("given-up"), 1, KIND).await?;
        given_up.part(0, Bytes::from_static(LAST)).await?;
        given_up.abort().await?;
        Ok("an object can be sent in parts, and an upload be given up".to_owned())
    }
}
