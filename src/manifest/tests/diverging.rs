//! Nodes whose states are not the same.

use super::*;
use crate::rules::{Rule, assert_needed};
use crate::state::{Level, State};
use crate::types::StateDigest;

/// A node that is told which snapshots to announce, and one that compares them with its own states.
struct Two {
    announcer: Running,
    states: Vec<Arc<State>>,
    other: Manifest,
    metrics: ManifestMetrics,
    _stop: tokio_util::sync::DropGuard,
}

impl Two {
    async fn start() -> Two {
        let store = Store::memory();
        let options = |snapshot_every| ManifestOptions {
            snapshot_every,
            ..ManifestOptions::default()
        };
        let announcer = start_with(&store, 1, options(1000)).await;
        let Running {
            manifest: other,
            metrics,
            _stop,
        } = start_with(&store, 2, options(4)).await;
        let mut two = Two {
            states: vec![announcer.manifest.state()],
            announcer,
            other,
            metrics,
            _stop,
        };
        two.commit(Op::RaiseLevel { to: Level(2) }).await;
        two
    }

    async fn commit(&mut self, op: Op) {
        self.announcer.manifest.commit(vec![op]).await.unwrap();
        let state = self.announcer.manifest.state();
        assert_eq!(state.seq(), Seq(self.states.len() as u64));
        self.states.push(state);
    }

    /// Commits something until the log ends there.
    async fn commit_to(&mut self, seq: usize) {
        while self.states.len() <= seq {
            let n = self.states.len();
            self.commit(create_topic(&format!("t{n}"), n as u128)).await;
        }
    }

    /// Announces a snapshot of the state at `seq`, with the digest of that at `of`, and has the other node fold that.
    /// Whether it is still there.
    async fn announce(&mut self, seq: usize, of: usize) -> Result<(), Stopped> {
        let digest = Some(StateDigest::of(&self.states[of].to_bytes()));
        let seq = Seq(seq as u64);
        self.commit(Op::SnapshotTaken {
            seq,
            bytes: 1,
            digest,
        })
        .await;
        let _ = self.other.fresh().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.other.fresh().await.map(drop)
    }
}

fn a_node_whose_state_is_another_halts() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(async {
        let mut two = Two::start().await;
        two.commit_to(5).await;
        // The other node kept its state at 4, and none at 3.
        assert_eq!(two.announce(3, 1).await, Ok(()));
        assert_eq!(two.metrics.states_compared.get(), 0);
        assert_eq!(two.announce(4, 4).await, Ok(()));
        assert_eq!(two.metrics.states_compared.get(), 1);
        // By now it has that at 8, four commits after the last snapshot.
        two.commit_to(9).await;
        let ended = two.announce(8, 7).await;
        let Err(Stopped::Halted(reason)) = ended else {
            panic!("{ended:?}");
        };
        assert!(
            reason.contains("commit 8") && reason.contains("weir fsck"),
            "{reason}"
        );
        assert_eq!(two.metrics.divergences.get(), 1);
        let op = create_topic("late", 99);
        assert!(two.other.commit(vec![op]).await.is_err());
    });
}

#[test]
fn a_node_whose_state_is_not_that_of_a_snapshot_halts() {
    a_node_whose_state_is_another_halts();
    assert_needed(&[(
        Rule::DivergentNodesHalt,
        a_node_whose_state_is_another_halts,
    )]);
}

/// Two nodes with the same options: whichever takes the snapshots, the other has that state.
#[tokio::test(start_paused = true)]
async fn nodes_keep_the_states_of_which_snapshots_are_taken() {
    let store = Store::memory();
    let options = ManifestOptions {
        snapshot_every: 4,
        ..ManifestOptions::default()
    };
    let (a, b) = (
        start_with(&store, 1, options.clone()).await,
        start_with(&store, 2, options).await,
    );
    let raise = Op::RaiseLevel { to: Level(2) };
    a.manifest.commit(vec![raise]).await.unwrap();
    for n in 1..=40u128 {
        let node = if n % 3 == 0 { &b } else { &a };
        let topic = create_topic(&format!("t{n}"), n);
        node.manifest.commit(vec![topic]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let snapshots = a.manifest.fresh().await.unwrap().snapshots().count();
    assert_eq!(snapshots, 4);
    b.manifest.fresh().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let compared = [&a, &b].map(|node| node.metrics.states_compared.get());
    assert!(compared[0] + compared[1] >= 4, "{compared:?}");
}
