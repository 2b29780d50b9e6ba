//! What happens to groups because time passes: one task for all groups of a node.
//!
//! Three things are due at some time: a phase of a rebalance is over, or a member for which nobody vouches
//! has not shown up ([`Group::due`]); a member of this node is silent ([`Sessions`](super::sessions::Sessions));
//! offsets of a group out of use are old, or nothing is left of it. For each the task proposes an action, and the fold
//! judges. Every node runs this task and any node's proposal will do, so a node without members in a group leaves those
//! that have some the first move, and all look at a fresh state right before they propose.
//!
//! The task keeps nothing that matters: killed at any point, another node, or the next incarnation, does the same.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::state::group::{Group, GroupAction, Voucher};
use crate::state::op::Op;
use crate::state::{Feature, State};
use crate::types::{GroupId, NodeId, Timestamp};

use super::coordinator::Groups;
use super::sessions::PULSE;
use crate::broker::{Home, Unavailable};

/// How soon the next look follows one, whatever happens: folds come many times a second.
const MIN_REST: Duration = Duration::from_millis(50);

/// How long a node stands back from groups in which it has no members.
const STAND_BACK: Duration = Duration::from_secs(1);

/// Spreads the proposals of several nodes.
const JITTER: Duration = Duration::from_millis(20);

/// Kafka's `offsets.retention.check.interval.ms`.
const OFFSETS_CHECK: Duration = Duration::from_secs(600);

/// The most proposals in one commit.
const MAX_PROPOSALS: usize = 1_000;

/// The most commits of one look for old offsets.
const MAX_ROUNDS: usize = 100;

/// The pause after the store could not be asked.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub(super) async fn run(groups: &Groups, stop: CancellationToken) {
    // In one task: when a proposal takes its time the pulse goes on.
    let work = async { tokio::join!(pulse(groups), reap(groups), expire_offsets(groups)) };
    let _ = stop.run_until_cancelled(work).await;
}

async fn pulse(groups: &Groups) {
    let _pulsing = groups.sessions.pulses(groups.env.boot());
    loop {
        groups.sessions.pulse(groups.env.boot());
        sleep(PULSE).await;
    }
}

async fn reap(groups: &Groups) {
    let mut states = groups.logs.of(Home::Groups).subscribe();
    let mut following = None;
    let mut next_sweep = Instant::now();
    loop {
        let state = states.see();
        let mut ops = Vec::new();
        if let Some(me) = state.node_of(groups.incarnation)
            && next_sweep <= Instant::now()
        {
            let boot = groups.env.boot();
            let (silent, sessions_end) = give_up_the_silent(groups, &state, me, boot);
            ops = silent;
            let next = sessions_end.map_or(PULSE, |end| end.saturating_sub(boot).min(PULSE));
            next_sweep = Instant::now() + next;
        }
        following = match groups.holds_members() {
            true => following.or_else(|| Some(groups.logs.of(Home::Groups).follow())),
            false => None,
        };
        let (anything, next) = due(groups, &state);
        if (anything || !ops.is_empty())
            && let Err(error) = propose(groups, ops).await
        {
            if let Unavailable::Stopped(_) = error {
                return;
            }
            tracing::warn!(%error, "cannot propose what is due in consumer groups; trying again");
            sleep(RETRY).await;
        }
        sleep(MIN_REST).await;
        let rest = next.map_or(OFFSETS_CHECK, |next| {
            next.since(groups.logs.of(Home::Groups).time())
        });
        let rest = if following.is_some() {
            rest.min(next_sweep.saturating_duration_since(Instant::now()))
        } else {
            rest
        };
        tokio::select! {
            biased;
            () = sleep(rest) => {}
            changed = states.changed() => if changed.is_err() { return },
        }
    }
}

fn op(group: &GroupId, action: GroupAction) -> Op {
    Op::Group {
        group: group.clone(),
        action,
    }
}

