//! What administrators ask: which groups there are, what they look like, delete one.

use crate::broker::access::Permit;
use crate::broker::{Home, Session};
use crate::state::group::{Group, GroupAction, GroupReply, Phase};
use crate::state::{Feature, Shared, State};
use crate::types::GroupId;

use super::coordinator::{Groups, unexpected};
use super::{GroupDescription, GroupListing, GroupOpError, MemberDescription};

/// Kafka's state of a group that does not exist.
const DEAD: &str = "Dead";

impl Groups {
    /// The groups for which there is a permit.
    pub(super) async fn list(
        &self,
        permit: impl Fn(&GroupId) -> Option<Permit>,
    ) -> Result<Vec<GroupListing>, GroupOpError> {
        let state = self.fresh(Home::Groups).await?;
        let listing = |(id, group): (&GroupId, Shared<Group>)| {
            let _: Permit = permit(id)?;
            let in_time = self.in_time(&state, id, &group);
            let group = in_time.as_ref().unwrap_or(&group);
            (!is_dead(&state, group)).then(|| GroupListing {
                group: id.clone(),
                protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
                state: group.phase().name(),
            })
        };
        Ok(state.groups().filter_map(listing).collect())
    }

    pub(super) async fn describe(
        &self,
        _: Permit,
        id: &GroupId,
    ) -> Result<GroupDescription, GroupOpError> {
        let state = self.fresh(Home::Group(id)).await?;
        let group = state.group(id).map(|group| {
            let in_time = self.in_time(&state, id, &group);
            in_time.unwrap_or_else(|| (*group).clone())
        });
        Ok(match group.filter(|group| !is_dead(&state, group)) {
            Some(group) => describe(id, &group),
            None => GroupDescription {
                group: id.clone(),
                state: DEAD,
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            },
        })
    }

    pub(super) async fn delete(
        &self,
        _: Permit,
        session: &Session,
        group: &GroupId,
    ) -> Result<(), GroupOpError> {
        let deleted = self.act_in_time(session, group, GroupAction::Delete);
        match deleted.await? {
            (_, GroupReply::Done) => Ok(()),
            (_, other) => Err(unexpected(&other)),
        }
    }
}

/// Whether a group of which nothing is left is no more.
fn is_dead(state: &State, group: &Group) -> bool {
    group.is_vacant() && !state.has(Feature::EmptyGroupsStay)
}

/// As Kafka: metadata and assignments are told of a stable group only.
fn describe(id: &GroupId, group: &Group) -> GroupDescription {
    let stable = matches!(group.phase(), Phase::Stable { .. });
    let protocol = group.protocol().filter(|_| stable).unwrap_or_default();
    let members = group.members().map(|(member_id, member)| {
        let metadata = member.metadata(protocol).filter(|_| stable);
        let assignment = Some(member.assignment()).filter(|_| stable);
        MemberDescription {
            member: member_id.clone(),
            instance: member.instance().map(str::to_owned),
            client_id: member.client_id().to_owned(),
            client_host: member.client_host().to_owned(),
            metadata: metadata.map(|m| m.bytes().clone()).unwrap_or_default(),
            assignment: assignment.map(|a| a.bytes().clone()).unwrap_or_default(),
        }
    });
    GroupDescription {
        group: id.clone(),
        state: group.phase().name(),
        protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
        protocol: protocol.to_owned(),
        members: members.collect(),
    }
}
