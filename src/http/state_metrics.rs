//! Metrics of the cluster's state, read from it when somebody asks.

use std::collections::BTreeMap;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::manifest::Manifest;
use crate::state::State;

/// How many groups are shown one by one.
const MAX_GROUPS: usize = 1000;

/// Members and lag of consumer groups, and the size of the state, as this node has folded it.
pub struct StateMetrics {
    manifest: Manifest,
}

impl StateMetrics {
    /// Reads from the fold of `manifest`.
    pub fn new(manifest: Manifest) -> StateMetrics {
        StateMetrics { manifest }
    }
}

impl std::fmt::Debug for StateMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateMetrics")
    }
}

impl Collector for StateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let state = self.manifest.state();
        let mut plain = |name, help, value: usize| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        plain("weir_topics", "Topics", state.topics().count())?;
        plain(
            "weir_slices",
            "Slices of all partitions",
            state.slice_count(),
        )?;
        plain("weir_nodes", "Registered nodes", state.nodes().count())?;
        plain("weir_groups", "Consumer groups", state.groups().count())?;
        self.members(&state, &mut encoder)?;
        self.lag(&state, &mut encoder)
    }
}

impl StateMetrics {
    fn members(
        &self,
        state: &State,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let zero = ConstGauge::new(0i64);
        let help = "Members of the consumer group";
        let mut family =
            encoder.encode_descriptor("weir_group_members", help, None, zero.metric_type())?;
        for (id, group) in state.groups().take(MAX_GROUPS) {
            let labels = [("group", id.as_str())];
            let size = i64::try_from(group.size()).unwrap_or(i64::MAX);
            ConstGauge::new(size).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn lag(
        &self,
        state: &State,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        let zero = ConstGauge::new(0i64);
        let help = "Records of the topic that the group has not committed";
        let unit = Unit::Other("records".to_owned());
        let mut family =
            encoder.encode_descriptor("weir_group_lag", help, Some(&unit), zero.metric_type())?;
        for (id, group) in state.groups().take(MAX_GROUPS) {
            let mut by_topic: BTreeMap<&str, u64> = BTreeMap::new();
            for (partition, committed) in group.offsets() {
                if let Some(topic) = state.topic(partition.topic)
                    && let Some(found) = topic.partition(partition.partition)
                {
                    let from = committed.offset.max(found.log_start());
                    let lag = by_topic.entry(topic.name().as_str()).or_default();
                    *lag = lag.saturating_add(found.high_watermark().since(from));
                }
            }
            for (topic, lag) in by_topic {
                let labels = [("group", id.as_str()), ("topic", topic)];
                let lag = i64::try_from(lag).unwrap_or(i64::MAX);
                ConstGauge::new(lag).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
