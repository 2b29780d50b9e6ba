//! The policy, on partitions of all shapes: with ops, and without bytes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::policy::GROWTH;
use super::*;
use crate::dynamic_config::TopicConfig;
use crate::invariants::at_rest::offsets_are_dense;
use crate::maintain::CompactionOptions;
use crate::state::op::{
    Append, AppendEntry, AppendSource, Commit, CompactedSlice, CreateTopic, Op, ReplaceSlices,
};
use crate::state::{Partition, Slice, SliceIndex, State};
use crate::types::{
    ByteCount, CommitId, Incarnation, LogId, Offset, PartitionIndex, SegmentId, Timestamp, TopicId,
    TopicName, TopicPartition,
};
use std::time::Duration;

const TOPIC: TopicId = TopicId(Uuid::from_u128(7));
const ID: TopicPartition = TopicPartition {
    topic: TOPIC,
    partition: PartitionIndex(0),
};
const MIB: u64 = 1 << 20;
const MINUTE: Duration = Duration::from_secs(60);
const START: i64 = 1_700_000_000_000;

/// A partition that grows and is compacted, in the fold.
struct Log {
    state: State,
    now: Timestamp,
    options: CompactionOptions,
    settings: BTreeMap<String, String>,
    crowded: bool,
    segments: u128,
}

impl Log {
    fn new(settings: &[(&str, &str)]) -> Log {
        let mut log = Log {
            state: State::new(),
            now: Timestamp(START),
            options: CompactionOptions::default(),
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            crowded: false,
            segments: 0,
        };
        let create = CreateTopic {
            id: TOPIC,
            name: TopicName::new("t").unwrap(),
            partitions: 1,
            configs: BTreeMap::new(),
            replicas: None,
        };
        log.apply(Op::CreateTopic(create));
        log
    }

    fn apply(&mut self, op: Op) {
        let seq = self.state.seq().next();
        let commit = Commit {
            id: CommitId {
                incarnation: Incarnation(Uuid::from_u128(1)),
                counter: seq.0,
            },
            time: self.now,
            ops: vec![op],
            follows: None,
            forwarded: Vec::new(),
            wall: None,
            log: LogId::ZERO,
        };
        let crate::state::Folded::Outcomes(outcomes) = self.state.apply(seq, &commit, 64) else {
            panic!("folded before");
        };
        assert!(outcomes[0].is_ok(), "{outcomes:?}");
    }

    fn segment(&mut self) -> SegmentId {
        self.segments += 1;
        let random = self.segments.to_be_bytes();
        let random = random[6..].try_into().unwrap();
        let millis = u64::try_from(self.now.0).unwrap();
        let id = uuid::Builder::from_unix_timestamp_millis(millis, random);
        SegmentId(id.into_uuid())
    }

    fn wait(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
    }

    fn append(&mut self, len: u64) {
        let segment = self.segment();
        let now = self.now;
        self.append_at(segment, len, now);
    }

    fn append_at(&mut self, segment: SegmentId, len: u64, max_timestamp: Timestamp) {
        self.apply(Op::Append(Append {
            partition: ID,
            source: AppendSource::Segment(segment),
            entries: vec![AppendEntry {
                start: 40,
                len: u32::try_from(len).unwrap(),
                records: 10,
                max_timestamp,
                producer: None,
            }],
        }));
    }

    fn partition(&self) -> &Partition {
        self.state.partition(ID).unwrap()
    }

    fn terms(&self) -> Terms {
        let settings = TopicConfig::effective(&self.settings, &BTreeMap::new());
        Terms::new(&self.options, &settings, self.crowded)
    }

    fn plan(&self) -> Option<Plan> {
        plan(ID, self.partition(), &self.terms(), self.now)
    }

    /// Does what a plan says, as if there were bytes.
    fn carry_out(&mut self, plan: &Plan) {
        let segment = self.segment();
        let mut start = 40;
        let output = |output: &Output| {
            let len = output.bytes();
            let slice = CompactedSlice {
                end: output.end(),
                segment,
                start,
                len,
                max_timestamp: output
                    .inputs
                    .iter()
                    .map(|(_, slice)| slice.max_timestamp)
                    .max()
                    .unwrap(),
                index: SliceIndex {
                    start: start + len,
                    len: 10,
                },
            };
            start += len + 10;
            slice
        };
        let outputs = plan.outputs.iter().map(output).collect();
        self.apply(Op::ReplaceSlices(ReplaceSlices {
            partition: ID,
            layout: plan.layout,
            base: plan.base(),
            end: plan.end(),
            outputs,
            cleaned: None,
        }));
        assert_eq!(offsets_are_dense("t", self.partition()), None);
    }

