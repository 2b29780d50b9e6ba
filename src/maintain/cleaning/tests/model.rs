//! Random appends, cleanings and the rest against a list of records.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::invariants::at_rest::offsets_are_dense;
use crate::state::op::Op;

/// How long tombstones stay.
const RETENTION: Duration = Duration::from_secs(30);

/// What happens to the topic.
#[derive(Clone, Debug)]
enum Step {
    /// An idempotent producer appends a batch: key and whether there is a value.
    Append(Codec, Vec<(u8, bool)>),
    Wait(Duration),
    /// A cleaning with memory for so many keys and segments of so many bytes.
    Clean(u64, u64),
    /// DeleteRecords of this part of the log, in hundredths.
    Delete(u8),
    /// A producer repeats one of its last five batches.
    Retry(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let records = proptest::collection::vec((0..8_u8, any::<bool>()), 1..12);
    let codec = proptest::sample::select(Codec::ALL.to_vec());
    prop_oneof![
        6 => (codec, records).prop_map(|(codec, records)| Step::Append(codec, records)),
        3 => (1..3_000_u64).prop_map(|millis| Step::Wait(Duration::from_millis(millis))),
        1 => Just(Step::Wait(RETENTION / 2)),
        4 => (1..10_u64, 1..3_000_u64).prop_map(|(keys, bytes)| Step::Clean(keys, bytes)),
        1 => (0..60_u8).prop_map(Step::Delete),
        2 => (0..5_usize).prop_map(Step::Retry),
    ]
}

/// A record of the model.
#[derive(Clone, Debug)]
struct Kept {
    seen: Seen,
    /// The end of its batch.
    batch_end: i64,
    /// When it goes, if it is a tombstone that was cleaned once.
    horizon: Option<Timestamp>,
}

#[derive(Default)]
struct Model {
    /// Every record ever appended, cleaned away or not.
    all: Vec<Seen>,
    kept: Vec<Kept>,
    /// The batches, with the offsets they got.
    sent: Vec<(Bytes, i64)>,
    cleaned_to: i64,
    log_start: i64,
}

impl Model {
    fn append(&mut self, batch: &Bytes, base: i64) {
        let records = seen(batch);
        let batch_end = base + records.len() as i64;
        for record in records {
            let seen = Seen {
                offset: base + record.offset,
                ..record
            };
            self.all.push(seen.clone());
            self.kept.push(Kept {
                seen,
                batch_end,
                horizon: None,
            });
        }
        self.sent.push((batch.clone(), base));
    }

    /// What a cleaning up to `to` at that time leaves.
    fn clean(&mut self, to: i64, now: Timestamp) {
        let dirty = self.cleaned_to.max(self.log_start);
        let last: BTreeMap<Vec<u8>, i64> = self
            .kept
            .iter()
            .filter(|kept| (dirty..to).contains(&kept.seen.offset))
            .map(|kept| (kept.seen.key.clone().unwrap(), kept.seen.offset))
            .collect();
        self.kept.retain_mut(|kept| {
            let record = &kept.seen;
            if record.offset >= to {
                return true;
            }
            let superseded = last
                .get(record.key.as_ref().unwrap())
                .is_some_and(|last| *last > record.offset);
            let over = record.value.is_none() && kept.horizon.is_some_and(|time| time <= now);
            if record.value.is_none() && kept.batch_end <= to {
                kept.horizon.get_or_insert(now.after(RETENTION));
            }
            record.offset >= self.log_start && !superseded && !over
        });
        self.cleaned_to = self.cleaned_to.max(to);
    }

    fn visible(&self) -> Vec<Seen> {
        self.kept
            .iter()
            .filter(|kept| kept.seen.offset >= self.log_start)
            .map(|kept| kept.seen.clone())
            .collect()
    }