/// Only the node that vouches for a member can say that it is silent, so nobody else need be asked.
fn give_up_the_silent(
    groups: &Groups,
    state: &State,
    me: NodeId,
    boot: Duration,
) -> (Vec<Op>, Option<Duration>) {
    let (silent, next) = groups.sessions.sweep(state, me, boot);
    let expire = |(group, member)| {
        tracing::info!(
            ?group,
            ?member,
            "no sign of life within the session timeout"
        );
        op(
            &group,
            GroupAction::ExpireMember {
                member,
                node: Some(me),
            },
        )
    };
    let ops = silent.into_iter().take(MAX_PROPOSALS).map(expire);
    (ops.collect(), next)
}

/// When this node does what is due in a group at some time.
fn turn(group: &Group, me: Option<NodeId>, at: Timestamp) -> Timestamp {
    let voucher = me.map(Voucher::Node);
    let concerned = group
        .members()
        .any(|(_, member)| Some(member.voucher()) == voucher);
    if concerned { at } else { at.after(STAND_BACK) }
}

/// Whether it is this node's turn to propose anything, and when it is next.
fn due(groups: &Groups, state: &State) -> (bool, Option<Timestamp>) {
    let now = groups.logs.of(Home::Groups).time();
    let me = state.node_of(groups.incarnation);
    let deadlines = state
        .groups()
        .filter_map(|(_, g)| g.next_deadline().map(|(at, _)| turn(&g, me, at)));
    let mut anything = false;
    let mut next: Option<Timestamp> = None;
    for at in deadlines {
        anything |= at <= now;
        next = Some(next.map_or(at, |next| next.min(at)));
    }
    (anything, next)
}

/// Proposes `ops` and whatever is due in an up-to-date state.
async fn propose(groups: &Groups, mut ops: Vec<Op>) -> Result<(), Unavailable> {
    sleep(groups.env.jittered(JITTER)).await;
    let state = groups.fresh(Home::Groups).await?;
    let now = groups.logs.of(Home::Groups).time();
    let due = state
        .groups()
        .flat_map(|(id, g)| g.due(now).map(|action| op(id, action)).collect::<Vec<_>>());
    ops.extend(due.take(MAX_PROPOSALS));
    if !ops.is_empty() {
        // What was refused was done by another node, or is not true any more: nothing to do in either case.
        groups.propose(ops).await?;
    }
    Ok(())
}

async fn expire_offsets(groups: &Groups) {
    loop {
        sleep(groups.env.jittered(OFFSETS_CHECK)).await;
        if let Err(error) = expire_old_offsets(groups).await {
            if let Unavailable::Stopped(_) = error {
                return;
            }
            tracing::warn!(%error, "cannot expire committed offsets; trying again later");
        }
    }
}

async fn expire_old_offsets(groups: &Groups) -> Result<(), Unavailable> {
    if expired_offsets(groups, &groups.logs.of(Home::Groups).state()).is_empty() {
        return Ok(());
    }
    let mut state = groups.fresh(Home::Groups).await?;
    for _ in 0..MAX_ROUNDS {
        let ops = expired_offsets(groups, &state);
        if ops.is_empty() {
            break;
        }
        state = groups.propose(ops).await?.state;
    }
    Ok(())
}

fn expired_offsets(groups: &Groups, state: &State) -> Vec<Op> {
    let retention = i64::try_from(groups.settings().offsets_retention.as_millis());
    let retention = retention.unwrap_or(i64::MAX);
    let now = groups.logs.of(Home::Groups).passed();
    let before = Timestamp(now.0.saturating_sub(retention));
    let stays = state.has(Feature::EmptyGroupsStay);
    let is_over = |group: &Group| {
        let since = group.vacant_since().filter(|_| stays);
        since.is_some_and(|since| since.after(OFFSETS_CHECK) <= now)
    };
    let expired = state
        .groups()
        .filter(|(_, group)| group.has_expired_offsets(before) || is_over(group));
    let expired = expired.map(|(id, _)| op(id, GroupAction::ExpireOffsets { before }));
    expired.take(MAX_PROPOSALS).collect()
}
