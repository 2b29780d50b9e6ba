//! What moves time in the fold, and what cannot.

use std::time::Duration;

use proptest::prelude::*;

use crate::state::log::time::MAX_LEAD;
use crate::state::objects::rules::SWEEP_MARGIN;
use crate::state::tests::*;

const SECOND: i64 = 1_000;
const DAY: i64 = 24 * 3_600 * SECOND;
const START: i64 = 1_700_000_000_000;
const LEASE: i64 = 5 * SECOND;

/// A node as the log sees it: its clocks, and what it has folded.
#[derive(Clone, Copy)]
struct Machine {
    run: u128,
    /// Its wall clock minus the real time.
    off: i64,
    /// The fold's time when it folded last, and when, in real time, that was.
    folded: (i64, i64),
}

/// A log at the newest level, and the real time.
struct Cluster {
    state: State,
    now: i64,
    machines: Vec<Machine>,
}

impl Cluster {
    /// With as many nodes as there are clocks, all registered.
    fn of(offs: &[i64]) -> Cluster {
        let mut cluster = Cluster {
            state: State::new(),
            now: START,
            machines: Vec::new(),
        };
        let to = Level::NEWEST;
        cluster.commit(id(99, 1), None, START, vec![Op::RaiseLevel { to }]);
        for off in offs {
            cluster.start(*off);
        }
        cluster
    }

    /// A node starts, reads the log and registers. Returns its number.
    fn start(&mut self, off: i64) -> usize {
        let node = self.machines.len();
        self.machines.push(Machine {
            run: node as u128 + 1,
            off,
            folded: (self.state.time().0, self.now),
        });
        let mut register = registration(node as u128 + 1, LEASE as u64);
        register.version = Level::NEWEST.label("1.0.0");
        self.says(node, vec![Op::RegisterNode(register)]).unwrap();
        node
    }

    fn commit(&mut self, id: CommitId, wall: Option<i64>, time: i64, ops: Vec<Op>) -> Vec<Outcome> {
        let seq = self.state.seq().next();
        let commit = Commit {
            id,
            time: Timestamp(time),
            ops,
            follows: None,
            forwarded: Vec::new(),
            wall: wall.map(Timestamp),
            log: LogId::ZERO,
        };
        match self.state.apply(seq, &commit, 64) {
            Folded::Outcomes(outcomes) => outcomes,
            folded => panic!("a new commit was not folded: {folded:?}"),
        }
    }

    /// The node commits, as its clocks say.
    fn says(&mut self, node: usize, ops: Vec<Op>) -> Outcome {
        let machine = self.machines[node];
        let carried = machine.folded.0 + (self.now - machine.folded.1);
        let wall = self.now + machine.off;
        let id = id(machine.run, self.state.seq().next().0);
        let outcome = self.commit(id, Some(wall), carried, ops).pop();
        self.follow(node);
        outcome.unwrap_or(Ok(Applied::Done))
    }

    /// The node folds the log to its end.
    fn follow(&mut self, node: usize) {
        self.machines[node].folded = (self.state.time().0, self.now);
    }

    fn pass(&mut self, millis: i64) {
        self.now += millis;
    }

    /// How far the fold's time is ahead of the real one.
    fn ahead(&self) -> i64 {
        self.state.time().0 - self.now
    }

    fn expire(&mut self, by: usize, node: usize) -> Outcome {
        self.expire_as_of(by, node, self.state.seq())
    }

    fn expire_as_of(&mut self, by: usize, node: usize, as_of: Seq) -> Outcome {
        let incarnation = Incarnation(Uuid::from_u128(self.machines[node].run));
        let node = self.state.node_of(incarnation).unwrap();
        let expire = Op::ExpireNode {
            node,
            incarnation,
            as_of: Some(as_of),
        };
        self.says(by, vec![expire])
    }
}

fn lead() -> i64 {
    MAX_LEAD.as_millis() as i64
}