    /// What must hold whatever the rules of cleaning are.
    fn check(&self) {
        let visible = self.visible();
        let offsets: BTreeSet<i64> = visible.iter().map(|r| r.offset).collect();
        let mut last: BTreeMap<&Vec<u8>, &Seen> = BTreeMap::new();
        for record in self.all.iter().filter(|r| r.offset >= self.log_start) {
            last.insert(record.key.as_ref().unwrap(), record);
        }
        for record in last.values().filter(|record| record.value.is_some()) {
            assert!(offsets.contains(&record.offset), "lost {record:?}");
        }
        let mut keys = BTreeSet::new();
        for record in visible.iter().filter(|r| r.offset < self.cleaned_to) {
            assert!(keys.insert(&record.key), "{:?} twice", record.key);
        }
    }
}

async fn run(steps: Vec<Step>) {
    let mut world = World::new(EAGER).await;
    world.set("delete.retention.ms", "30000").await;
    let mut model = Model::default();
    let (producer, epoch) = (ProducerId(77), ProducerEpoch(0));
    let mut sequence = 0;
    for step in steps {
        match step {
            Step::Append(codec, records) => {
                let mut batch = BatchBuilder::new(codec).producer(producer, epoch, sequence);
                for (n, (key, has_value)) in records.iter().enumerate() {
                    let value = format!("{key} {sequence} {n}");
                    let value = has_value.then_some(value.as_bytes());
                    let time = world.now().after(Duration::from_millis(n as u64));
                    batch.push(time, Some(&[*key]), value, &[]).unwrap();
                }
                sequence += batch.record_count();
                let batch = batch.finish().unwrap();
                let base = world.append(batch.clone()).await;
                model.append(&batch, base);
            }
            Step::Wait(duration) => wait(duration).await,
            Step::Clean(keys, bytes) => {
                world.options = CleaningOptions {
                    dedupe_buffer: ByteCount(keys * 32),
                    target: ByteCount(bytes),
                };
                let now = world.now();
                let before = world.partition();
                if let Some(cleaning) = world.clean().await.unwrap() {
                    let after = world.partition();
                    assert!(cleaning.to > before.cleaned_to(), "no progress");
                    assert_eq!(after.cleaned_to(), cleaning.to);
                    assert_eq!(offsets_are_dense("t", &after), None);
                    assert_eq!(after.high_watermark(), before.high_watermark());
                    model.clean(cleaning.to.0, now);
                }
            }
            Step::Delete(hundredths) => {
                let end = world.partition().high_watermark().0;
                let before = end * i64::from(hundredths) / 100;
                let delete = Op::DeleteRecords {
                    partition: world.id(),
                    before: Some(Offset(before)),
                };
                let deleted = world.node.manifest().commit_one(delete).await;
                deleted.unwrap().unwrap();
                model.log_start = model.log_start.max(before);
            }
            Step::Retry(back) => {
                let Some((batch, base)) = model.sent.iter().rev().nth(back) else {
                    continue;
                };
                let answered = world.append(batch.clone()).await;
                assert_eq!(answered, *base, "a retry got another offset");
            }
        }
        let expected = model.visible();
        assert_eq!(world.read().await, expected);
        model.check();
    }
    let (start, end) = (model.log_start, world.partition().high_watermark().0);
    let expected = model.visible();
    for offset in start..end {
        // One batch at a time, so that every offset is a place where reading begins.
        let read = world.fetch(offset, 1).await;
        let mut found = batches(&read).first().map(seen).unwrap_or_default();
        found.retain(|record| record.offset >= offset);
        let mut rest = expected.iter().filter(|record| record.offset >= offset);
        // A batch keeps its end when its last records go, so it may hold nothing for this reader.
        for record in found {
            assert_eq!(Some(&record), rest.next());
        }
        if read.is_empty() {
            assert_eq!(rest.next(), None);
        }
    }
    assert_eq!(offsets_are_dense("t", &world.partition()), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn cleanings_leave_what_the_model_says(steps in proptest::collection::vec(step(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(steps));
    }
}
