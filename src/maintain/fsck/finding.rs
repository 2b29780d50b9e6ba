//! What can be found, and what to do about it.

use serde::{Serialize, Serializer};

use crate::invariants::at_rest::Reference;
use crate::invariants::{Invariant, Violation};
use crate::types::{SegmentId, Seq};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is lost, cannot be read, or keeps nodes from starting.
    Error,
    /// Nothing is lost; something takes space, or wants a look.
    Warning,
    /// As it may be.
    Note,
}

/// What can be found. Each kind means one thing, and there is one thing to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// There is no `cluster.json`.
    NoCluster,
    /// `cluster.json` cannot be understood.
    BadCluster,
    /// Commits are missing in the log.
    MissingCommit,
    /// The log ends before a snapshot of it.
    LogCutOff,
    /// An object that holds records is gone.
    MissingObject,
    /// A snapshot that was announced is gone.
    MissingSnapshot,
    /// The log is truncated further than the newest boundary says.
    MissingBoundary,
    /// An object is shorter or longer than it says.
    WrongLength,
    /// The bytes of an object are not those that were written.
    Corrupt,
    /// A slice does not resolve to its batches.
    BadSlice,
    /// The offsets of a partition are not dense.
    BadOffsets,
    /// Offsets are archived twice, or not at all.
    BadArchive,
    /// A snapshot is not the fold of the log.
    SnapshotDiffers,
    /// Written by newer software.
    Newer,
    /// The store does not hand an object out.
    Unreadable,
    /// Bytes that nothing refers to are damaged.
    DamagedUnused,
    /// Published metadata of a table is not what is derived from the state.
    MetadataDiffers,
    /// A version of a table is not published.
    Unpublished,
    /// A segment that nothing refers to, old.
    Orphan,
    /// What a conformance check left.
    CheckLeftover,
    /// An object that is not Weir's.
    Foreign,
    /// Objects of logs that this version does not know.
    OtherLogs,
    /// Whether segments are in use could not be judged.
    NotJudged,
    /// A segment that nothing refers to yet.
    Uploading,
    /// A snapshot that the state does not list.
    SpareSnapshot,
    /// A commit that was truncated, and is still there.
    SpareCommit,
    /// Commits behind the end of the log.
    Ahead,
    /// What a repair kept of what it replaced or removed.
    Copies,
}

impl Kind {
    /// Every kind, the worst first.
    pub const ALL: [Kind; 28] = [
        Kind::NoCluster,
        Kind::BadCluster,
        Kind::MissingCommit,
        Kind::LogCutOff,
        Kind::MissingObject,
        Kind::MissingSnapshot,
        Kind::MissingBoundary,
        Kind::WrongLength,
        Kind::Corrupt,
        Kind::BadSlice,
        Kind::BadOffsets,
        Kind::BadArchive,
        Kind::SnapshotDiffers,
        Kind::Newer,
        Kind::Unreadable,
        Kind::DamagedUnused,
        Kind::MetadataDiffers,
        Kind::Unpublished,
        Kind::Orphan,
        Kind::CheckLeftover,
        Kind::Foreign,
        Kind::OtherLogs,
        Kind::NotJudged,
        Kind::Uploading,
        Kind::SpareSnapshot,
        Kind::SpareCommit,
        Kind::Ahead,
        Kind::Copies,
    ];

