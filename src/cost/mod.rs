//! What a workload asks of the store in a second, and what that costs in a month.
//!
//! Arithmetic, no measuring: each line says which request it counts and why so many. What cannot be derived from the
//! code was measured once and is a constant here, with its source. `tests/test_cost.py` holds the result against
//! the requests of a node that runs. It never asks a store or a cloud for anything, and prices are inputs.

mod price;
#[cfg(test)]
mod tests;

pub use price::{Bill, Prices};

use std::time::Duration;

use serde::Serialize;

use crate::types::ByteCount;

/// What is asked of the cluster. Everything is steady and evenly spread.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Bytes produced in a second, by all producers, as they are stored.
    pub rate: f64,
    /// Bytes of a message, with its share of the batch.
    pub message: f64,
    /// Nodes that take them.
    pub nodes: u32,
    /// Consumer groups that each read everything as it comes.
    pub consumers: u32,
    /// For how long messages are kept.
    pub retention: Duration,
    /// Whether old data is compacted.
    pub compaction: bool,
    /// The share of what clients send and get that crosses from one zone to another: 0 to 1.
    pub across_zones: f64,
    /// How nodes are set.
    pub node: NodeSettings,
    /// How long the store takes to create a small object.
    pub put: Duration,
}

/// The settings of a node that decide how many requests it makes.
#[derive(Clone, Copy, Debug)]
pub struct NodeSettings {
    /// `commit_interval`.
    pub commit_interval: Duration,
    /// `follow_interval`.
    pub follow_interval: Duration,
    /// `commits_in_flight`.
    pub commits_in_flight: u32,
    /// `inline_limit`.
    pub inline_limit: ByteCount,
    /// `segment_size`.
    pub segment_size: ByteCount,
    /// `compaction_target`.
    pub compaction_target: ByteCount,
}

/// How requests are billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Billed {
    /// As PUT, COPY, POST or LIST.
    Put,
    /// As GET or HEAD.
    Get,
}

/// One kind of request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What for.
    pub what: &'static str,
    /// As what it is billed.
    pub billed: Billed,
    /// How many in a second, of all nodes.
    pub per_second: f64,
}

/// Everything asked of the store.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Demand {
    /// By kind of request.
    pub requests: Vec<Line>,
    /// Bytes kept, at any time.
    pub stored: f64,
    /// Bytes in a second that cross from one zone to another.
    pub across_zones: f64,
}

/// A slice of a read: neighbours come with one GET of at most so many bytes ([0025]).
///
/// [0025]: ../../docs/decisions/0025-compacted-segments.md
const READ: f64 = 4.0 * MIB;

/// The parts in which compacted segments are uploaded.
const PART: f64 = 8.0 * MIB;

const MIB: f64 = 1024.0 * 1024.0;

/// A snapshot after so many commits: an object, and a commit that announces it.
const SNAPSHOT_EVERY: f64 = 256.0;

/// Looks at the log per second by a node that alone serves its consumers: each fetch that found nothing asks once, and
/// clients begin one twice a second and group. Measured with ten commits a second: 10.
const LOOKS_ALONE: f64 = 10.0;

impl Workload {
    /// What all nodes ask of the store.
    pub fn demand(&self) -> Demand {
        let nodes = f64::from(self.nodes.max(1));
        let commits = self.commits_per_node();
        let all_commits = commits * nodes;
        let lost = self.races_lost_per_commit(commits);
        let batch = if commits > 0.0 {
            self.rate / nodes / commits
        } else {
            0.0
        };
        let is_inline = batch <= self.node.inline_limit.0 as f64;
        let per_commit = (batch / self.node.segment_size.0 as f64).ceil();
        let segments = if is_inline {
            0.0
        } else {
            all_commits * per_commit
        };
        let segment = if segments > 0.0 {
            self.rate / segments
        } else {
            0.0
        };
        let mut requests = Vec::new();
        let mut add = |what, billed, per_second: f64| {
            if per_second > 0.0 {
                requests.push(Line {
                    what,
                    billed,
                    per_second,
                });
            }
        };
        add("commits", Billed::Put, all_commits);
        add("segments", Billed::Put, segments);
        add("commits that lost a race", Billed::Put, all_commits * lost);
        add("looking who won", Billed::Get, all_commits * lost * 2.0);
        add(
            "commits of other nodes",
            Billed::Get,
            all_commits * (nodes - 1.0),
        );
        if self.consumers > 0 {
            let looks = if self.nodes > 1 {
                1.0 / self.node.follow_interval.as_secs_f64().max(0.001)
            } else {
                LOOKS_ALONE.min(commits.max(1.0))
            };
            add("looking for new commits", Billed::Get, looks * nodes);
            // Each node reads once what others wrote, whatever the number of its consumers: the rest comes out of its
            // cache.
            let of_others = segments * (nodes - 1.0) * (segment / READ).ceil();
            add("segments of other nodes", Billed::Get, of_others);
        }
        add("snapshots", Billed::Put, 2.0 * all_commits / SNAPSHOT_EVERY);
        if self.compaction {
            let target = self.node.compaction_target.0 as f64;
            let read = (self.rate / READ).max(if is_inline { all_commits } else { segments });
            add("reading for compaction", Billed::Get, read);
            add(
                "compacted segments, in parts",
                Billed::Put,
                self.rate / PART + 2.0 * self.rate / target,
            );
        }
        let clients = 1.0 + f64::from(self.consumers);
        Demand {
            requests,
            stored: self.rate * self.retention.as_secs_f64(),
            across_zones: self.rate * clients * self.across_zones,
        }
    }

    /// Commits of one node in a second: one per message until the interval, or the time of a PUT, holds them together.
    fn commits_per_node(&self) -> f64 {
        let messages = self.rate / self.message.max(1.0) / f64::from(self.nodes.max(1));
        let put = self.put.as_secs_f64().max(1e-6);
        // Nodes that meet others' commits have one under way.
        let window = if self.nodes > 1 {
            1
        } else {
            self.node.commits_in_flight.max(1)
        };
        let apart = (put / f64::from(window)).max(self.node.commit_interval.as_secs_f64());
        messages.min(1.0 / apart)
    }

    /// How often another node is faster, before a commit is in the log: as often as one of the others begins a commit
    /// while this one is under way.
    fn races_lost_per_commit(&self, commits: f64) -> f64 {
        let others = f64::from(self.nodes.max(1)) - 1.0;
        (others * commits * self.put.as_secs_f64()).min(others)
    }
}

impl Demand {
    /// How many requests in a second are billed so.
    pub fn per_second(&self, billed: Billed) -> f64 {
        let of_it = self.requests.iter().filter(|line| line.billed == billed);
        of_it.map(|line| line.per_second).sum()
    }
}
