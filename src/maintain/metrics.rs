//! What background work counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::archive::Lag;
use crate::state::table::Counts;
use crate::types::Timestamp;

/// A kind of background work, as metrics and log lines name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Expiring records by time and size.
    Retention,
    /// Forgetting producers.
    Producers,
    /// Deleting dead objects.
    Deletion,
    /// Deleting the log behind the snapshots.
    Truncation,
    /// Finding and deleting orphans.
    Sweep,
    /// Compacting segments.
    Compaction,
    /// Compacting logs: leaving the last record of each key.
    Cleaning,
    /// Looking after tables of the archive.
    Archive,
}

impl Task {
    /// All of them.
    pub const ALL: [Task; 8] = [
        Task::Retention,
        Task::Producers,
        Task::Deletion,
        Task::Truncation,
        Task::Sweep,
        Task::Compaction,
        Task::Cleaning,
        Task::Archive,
    ];

    /// The task as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Task::Retention => "retention",
            Task::Producers => "producers",
            Task::Deletion => "deletion",
            Task::Truncation => "truncation",
            Task::Sweep => "sweep",
            Task::Compaction => "compaction",
            Task::Cleaning => "log_compaction",
            Task::Archive => "archive",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTask {
    task: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: String,
}

type Ratio = Gauge<f64, AtomicU64>;

/// The metrics of background work. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct MaintenanceMetrics {
    runs: Family<OfTask, Counter>,
    failures: Family<OfTask, Counter>,
    last_success: Family<OfTask, Gauge>,
    read: Family<OfTask, Counter>,
    written: Family<OfTask, Counter>,
    deleted: Family<OfKind, Counter>,
    /// Slices and their bytes that are not compacted yet, and the age of the oldest, in seconds.
    backlog_slices: Gauge,
    backlog: Gauge,
    backlog_age: Gauge,
    /// Objects that are dead and not deleted yet.
    dead: Gauge,
    /// Commits that the log has, as far as it is not truncated.
    log: Gauge,
    /// Bytes of compacted topics in which keys may have several records.
    dirty: Gauge,
    /// What was ever written of records, by producers and by compaction, per byte that producers wrote.
    amplification: Ratio,
    /// Jobs that met records which cannot be read.
    unreadable: Counter,
    archive: ArchiveMetrics,
}

/// What there is of tables, by the state; and what this node wrote to them.
#[derive(Clone, Debug, Default)]
struct ArchiveMetrics {
    tables: Gauge,
    files: Gauge,
    bytes: Gauge,
    rows: Gauge,
    rows_with_errors: Gauge,
    lag_records: Gauge,
    lag_bytes: Gauge,
    lag: Gauge,
    archived_rows: Counter,
    archived_files: Counter,
}

/// What is not compacted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Slices.
    pub slices: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the oldest was appended.
    pub oldest: Option<Timestamp>,
}

