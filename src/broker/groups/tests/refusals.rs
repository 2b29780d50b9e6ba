//! Requests that make no sense, and silence that is the process's own fault.

use super::super::sessions::{PULSE, Sessions};
use super::*;
use crate::state::State;
use crate::types::NodeId;

#[tokio::test(start_paused = true)]
async fn senseless_requests_are_refused_with_their_reason() {
    let store = Store::memory();
    let a = node(&store, 1).await;
    let client = Client::of(&a, "c");
    let join = |change: fn(&mut JoinRequest)| {
        let mut request = client.request();
        change(&mut request);
        let (broker, session) = (a.broker.clone(), client.session.clone());
        async move { broker.join_group(&session, request).await.unwrap_err() }
    };
    let no_group = GroupId::new("").unwrap();
    assert_eq!(
        join(|r| r.group = GroupId::new("").unwrap()).await,
        GroupOpError::InvalidGroupId
    );
    assert_eq!(
        join(|r| r.session_timeout = Duration::from_millis(5_999)).await,
        GroupOpError::InvalidSessionTimeout {
            asked: 5_999,
            min: 6_000,
            max: 1_800_000,
        }
    );
    assert!(matches!(
        join(|r| r.session_timeout = Duration::from_millis(1_800_001)).await,
        GroupOpError::InvalidSessionTimeout { .. }
    ));
    assert_eq!(
        join(|r| r.protocols.clear()).await,
        GroupOpError::InconsistentProtocol
    );
    assert_eq!(
        join(|r| r.protocol_type.clear()).await,
        GroupOpError::InconsistentProtocol
    );
    let stranger = MemberId::from("nobody");
    assert_eq!(
        join(|r| r.member = Some(MemberId::from("nobody"))).await,
        GroupOpError::UnknownMember(stranger.clone())
    );
    // Beyond what a member may bring, and beyond what a commit can carry.
    let large = join(|r| r.protocols[0].1 = Bytes::from(vec![0; 2 << 20])).await;
    assert!(matches!(large, GroupOpError::TooLarge { .. }), "{large}");
    let larger = join(|r| r.protocols[0].1 = Bytes::from(vec![0; 20 << 20])).await;
    assert!(
        matches!(larger, GroupOpError::RequestTooLarge { .. }),
        "{larger}"
    );

    let identity = |group: &GroupId| Identity {
        group: group.clone(),
        member: stranger.clone(),
        ..client.identity()
    };
    let heartbeat = |identity: Identity| {
        let (broker, session) = (a.broker.clone(), client.session.clone());
        async move { broker.heartbeat(&session, &identity).await }
    };
    assert_eq!(
        heartbeat(identity(&no_group)).await,
        Err(GroupOpError::InvalidGroupId)
    );
    let unknown = Err(GroupOpError::UnknownMember(stranger.clone()));
    assert_eq!(heartbeat(identity(&group())).await, unknown);
    let sync = SyncRequest {
        identity: identity(&group()),
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    };
    let synced = a.broker.sync_group(&client.session, sync).await;
    assert_eq!(
        synced.unwrap_err(),
        GroupOpError::UnknownMember(stranger.clone())
    );
    let leaving = vec![
        LeavingMember {
            member: Some(stranger.clone()),
            instance: None,
        },
        LeavingMember {
            member: None,
            instance: None,
        },
    ];
    let left = a
        .broker
        .leave_group(&client.session, &group(), leaving)
        .await
        .unwrap();
    assert!(
        left.iter()
            .all(|o| matches!(o, Err(GroupOpError::UnknownMember(_)))),
        "{left:?}"
    );
    assert_eq!(describe(&a).await.state, "Dead");
}

#[tokio::test(start_paused = true)]
async fn a_member_id_names_its_client_and_is_bounded() {
    let store = Store::memory();
    let a = node(&store, 1).await;
    let name = "ä".repeat(1_000);
    let mut client = Client::of(&a, &name);
    client.join().await.unwrap();
    let id = client.member.unwrap();
    assert!(
        id.as_str().starts_with("ääää") && id.as_str().len() < 300,
        "{id}"
    );
    let mut fixed = Client::of_instance(&a, "inst");
    let joined = tokio::time::timeout(Duration::from_secs(1), fixed.join()).await;
    assert!(joined.is_err(), "the first member has to rejoin");
    let members = describe(&a).await.members;
    let id = members
        .iter()
        .find(|m| m.instance.is_some())
        .unwrap()
        .member
        .clone();
    assert!(id.as_str().starts_with("inst-"), "{id}");
}

/// A state in which `node` vouches for a member with [`SESSION`].
async fn state_with_member(store: &Store) -> (Arc<State>, NodeId, TestNode, Client) {
    let a = node(store, 1).await;
    let mut client = Client::of(&a, "c");
    client.rejoin(1).await;
    let state = a.broker.manifest().state();
    let me = a.broker.node_id().unwrap();
    (state, me, a, client)
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_paused_does_not_blame_its_members() {
    let store = Store::memory();
    let (state, me, _a, client) = state_with_member(&store).await;
    let member = client.member.clone().unwrap();
    let sessions = Sessions::new(Duration::ZERO);
    assert!(sessions.sweep(&state, me, Duration::ZERO).0.is_empty());
    // Ten minutes pass, and nobody looked at the clock.
    let mut now = Duration::from_secs(600);
    assert!(sessions.sweep(&state, me, now).0.is_empty());
    // From here on the member has its session timeout, and no more.
    let deadline = now + SESSION;
    while now < deadline {
        assert!(sessions.sweep(&state, me, now).0.is_empty());
        now += PULSE;
    }
    let (silent, next) = sessions.sweep(&state, me, deadline - Duration::from_millis(1));
    assert_eq!((silent, next), (Vec::new(), Some(deadline)));
    now = deadline;
    assert_eq!(
        sessions.sweep(&state, me, now).0,
        [(group(), member.clone())]
    );
    // Given up, it is not vouched for from memory any more, until it is adopted.
    assert!(!sessions.touch_known(&group(), &member, now));
    sessions.touch(&group(), &member, now);
    assert!(sessions.touch_known(&group(), &member, now));
    assert!(sessions.sweep(&state, me, now).0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_vouched_for_here_is_not_remembered() {
    let store = Store::memory();
    let (state, me, a, client) = state_with_member(&store).await;
    let member = client.member.clone().unwrap();
    let sessions = Sessions::new(Duration::ZERO);
    assert!(!sessions.any());
    sessions.sweep(&state, me, Duration::ZERO);
    assert!(sessions.any());
    let other = NodeId(me.0 + 1);
    let mut now = Duration::ZERO;
    for _ in 0..10 {
        now += PULSE;
        sessions.sweep(&state, other, now);
    }
    assert!(!sessions.any());
    assert!(!sessions.touch_known(&group(), &member, now));
    client.leave().await.unwrap();
    sleep(Duration::from_secs(5)).await;
    assert!(!a.broker.groups().holds_members());
}