    fn compact(&mut self) -> usize {
        let mut jobs = 0;
        while let Some(plan) = self.plan() {
            self.check(&plan);
            self.carry_out(&plan);
            jobs += 1;
            assert!(jobs < 1000, "it does not come to an end");
        }
        jobs
    }

    /// What must hold of every plan.
    fn check(&self, plan: &Plan) {
        let slices: Vec<(Offset, Slice)> = self
            .partition()
            .slices_from(plan.base())
            .take_while(|(base, _)| *base < plan.end())
            .map(|(base, slice)| (base, *slice))
            .collect();
        let inputs: Vec<(Offset, Slice)> = plan
            .outputs
            .iter()
            .flat_map(|output| output.inputs.clone())
            .collect();
        assert_eq!(inputs, slices, "not the slices that are there");
        let most = self.options.job.0 + self.options.target.0;
        assert!(plan.bytes() <= most || plan.outputs.len() == 1);
        for output in &plan.outputs {
            let alone = output.inputs.len() == 1;
            assert!(alone || output.bytes() <= self.options.target.0);
            let kinds = output.inputs.iter().map(|(_, slice)| slice.index.is_some());
            let merge = kinds.clone().all(|compacted| compacted);
            assert!(merge || kinds.clone().all(|compacted| !compacted), "mixed");
            if merge {
                let weights = output
                    .inputs
                    .iter()
                    .map(|(_, slice)| slice.len.max(64 << 10));
                let largest = weights.clone().max().unwrap();
                assert!(weights.sum::<u64>() >= largest * GROWTH);
            }
            let young = output.inputs.iter().any(|(_, slice)| {
                slice.index.is_none() && slice.appended_at.after(self.options.min_age) > self.now
            });
            assert!(!young, "consumers have it cached");
        }
    }

    fn slices(&self) -> usize {
        self.partition().slice_count()
    }

    /// Bytes written per byte produced.
    fn amplification(&self) -> f64 {
        let totals = self.state.totals();
        1.0 + totals.compacted.0 as f64 / totals.appended.0 as f64
    }
}

const FOREVER: &[(&str, &str)] = &[("retention.ms", "-1")];

#[test]
fn what_fills_whole_outputs_is_rewritten_once() {
    let mut log = Log::new(FOREVER);
    for _ in 0..3 * 3600 {
        log.append(MIB);
        log.wait(Duration::from_secs(1));
        if log.state.seq().0.is_multiple_of(10) {
            log.compact();
        }
    }
    assert!(log.amplification() <= 2.0, "{}", log.amplification());
    // 10,800 MiB: 42 outputs, and less than one output with the last minute.
    assert!(log.slices() <= 42 + 256 + 60, "{}", log.slices());
    assert!(log.amplification() > 1.9);
}

#[test]
fn what_is_young_or_too_little_is_left_alone() {
    let mut log = Log::new(FOREVER);
    for _ in 0..100 {
        log.append(8 * MIB);
    }
    assert_eq!(log.plan(), None, "it is in the cache");
    log.wait(MINUTE);
    let plan = log.plan().unwrap();
    assert_eq!(plan.outputs.len(), 3);
    assert!(
        plan.outputs
            .iter()
            .all(|output| output.bytes() == 256 * MIB)
    );
    log.carry_out(&plan);
    assert_eq!(log.plan(), None, "the rest waits for more");
    log.wait(30 * MINUTE);
    assert_eq!(log.plan().unwrap().inputs(), 4);
}

#[test]
fn a_long_row_of_slices_is_compacted_however_short_they_are() {
    let mut log = Log::new(FOREVER);
    for _ in 0..8191 {
        log.append(10);
    }
    log.wait(2 * MINUTE);
    assert_eq!(log.plan(), None);
    log.append(10);
    log.wait(2 * MINUTE);
    assert_eq!(log.plan().unwrap().inputs(), 8192);
}

#[test]
fn while_the_state_is_too_large_nothing_waits_for_more() {
    let mut log = Log::new(FOREVER);
    for _ in 0..16 {
        log.append(10);
    }
    log.wait(2 * MINUTE);
    assert_eq!(log.plan(), None);
    log.crowded = true;
    assert_eq!(log.plan().unwrap().inputs(), 16);
    log.compact();
    log.append(10);
    log.wait(2 * MINUTE);
    assert_eq!(log.plan(), None, "to rewrite one slice helps nobody");
}