    /// Its name in reports.
    pub fn id(self) -> &'static str {
        match self {
            Kind::NoCluster => "no-cluster",
            Kind::BadCluster => "bad-cluster",
            Kind::MissingCommit => "missing-commit",
            Kind::LogCutOff => "log-cut-off",
            Kind::MissingObject => "missing-object",
            Kind::MissingSnapshot => "missing-snapshot",
            Kind::MissingBoundary => "missing-boundary",
            Kind::WrongLength => "wrong-length",
            Kind::Corrupt => "corrupt",
            Kind::BadSlice => "bad-slice",
            Kind::BadOffsets => "bad-offsets",
            Kind::BadArchive => "bad-archive",
            Kind::MetadataDiffers => "metadata-differs",
            Kind::Unpublished => "unpublished",
            Kind::SnapshotDiffers => "snapshot-differs",
            Kind::Newer => "newer-version",
            Kind::Unreadable => "unreadable",
            Kind::DamagedUnused => "damaged-unused",
            Kind::Orphan => "orphan",
            Kind::CheckLeftover => "check-leftover",
            Kind::Foreign => "foreign",
            Kind::OtherLogs => "other-logs",
            Kind::NotJudged => "not-judged",
            Kind::Uploading => "uploading",
            Kind::SpareSnapshot => "spare-snapshot",
            Kind::SpareCommit => "spare-commit",
            Kind::Ahead => "ahead-of-the-log",
            Kind::Copies => "copies-of-repair",
        }
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Kind::NoCluster
            | Kind::BadCluster
            | Kind::MissingCommit
            | Kind::LogCutOff
            | Kind::MissingObject
            | Kind::MissingSnapshot
            | Kind::MissingBoundary
            | Kind::WrongLength
            | Kind::Corrupt
            | Kind::BadSlice
            | Kind::BadOffsets
            | Kind::BadArchive
            | Kind::SnapshotDiffers
            | Kind::Newer
            | Kind::Unreadable => Severity::Error,
            Kind::DamagedUnused
            | Kind::MetadataDiffers
            | Kind::Unpublished
            | Kind::Orphan
            | Kind::CheckLeftover
            | Kind::Foreign
            | Kind::OtherLogs
            | Kind::NotJudged => Severity::Warning,
            Kind::Uploading
            | Kind::SpareSnapshot
            | Kind::SpareCommit
            | Kind::Ahead
            | Kind::Copies => Severity::Note,
        }
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Kind::NoCluster => {
                "there is no cluster under this URL: a node that opens it creates a new one"
            }
            Kind::BadCluster => "no node can start on this bucket",
            Kind::MissingCommit => {
                "nodes take the log to end before the gap and would write into it, so they may come to different \
                 states from what stands behind it"
            }
            Kind::LogCutOff => {
                "commits at the end of the log are gone; nodes that start use the snapshot and continue after it"
            }
            Kind::MissingObject => "the records in it cannot be read by anybody",
            Kind::MissingSnapshot => {
                "nodes start from an older one, or not at all if the log before it is truncated"
            }
            Kind::MissingBoundary => {
                "a node that was suspended takes the truncated log to end where it last saw it, and would write there"
            }
            Kind::WrongLength => {
                "it was cut off, or something was added to it, after it was stored"
            }
            Kind::Corrupt => {
                "it was changed after it was stored: a commit stops nodes that must fold it, a snapshot is skipped by \
                 nodes that start, as long as there is an older one or the whole log, a segment may lose records"
            }
            Kind::BadSlice => "reads of these offsets fail; they never return wrong bytes",
            Kind::BadOffsets => {
                "a consumer may miss records or read some twice: this is a bug in Weir"
            }
            Kind::BadArchive => {
                "a table has some records twice, or lacks some: this is a bug in Weir"
            }
            Kind::MetadataDiffers => {
                "engines that read this table see something else than what it is: the object was replaced or damaged,                  or nodes name the store by different URLs"
            }
            Kind::Unpublished => {
                "engines see an older version of the table: no node with background work has run since it changed"
            }
            Kind::SnapshotDiffers => {
                "nodes that start from it have another state than those that folded the log: a bug in Weir, or the \
                 snapshot was replaced"
            }
            Kind::Newer => {
                "it was written by a newer version of Weir, so this version cannot check it"
            }
            Kind::Unreadable => "the store has it but refuses to return it",
            Kind::DamagedUnused => {
                "it is damaged in a part that holds no readable records; nothing is lost"
            }
            Kind::Orphan => {
                "it was uploaded and never committed, or its records are gone: it costs its storage"
            }
            Kind::CheckLeftover => "a check of the store was killed before it had cleaned up",
            Kind::Foreign => {
                "Weir does not use such names; it never reads, changes or deletes the object"
            }
            Kind::OtherLogs => {
                "names below logs/ are reserved for logs that this version does not know: it does not check, change or \
                 delete what is there, and a newer version of Weir may depend on it"
            }
            Kind::NotJudged => {
                "while the log is broken, it is not known which segments are still needed"
            }
            Kind::Uploading => "younger than an hour: its commit may be on its way",
            Kind::Ahead => {
                "a node sent them before it knew whether the one before them was stored; none of them was \
                 acknowledged. If another commit is stored there, they are void"
            }
            Kind::Copies => "copies that weir store repair kept of what it replaced or removed",
            Kind::SpareCommit => "left by a node that died while it truncated the log; harmless",
            Kind::SpareSnapshot => {
                "left by a node that died while it took or replaced it; harmless"
            }
        }
    }

    /// What to do about it.
    pub fn action(self) -> &'static str {
        match self {
            Kind::NoCluster => {
                "check the URL and its prefix; if it is right, restore cluster.json from a copy"
            }
            Kind::BadCluster => "restore cluster.json from a copy of the bucket",
            Kind::MissingCommit => {
                "stop all nodes now, restore the commits from a copy or an old version of the object, and check \
                 again. If there is none, weir store repair gives them up, after it has said what is lost"
            }
            Kind::LogCutOff => {
                "stop all nodes, restore the commits from a copy of the bucket, and check again"
            }
            Kind::MissingObject => {
                "restore it from a copy; find the lifecycle rule or person that deletes objects under the prefix"
            }
            Kind::MissingSnapshot => {
                "nothing while there are older ones; find out who deletes objects under the prefix"
            }
            Kind::MissingBoundary => {
                "restore it from a copy; find out who deletes objects under the prefix"
            }
            Kind::WrongLength | Kind::Corrupt => {
                "restore it from a copy or an old version of the object; check the disk or the store. If a commit or \
                 snapshot cannot be restored and no node starts, weir store repair gives it up, after it has said \
                 what is lost"
            }
            Kind::BadSlice => {
                "restore it from a copy or an old version of the object; check the disk or the store"
            }
            Kind::BadOffsets => "report it, with the output of weir inspect",
            Kind::BadArchive => "keep a copy of the bucket, report it",
            Kind::MetadataDiffers => {
                "give all nodes the same URL of the store, delete the object, and restart a node: it is written again"
            }
            Kind::Unpublished => "start a node with background_work=on; see its log for failures",
            Kind::SnapshotDiffers => "keep a copy of the bucket, report it with both sides",
            Kind::Newer => "check with the newest version of Weir that runs on this bucket",
            Kind::Unreadable => {
                "check the permissions, encryption keys and storage class of the object"
            }
            Kind::DamagedUnused => "check the disk or the store; this time nothing was lost",
            Kind::Orphan => "nothing: nodes remove orphans",
            Kind::CheckLeftover => "delete what is below check/ while no check runs",
            Kind::Foreign => "move it elsewhere; only Weir may use the prefix",
            Kind::OtherLogs => {
                "leave it as it is; check with the newest version of Weir that runs on this bucket"
            }
            Kind::NotJudged => "repair the log first; delete nothing until then",
            Kind::Ahead => {
                "nothing, if a node has died or is about to commit; if the commit before them was deleted, restore it"
            }
            Kind::Copies => "delete what is below repair/ when it is no longer needed",
            Kind::Uploading | Kind::SpareSnapshot | Kind::SpareCommit => "nothing",
        }
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.id())
    }
}

