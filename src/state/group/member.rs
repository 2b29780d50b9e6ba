//! Members of a group.

use std::fmt;

use bytes::Bytes;
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use super::action::Join;
use crate::types::{NodeId, Seq, Timestamp};

/// Bytes that mean something to the members of a group and nothing to Weir. Cheap to clone; shown as hex.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Opaque(Bytes);

impl Opaque {
    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<Bytes> for Opaque {
    /// Copies: a slice of a request would keep the whole request in memory for as long as the group lives.
    fn from(bytes: Bytes) -> Opaque {
        Opaque(Bytes::copy_from_slice(&bytes))
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opaque({} bytes)", self.0.len())
    }
}

impl<C> Encode<C> for Opaque {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Opaque {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.bytes().map(|bytes| Opaque(Bytes::copy_from_slice(bytes)))
    }
}

impl Serialize for Opaque {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{:x}", self.0))
    }
}

/// An assignor that a member knows, and what the member tells it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Protocol {
    /// The assignor: `range`, `cooperative-sticky` ...
    #[n(0)]
    pub name: String,
    /// What the member tells it; for a consumer its subscription.
    #[n(1)]
    pub metadata: Opaque,
}

/// Who can say that a member lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum Voucher {
    /// The node that the member talks to. As long as it lives and does not say otherwise, the member lives.
    #[n(0)]
    Node(#[n(0)] NodeId),
    /// Nobody: the node is gone. Another has to take the member over before this time.
    #[n(1)]
    Nobody {
        /// When the member expires.
        #[n(0)]
        until: Timestamp,
    },
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Member {
    #[n(0)]
    pub(super) instance: Option<String>,
    #[n(1)]
    pub(super) client_id: String,
    #[n(2)]
    pub(super) client_host: String,
    #[n(3)]
    pub(super) session_timeout_millis: u64,
    #[n(4)]
    pub(super) rebalance_timeout_millis: u64,
    #[n(5)]
    pub(super) protocols: Vec<Protocol>,
    #[n(6)]
    pub(super) voucher: Voucher,
    /// It has joined the rebalance that is under way.
    #[n(7)]
    pub(super) awaits_join: bool,
    /// It has asked for its assignment in the present generation.
    #[n(8)]
    pub(super) synced: bool,
    #[n(9)]
    pub(super) assignment: Opaque,
    /// The seq at which the node that vouches for it began to: with
    /// [`Feature::AskedOps`](crate::state::Feature::AskedOps), else nothing.
    #[cbor(n(12), default, skip_if = "Seq::is_zero")]
    pub(super) vouched: Seq,
}

impl Member {
    pub(super) fn new(join: &Join) -> Member {
        Member {
            instance: join.instance.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout_millis: join.session_timeout_millis,
            rebalance_timeout_millis: join.rebalance_timeout_millis,
            protocols: join.protocols.clone(),
            voucher: Voucher::Node(join.node),
            awaits_join: true,
            synced: false,
            assignment: Opaque::default(),
            vouched: Seq::ZERO,
        }
    }

    /// Takes over what a member says of itself when it joins again.
    pub(super) fn rejoin(&mut self, join: &Join) {
        self.session_timeout_millis = join.session_timeout_millis;
        self.rebalance_timeout_millis = join.rebalance_timeout_millis;
        self.protocols.clone_from(&join.protocols);
        self.voucher = Voucher::Node(join.node);
        self.awaits_join = true;
    }

    /// Its instance id, if it is a static member (KIP-345).
    pub fn instance(&self) -> Option<&str> {
        self.instance.as_deref()
    }

    /// Kafka's `client.id`.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Where it connected from when it joined first.
    pub fn client_host(&self) -> &str {
        &self.client_host
    }

    /// After this long without a sign of life it is out.
    pub fn session_timeout(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.session_timeout_millis)
    }

    /// How long a rebalance waits for it.
    pub fn rebalance_timeout(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.rebalance_timeout_millis)
    }

    /// Assignors with their metadata, most wanted first.
    pub fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// What it tells the assignor of this name.
    pub fn metadata(&self, protocol: &str) -> Option<&Opaque> {
        self.protocols
            .iter()
            .find(|p| p.name == protocol)
            .map(|p| &p.metadata)
    }

    /// Who can say that it lives.
    pub fn voucher(&self) -> Voucher {
        self.voucher
    }

    /// The seq at which the node that vouches for it began to, if that is known.
    pub(in crate::state) fn vouched(&self) -> Seq {
        self.vouched
    }

    /// It has joined the rebalance that is under way.
    pub fn awaits_join(&self) -> bool {
        self.awaits_join
    }

    /// It has asked for its assignment in the present generation.
    pub fn has_synced(&self) -> bool {
        self.synced
    }

    /// What the leader gave it in the present generation; empty before that.
    pub fn assignment(&self) -> &Opaque {
        &self.assignment
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|p| p.name == protocol)
    }
}