#[test]
fn what_expires_before_it_must_be_compacted_is_not() {
    let mut log = Log::new(&[("retention.ms", "1200000")]);
    for _ in 0..200 {
        log.append(8 * MIB);
    }
    log.wait(10 * MINUTE);
    assert_eq!(log.plan(), None);
    // One that is kept for longer than it may wait is, as long as it is not about to go.
    let mut log = Log::new(&[("retention.ms", "7200000")]);
    for _ in 0..200 {
        log.append(8 * MIB);
    }
    log.wait(80 * MINUTE);
    assert!(log.plan().is_some());
    log.wait(11 * MINUTE);
    assert_eq!(log.plan(), None);
}

#[test]
fn what_is_compacted_together_expires_together_soon_enough() {
    let mut log = Log::new(&[("retention.ms", "57600000")]);
    // Sixteen hours: an output covers one at most.
    for _ in 0..600 {
        log.append(1000);
        log.wait(MINUTE);
        log.compact();
    }
    let longest = log
        .partition()
        .slices_from(Offset(0))
        .filter(|(_, slice)| slice.index.is_some())
        .map(|(base, slice)| slice.end.since(base))
        .max();
    // Ten records a minute.
    assert!(longest.unwrap() <= 610, "{longest:?}");
    let mut log = Log::new(&[("retention.bytes", "1600000000"), ("retention.ms", "-1")]);
    for _ in 0..100 {
        log.append(8_000_000);
    }
    log.wait(2 * MINUTE);
    let plan = log.plan().unwrap();
    assert!(
        plan.outputs
            .iter()
            .all(|output| output.bytes() <= 100_000_000)
    );
}

#[test]
fn a_topic_may_ask_for_shorter_segments() {
    let mut log = Log::new(&[("retention.ms", "-1"), ("segment.bytes", "16777216")]);
    for _ in 0..4 {
        log.append(8 * MIB);
    }
    log.wait(2 * MINUTE);
    let plan = log.plan().unwrap();
    let lengths: Vec<u64> = plan.outputs.iter().map(Output::bytes).collect();
    assert_eq!(lengths, [16 * MIB, 16 * MIB]);
}

#[test]
fn a_slow_partition_stays_small_in_the_state_and_is_rewritten_a_few_times_at_most() {
    let mut log = Log::new(FOREVER);
    let mut most = 0;
    // 10 KiB every ten seconds for three weeks: 1.7 GiB.
    for n in 0..21 * 24 * 360u64 {
        log.append(10 << 10);
        log.wait(Duration::from_secs(10));
        if n % 90 == 0 {
            log.compact();
        }
        most = most.max(log.slices());
    }
    // Three quarters of an hour raw, less than sixteen of the first length, and all others at least 28 MiB long.
    assert!(most < 270 + 16 + 64, "{most}");
    // Once because it was old (1.8 MiB), and once more when there were sixteen of those.
    assert!(log.amplification() < 3.0, "{}", log.amplification());
}

#[test]
fn thousands_of_short_compacted_slices_are_merged() {
    let mut log = Log::new(FOREVER);
    log.crowded = true;
    for _ in 0..500 {
        for _ in 0..16 {
            log.append(100);
        }
        log.wait(2 * MINUTE);
        log.compact();
    }
    assert!(log.slices() < 3 * 16, "{}", log.slices());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, a plan is well-formed, compacting comes to an end, and the state gets no larger by it.
    #[test]
    fn every_plan_is_one_that_the_fold_accepts(
        steps in prop::collection::vec((1u64..9_000_000, 0u64..900, -500i64..500, any::<bool>()), 1..200),
        crowded in any::<bool>(),
        keep in prop::sample::select(vec!["-1", "600000", "7200000", "86400000"]),
        deleted in 0usize..50,
    ) {
        let mut log = Log::new(&[("retention.ms", keep)]);
        log.crowded = crowded;
        log.options.target = ByteCount::mib(32);
        log.options.job = ByteCount::mib(64);
        for (n, (len, wait, skew, compact)) in steps.into_iter().enumerate() {
            let segment = log.segment();
            let time = Timestamp(log.now.0 + skew * 1000);
            log.append_at(segment, len, time);
            log.wait(Duration::from_secs(wait));
            if compact {
                let before = log.slices();
                log.compact();
                prop_assert!(log.slices() <= before);
            }
            if n == deleted {
                let before = Offset(log.partition().high_watermark().0 / 2);
                log.apply(Op::DeleteRecords { partition: ID, before: Some(before) });
            }
        }
        prop_assert!(log.amplification() < 6.0);
    }
}
