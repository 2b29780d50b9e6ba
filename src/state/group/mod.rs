//! placeholder
#![allow(missing_docs)]
use crate::types::*;
use minicbor::{Decode, Encode};
use serde::Serialize;
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
pub enum GroupAction {
    #[n(0)]
    Nothing,
}
#[derive(Clone, Debug, PartialEq)]
pub struct GroupReply;
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("x")]
pub struct GroupError;
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize, Default)]
pub struct Group {}
impl Group {
    pub fn apply(&mut self, _: &GroupAction, _: Timestamp) -> Result<GroupReply, GroupError> {
        Ok(GroupReply)
    }
    pub fn node_gone(&mut self, _: NodeId, _: Timestamp) {}
    pub fn topic_deleted(&mut self, _: TopicId) {}
    pub fn is_vacant(&self) -> bool {
        true
    }
}