impl MaintenanceMetrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> MaintenanceMetrics {
        let m = MaintenanceMetrics::default();
        for task in Task::ALL {
            // A counter that is not there yet cannot be alerted on.
            m.runs.get_or_create(&task.into()).inc_by(0);
            m.failures.get_or_create(&task.into()).inc_by(0);
            m.last_success.get_or_create(&task.into()).set(0);
        }
        m.moved(Task::Compaction, 0, 0);
        m.moved(Task::Cleaning, 0, 0);
        m.moved(Task::Archive, 0, 0);
        m.deleted("segment", 0);
        m.deleted("commit", 0);
        m.deleted("orphan", 0);
        m.deleted("archive", 0);
        let r = registry.sub_registry_with_prefix("weir_maintenance");
        r.register(
            "runs",
            "Successful runs of background work that had something to do",
            m.runs.clone(),
        );
        r.register(
            "failures",
            "Runs of background work that failed",
            m.failures.clone(),
        );
        r.register_with_unit(
            "last_success_timestamp",
            "When background work last did something, as Unix time",
            Unit::Seconds,
            m.last_success.clone(),
        );
        r.register_with_unit(
            "read",
            "Read by background work",
            Unit::Bytes,
            m.read.clone(),
        );
        r.register_with_unit(
            "written",
            "Written by background work",
            Unit::Bytes,
            m.written.clone(),
        );
        r.register(
            "deleted_objects",
            "Objects that this node deleted",
            m.deleted.clone(),
        );
        r.register(
            "dead_objects",
            "Objects that hold no more records and wait to be deleted",
            m.dead.clone(),
        );
        r.register(
            "log_commits",
            "Commits in the log since it was last truncated",
            m.log.clone(),
        );
        r.register(
            "unreadable",
            "Jobs that found stored records damaged or missing",
            m.unreadable.clone(),
        );
        let r = registry.sub_registry_with_prefix("weir_compaction");
        r.register(
            "backlog_slices",
            "Slices that are not compacted",
            m.backlog_slices.clone(),
        );
        r.register_with_unit(
            "backlog",
            "Bytes of slices that are not compacted",
            Unit::Bytes,
            m.backlog.clone(),
        );
        r.register_with_unit(
            "backlog_oldest_age",
            "Age of the oldest slice that is not compacted",
            Unit::Seconds,
            m.backlog_age.clone(),
        );
        r.register_with_unit(
            "dirty",
            "Bytes of topics with cleanup.policy=compact that were not compacted by key since they were written",
            Unit::Bytes,
            m.dirty.clone(),
        );
        r.register(
            "write_amplification",
            "Bytes of records ever written, by producers and by compaction, per byte that producers wrote",
            m.amplification.clone(),
        );
        m.archive.register(registry);
        m
    }

    pub(super) fn succeeded(&self, task: Task, now: Timestamp) {
        self.runs.get_or_create(&task.into()).inc();
        self.last_success
            .get_or_create(&task.into())
            .set(now.0 / 1000);
    }

    pub(super) fn failed(&self, task: Task) {
        self.failures.get_or_create(&task.into()).inc();
    }

    /// How often background work of this kind did something.
    pub fn runs(&self, task: Task) -> u64 {
        self.runs.get_or_create(&task.into()).get()
    }

    /// How often it failed.
    pub fn failures(&self, task: Task) -> u64 {
        self.failures.get_or_create(&task.into()).get()
    }

    pub(super) fn moved(&self, task: Task, read: u64, written: u64) {
        self.read.get_or_create(&task.into()).inc_by(read);
        self.written.get_or_create(&task.into()).inc_by(written);
    }

    pub(super) fn deleted(&self, kind: &str, objects: u64) {
        let kind = kind.to_owned();
        self.deleted.get_or_create(&OfKind { kind }).inc_by(objects);
    }

    pub(super) fn unreadable(&self) {
        self.unreadable.inc();
    }

    pub(super) fn set_dead(&self, objects: u64) {
        self.dead.set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    pub(super) fn set_log(&self, commits: u64) {
        self.log.set(i64::try_from(commits).unwrap_or(i64::MAX));
    }

    pub(super) fn set_dirty(&self, bytes: u64) {
        self.dirty.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Bytes of compacted topics in which keys may have several records.
    pub fn dirty(&self) -> i64 {
        self.dirty.get()
    }

    /// Records were added to a table.
    pub(super) fn archived(&self, counts: Counts) {
        self.archive.archived_rows.inc_by(counts.rows);
        self.archive.archived_files.inc_by(counts.files);
    }

    pub(super) fn set_archive(&self, tables: u64, total: Counts, lag: Lag, now: Timestamp) {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let archive = &self.archive;
        archive.tables.set(whole(tables));
        archive.files.set(whole(total.files));
        archive.bytes.set(whole(total.bytes));
        archive.rows.set(whole(total.rows));
        archive.rows_with_errors.set(whole(total.errors));
        archive.lag_records.set(whole(lag.records));
        archive.lag_bytes.set(whole(lag.bytes));
        let age = lag.oldest.map_or(0, |oldest| now.since(oldest).as_secs());
        archive.lag.set(whole(age));
    }

    pub(super) fn set_amplification(&self, ratio: f64) {
        self.amplification.set(ratio);
    }

    pub(super) fn set_backlog(&self, backlog: Backlog, now: Timestamp) {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.backlog_slices.set(whole(backlog.slices));
        self.backlog.set(whole(backlog.bytes));
        let age = backlog
            .oldest
            .map_or(0, |oldest| now.since(oldest).as_secs());
        self.backlog_age.set(whole(age));
    }
}

impl ArchiveMetrics {
    fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("weir_archive");
        r.register("tables", "Tables of archived topics", self.tables.clone());
        r.register("files", "Data files of all tables", self.files.clone());
        r.register_with_unit(
            "files_size",
            "Size of the data files of all tables",
            Unit::Bytes,
            self.bytes.clone(),
        );
        r.register("rows", "Rows of all tables", self.rows.clone());
        r.register(
            "rows_with_errors",
            "Rows of all tables that have an error: something of the record did not fit its columns",
            self.rows_with_errors.clone(),
        );
        r.register(
            "lag_records",
            "Records of archived topics that are not archived yet",
            self.lag_records.clone(),
        );
        r.register_with_unit(
            "lag_size",
            "Size of the records of archived topics that are not archived yet",
            Unit::Bytes,
            self.lag_bytes.clone(),
        );
        r.register_with_unit(
            "lag",
            "Age of the oldest record of an archived topic that is not archived yet",
            Unit::Seconds,
            self.lag.clone(),
        );
        r.register(
            "archived_rows",
            "Rows that this node added to tables",
            self.archived_rows.clone(),
        );
        r.register(
            "archived_files",
            "Data files that this node added to tables",
            self.archived_files.clone(),
        );
    }
}

impl From<Task> for OfTask {
    fn from(task: Task) -> OfTask {
        OfTask { task: task.label() }
    }
}