fn one_clock_that_is_a_day_ahead_moves_time_by_a_few_seconds() {
    let mut cluster = Cluster::of(&[0, 0]);
    cluster.machines[1].off = DAY;
    for _ in 0..1_000 {
        cluster.pass(SECOND / 10);
        cluster.says(1, Vec::new()).unwrap();
        cluster.says(0, Vec::new()).unwrap();
        assert!(cluster.ahead() <= lead(), "{}", cluster.ahead());
    }
}

fn a_sweep_boundary_that_was_not_behind_time_is_refused() {
    let mut cluster = Cluster::of(&[0]);
    cluster.pass(3_600 * SECOND);
    // Alone, so its clock is believed; what it jumps by is not old enough to sweep.
    cluster.machines[0].off = DAY;
    let found = cluster.state.time();
    let raise = |before| {
        vec![Op::RaiseSweepBoundary {
            before: Timestamp(before),
        }]
    };
    let refused = cluster.says(0, raise(cluster.now + DAY - SECOND));
    assert!(
        matches!(refused, Err(Rejected::SweepBoundary { .. })),
        "{refused:?}"
    );
    assert_eq!(cluster.state.sweep_boundary(), Timestamp(0));
    let found_next = cluster.state.time();
    assert!(found < found_next);
    let margin = SWEEP_MARGIN.as_millis() as i64;
    assert!(cluster.says(0, raise(found_next.0 - margin + 1)).is_err());
    let limit = cluster.state.time().0 - margin;
    assert_eq!(cluster.says(0, raise(limit)), Ok(Applied::Done));
}

fn who_registers_takes_no_id_of_a_node_whose_lease_seems_to_have_lapsed() {
    let mut cluster = Cluster::of(&[0, 0]);
    cluster.pass(LEASE + 2 * lead());
    let third = cluster.start(0);
    assert_eq!(cluster.state.nodes().count(), 3);
    let taken = cluster.state.nodes().map(|(id, _)| id.0);
    assert_eq!(taken.collect::<Vec<_>>(), [0, 1, 2]);
    // Whoever has looked for long enough ends those that are gone.
    assert_eq!(cluster.expire(third, 0), Ok(Applied::Done));
    assert_eq!(cluster.state.nodes().count(), 2);
}

fn a_node_that_has_committed_since_it_was_found_lapsed_keeps_its_lease() {
    let mut cluster = Cluster::of(&[0, 0]);
    cluster.pass(LEASE + SECOND);
    cluster.machines[1].off = DAY;
    let found = cluster.state.seq();
    cluster.says(0, Vec::new()).unwrap();
    // By the clock of the other, 10 s are over in an instant, and the lease is 5 s.
    let refused = cluster.expire_as_of(1, 0, found);
    assert!(
        matches!(refused, Err(Rejected::LeaseHolds { .. })),
        "{refused:?}"
    );
    assert_eq!(cluster.state.nodes().count(), 2);
}

#[test]
fn no_clock_moves_time_far_beyond_the_others() {
    a_node_that_has_committed_since_it_was_found_lapsed_keeps_its_lease();
    one_clock_that_is_a_day_ahead_moves_time_by_a_few_seconds();
    a_sweep_boundary_that_was_not_behind_time_is_refused();
    who_registers_takes_no_id_of_a_node_whose_lease_seems_to_have_lapsed();
    assert_needed(&[
        (
            Rule::TimeIsBounded,
            one_clock_that_is_a_day_ahead_moves_time_by_a_few_seconds,
        ),
        (
            Rule::SweepBoundaryKeepsMargin,
            a_sweep_boundary_that_was_not_behind_time_is_refused,
        ),
        (
            Rule::CommitsRenewLeases,
            a_node_that_has_committed_since_it_was_found_lapsed_keeps_its_lease,
        ),
        (
            Rule::RegistrationRemovesNobody,
            who_registers_takes_no_id_of_a_node_whose_lease_seems_to_have_lapsed,
        ),
    ]);
}

