//! How the persistent collections of the state are encoded: maps in key order, so that equal states
//! have equal bytes (I3).

use std::ops::Deref;
use std::sync::Arc;

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

/// A shared value with copy on write: cloning the state clones the pointer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Shared<T>(Arc<T>);

impl<T> Shared<T> {
    pub(super) fn new(value: T) -> Shared<T> {
        Shared(Arc::new(value))
    }
}

impl<T: Clone> Shared<T> {
    /// The value, to change; copied first if a published state shares it.
    pub(super) fn make_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.0)
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Encode<C>, C> Encode<C> for Shared<T> {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        self.0.encode(e, ctx)
    }
}

impl<'b, T: Decode<'b, C>, C> Decode<'b, C> for Shared<T> {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        T::decode(d, ctx).map(Shared::new)
    }
}

impl<T: Serialize> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

/// `imbl::OrdMap` as a CBOR map in key order.
pub(super) mod map {
    use imbl::OrdMap;

    use super::{Decode, Decoder, Encode, Encoder, Write, decode, encode};

    pub(in crate::state) fn encode<C, W: Write, K, V>(
        map: &OrdMap<K, V>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>>
    where
        K: Encode<C> + Ord + Clone,
        V: Encode<C> + Clone,
    {
        e.map(map.len() as u64)?;
        for (key, value) in map {
            key.encode(e, ctx)?;
            value.encode(e, ctx)?;
        }
        Ok(())
    }

    pub(in crate::state) fn decode<'b, C, K, V>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<OrdMap<K, V>, decode::Error>
    where
        K: Decode<'b, C> + Ord + Clone,
        V: Decode<'b, C> + Clone,
    {
        let mut map = OrdMap::new();
        for entry in d.map_iter_with(ctx)? {
            let (key, value) = entry?;
            map.insert(key, value);
        }
        Ok(map)
    }
}

/// `imbl::Vector` as a CBOR array.
pub(super) mod vector {
    use imbl::Vector;

    use super::{Decode, Decoder, Encode, Encoder, Write, decode, encode};

    pub(in crate::state) fn encode<C, W: Write, T>(
        vector: &Vector<T>,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>>
    where
        T: Encode<C> + Clone,
    {
        e.array(vector.len() as u64)?;
        for item in vector {
            item.encode(e, ctx)?;
        }
        Ok(())
    }

    pub(in crate::state) fn decode<'b, C, T>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Vector<T>, decode::Error>
    where
        T: Decode<'b, C> + Clone,
    {
        d.array_iter_with(ctx)?.collect()
    }
}