/// Something that is not as it should be, or that a person may wonder about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What.
    pub kind: Kind,
    /// The object, by its name in the bucket; of several the first.
    pub object: String,
    /// The id of the invariant that does not hold, such as `I4`.
    pub invariant: Option<&'static str>,
    /// What was found there.
    pub detail: String,
    /// What findings of this kind mean.
    pub meaning: &'static str,
    /// What to do.
    pub action: &'static str,
    /// What to hand to `weir inspect` for a look, if it can show it.
    pub inspect: Option<String>,
}

impl Finding {
    /// A finding about an object.
    pub(super) fn new(kind: Kind, object: &str, detail: impl Into<String>) -> Finding {
        Finding {
            severity: kind.severity(),
            kind,
            object: object.to_owned(),
            invariant: None,
            detail: detail.into(),
            meaning: kind.meaning(),
            action: kind.action(),
            inspect: None,
        }
    }

    /// A violation of an invariant that shows at an object.
    pub(super) fn of(kind: Kind, object: &str, violation: Violation) -> Finding {
        Finding::new(kind, object, violation.what).breaking(violation.invariant)
    }

    pub(super) fn breaking(mut self, invariant: Invariant) -> Finding {
        self.invariant = Some(invariant.id());
        self
    }

    /// Names what `weir inspect` can show of it.
    pub(super) fn inspect(mut self, object: impl Into<String>) -> Finding {
        self.inspect = Some(object.into());
        self
    }
}

/// What a finding is about: it is dropped if that has gone meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Cluster,
    Commit(Seq),
    Snapshot(Seq),
    /// A snapshot that lacks some of its chunks. The PUT of a head may arrive when all of it was deleted: what the
    /// state does not list is no loss.
    Chunks(Seq),
    Boundary(Seq),
    Segment(SegmentId),
    Slice(Reference),
}

/// A finding that was so when its object was read, and may have been overtaken since.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) about: About,
    pub(super) finding: Finding,
}