#[test]
fn a_cluster_that_was_stopped_for_a_month_goes_on_at_once() {
    let mut cluster = Cluster::of(&[0]);
    let run = Incarnation(Uuid::from_u128(1));
    let node = cluster.state.node_of(run).unwrap();
    let retire = Op::RetireNode {
        node,
        incarnation: run,
    };
    cluster.says(0, vec![retire]).unwrap();
    cluster.pass(30 * DAY);
    cluster.start(0);
    assert_eq!(cluster.ahead(), 0);
}

#[test]
fn a_cluster_that_died_a_month_ago_jumps_when_its_dead_are_ended_or_a_second_node_agrees() {
    for agrees in [false, true] {
        let mut cluster = Cluster::of(&[0, 0]);
        cluster.pass(30 * DAY);
        let began = cluster.state.time();
        let third = cluster.start(0);
        // Until then time goes on from where it was.
        assert!(cluster.state.time().since(began) <= MAX_LEAD);
        cluster.pass(LEASE);
        cluster.says(third, Vec::new()).unwrap();
        let passed = cluster.state.time().since(began);
        assert!((LEASE..=LEASE + lead()).contains(&(passed.as_millis() as i64)));
        if agrees {
            cluster.start(0);
        } else {
            cluster.pass(LEASE + lead());
            cluster.says(third, Vec::new()).unwrap();
            cluster.expire(third, 0).unwrap();
            cluster.expire(third, 1).unwrap();
            cluster.says(third, Vec::new()).unwrap();
        }
        assert_eq!(cluster.ahead(), 0, "{agrees}");
    }
}

#[test]
fn a_time_that_is_a_day_ahead_goes_on() {
    let mut cluster = Cluster::of(&[DAY]);
    assert_eq!(cluster.ahead(), DAY);
    cluster.machines[0].off = 0;
    cluster.start(0);
    for _ in 0..100 {
        let before = cluster.state.time();
        cluster.pass(SECOND);
        cluster.says(1, Vec::new()).unwrap();
        cluster.follow(0);
        assert_eq!(cluster.state.time().since(before), Duration::from_secs(1));
    }
}

#[test]
fn before_that_level_any_commit_moves_time_as_far_as_it_says() {
    let mut state = State::new();
    let ahead = Commit {
        time: Timestamp(START + DAY),
        ..commit(1, Vec::new())
    };
    state.apply(Seq(1), &ahead, 64);
    assert_eq!(state.time(), Timestamp(START + DAY));
}

proptest! {
    /// However often who commits, and however late nodes fold what others commit: with one wrong clock among three or
    /// four, the fold's time is never further ahead of the real one than the best of the others is, and [`MAX_LEAD`];
    /// and it is behind by what the others are and no more, as soon as two of them have committed.
    #[test]
    fn one_wrong_clock_moves_time_no_further_than_the_lead(
        offs in proptest::collection::vec(-4_900i64..4_900, 2..4),
        wrong in prop_oneof![-40 * DAY..40 * DAY, -20_000i64..20_000],
        steps in proptest::collection::vec((0..4usize, 0..4usize, 0..300_000i64, any::<bool>()), 1..120),
    ) {
        let mut all = offs.clone();
        all.push(0);
        let mut cluster = Cluster::of(&all);
        let bad = offs.len();
        cluster.machines[bad].off = wrong;
        let best = offs.iter().copied().max().unwrap_or(0).max(0);
        for (incarnation, follower, rest, moves) in steps {
            if moves {
                cluster.pass(rest);
            }
            cluster.says(incarnation % all.len(), Vec::new()).unwrap();
            cluster.follow(follower % all.len());
            prop_assert!(cluster.ahead() <= best + lead(), "{} ahead", cluster.ahead());
        }
        cluster.says(0, Vec::new()).unwrap();
        cluster.says(1, Vec::new()).unwrap();
        let behind = -cluster.ahead();
        prop_assert!(behind <= 4_900, "{behind} behind");
    }
}
