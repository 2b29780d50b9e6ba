//! That the tests of this room would notice if a rule were gone. `docs/rules.md` has the table.

use super::*;
use crate::rules::{Broken, Rule, assert_needed, assert_needed_together};

#[test]
fn each_rule_of_retention_has_a_test_that_fails_without_it() {
    assert_needed(&[
        (
            Rule::RetentionSparesYoungRecords,
            expiring::records_older_than_the_retention_go_and_no_younger_ones,
        ),
        (
            Rule::RetentionSparesFreshAppends,
            expiring::records_of_long_ago_stay_while_they_are_written_and_read,
        ),
        (
            Rule::RetentionKeepsItsBytes,
            expiring::a_partition_shrinks_to_its_size_and_never_below,
        ),
        (
            Rule::RetentionSparesCompactedTopics,
            expiring::only_what_is_to_be_deleted_expires,
        ),
        (
            Rule::DecisionsMatchSettings,
            expiring::a_node_that_has_not_heard_of_new_settings_expires_nothing_by_the_old_ones,
        ),
        (
            Rule::ProducersAreRemembered,
            expiring::a_producer_is_forgotten_a_day_after_its_last_batch,
        ),
    ]);
}

#[test]
fn each_rule_of_deleting_has_a_test_that_fails_without_it() {
    assert_needed(&[
        (
            Rule::DeadObjectsWaitForGrace,
            deleting::a_dead_segment_goes_after_the_grace_period_and_a_live_one_stays,
        ),
        (
            Rule::GraceGoesByOwnClock,
            deleting::where_the_log_is_ahead_of_time_as_well_nothing_is_deleted_early,
        ),
        (
            Rule::LiveObjectsAreNotDeleted,
            deleting::a_commit_that_is_alive_and_dead_stays,
        ),
        (
            Rule::DeadCommitsWaitForTruncation,
            deleting::a_dead_commit_goes_only_when_the_log_is_truncated_beyond_it,
        ),
        (
            Rule::TruncationGoesByOwnClock,
            deleting::where_the_log_is_ahead_of_time_it_is_not_truncated_early,
        ),
        (
            Rule::TruncationNeedsReadableSnapshot,
            deleting::the_log_is_kept_while_no_snapshot_beyond_it_can_be_read_back,
        ),
        (
            Rule::BoundaryPrecedesDeletion,
            deleting::a_boundary_that_was_raised_and_not_stored_is_stored_before_anything_is_deleted,
        ),
        (
            Rule::TruncationSparesLiveCommits,
            deleting::the_log_is_deleted_behind_a_snapshot_of_age_but_for_commits_with_records,
        ),
        (
            Rule::TruncationSparesDeadCommits,
            deleting::a_dead_commit_goes_only_when_the_log_is_truncated_beyond_it,
        ),
        (
            Rule::TruncationIsRecordedLast,
            deleting::the_log_is_said_to_be_truncated_when_it_is,
        ),
        (
            Rule::JobsHaveOneHolder,
            deleting::a_job_that_another_node_has_is_left_to_it,
        ),
    ]);
}

#[test]
fn each_rule_of_the_archive_has_a_test_that_fails_without_it() {
    assert_needed(&[
        (
            Rule::UnsettledFilesAreKept,
            archiving::a_file_whose_op_may_have_taken_effect_is_left_to_the_sweep,
        ),
        (
            Rule::UnnamedManifestsWaitForGrace,
            archiving::small_neighbours_are_merged_and_what_they_were_goes_after_the_grace_period,
        ),
        (
            Rule::SweepSparesFilesOfTables,
            archiving::the_sweep_takes_files_of_no_table_and_no_others,
        ),
        (
            Rule::SweepSparesYoungFiles,
            archiving::the_sweep_takes_files_of_no_table_and_no_others,
        ),
    ]);
}

#[test]
fn each_rule_of_repair_has_a_test_that_fails_without_it() {
    assert_needed(&[
        (
            Rule::SealedOutNodesHalt,
            repairing::a_node_that_had_folded_what_was_replaced_halts_at_the_seal,
        ),
        (
            Rule::RepairedPartsAreNotCompared,
            repairing::nodes_do_not_compare_themselves_with_snapshots_of_what_was_replaced,
        ),
        (
            Rule::VoidsMintUnusedIds,
            repairing::whatever_commit_was_lost_what_is_acknowledged_after_the_repair_is_read,
        ),
        (
            Rule::RepairNeedsStoppedNodes,
            repairing::a_bucket_is_not_repaired_under_nodes_that_may_be_running,
        ),
        (
            Rule::RepairCopiesFirst,
            repairing::a_repair_that_is_killed_anywhere_is_finished_by_the_next_and_loses_nothing_more,
        ),
    ]);
}

#[test]
fn the_grace_in_the_folds_time_is_a_second_line() {
    // What a node has known for so long is as old by the fold's time, unless somebody's clock is set back.
    let both = [
        Rule::DestructionDistrustsWallClock,
        Rule::GraceGoesByOwnClock,
    ];
    let test = deleting::a_clock_that_runs_ahead_of_the_log_deletes_nothing_early;
    for one in both {
        let _broken = Broken::new(&[one]);
        test();
    }
    assert_needed_together(&both, test);
}

#[test]
fn each_rule_of_the_sweep_has_a_test_that_fails_without_it() {
    let orphans = deleting::an_orphan_goes_when_it_can_never_be_committed_any_more;
    let others =
        deleting::snapshots_that_were_never_announced_old_boundaries_and_old_checks_are_swept_up;
    assert_needed(&[
        (Rule::SweepSparesLiveSegments, orphans),
        (Rule::SweepSparesDeadSegments, orphans),
        (Rule::SweepSparesYoungSegments, orphans),
        (Rule::SweepSeesItsBoundary, orphans),
        (
            Rule::SweepSparesNeededCommits,
            deleting::what_a_stalled_writer_puts_in_the_truncated_log_is_swept_up,
        ),
        (Rule::SweepSparesKnownSnapshots, others),
        (Rule::SweepSparesNeededChunks, others),
        (Rule::SweepSparesNewestBoundary, others),
        (Rule::SweepSparesRunningChecks, orphans),
    ]);
}

#[test]
fn each_rule_of_compaction_has_a_test_that_fails_without_it() {
    assert_needed(&[
        (
            Rule::ReplacementsMatchLayout,
            compacting::a_compaction_whose_inputs_changed_is_refused_and_its_segment_deleted_at_once,
        ),
        (
            Rule::UnsettledOutputsAreKept,
            compacting::a_segment_whose_op_may_have_taken_effect_is_left_to_the_sweep,
        ),
        (
            Rule::ReplacedInputsAreNoDamage,
            compacting::an_input_that_went_and_was_deleted_meanwhile_is_no_damage,
        ),
        (
            Rule::DamageIsReported,
            compacting::damaged_and_missing_records_are_reported_and_never_dropped,
        ),
        (
            Rule::MissingObjectsAreLookedUpAgain,
            compacting::a_reader_that_misses_an_object_looks_where_its_records_are_now,
        ),
    ]);
}
