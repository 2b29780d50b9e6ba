//! That the tests of this room would notice if a rule were gone. `docs/rules.md` has the table.

use super::*;
use crate::mutants::{Active, Mutant, assert_found, assert_found_together};

#[test]
fn each_rule_of_retention_has_a_test_that_fails_without_it() {
    assert_found(&[
        (
            Mutant::YoungExpire,
            expiring::records_older_than_the_retention_go_and_no_younger_ones,
        ),
        (
            Mutant::JustAppendedExpire,
            expiring::records_of_long_ago_stay_while_they_are_written_and_read,
        ),
        (
            Mutant::CutBelowSize,
            expiring::a_partition_shrinks_to_its_size_and_never_below,
        ),
        (
            Mutant::CompactedExpire,
            expiring::only_what_is_to_be_deleted_expires,
        ),
        (
            Mutant::SettingsUnchecked,
            expiring::a_node_that_has_not_heard_of_new_settings_expires_nothing_by_the_old_ones,
        ),
        (
            Mutant::ProducersForgottenEarly,
            expiring::a_producer_is_forgotten_a_day_after_its_last_batch,
        ),
    ]);
}

#[test]
fn each_rule_of_deleting_has_a_test_that_fails_without_it() {
    assert_found(&[
        (
            Mutant::GraceIgnored,
            deleting::a_dead_segment_goes_after_the_grace_period_and_a_live_one_stays,
        ),
        (
            Mutant::GraceByFoldAlone,
            deleting::where_the_log_is_ahead_of_time_as_well_nothing_is_deleted_early,
        ),
        (
            Mutant::LivenessUnchecked,
            deleting::a_commit_that_is_alive_and_dead_stays,
        ),
        (
            Mutant::DeadCommitsOfTheLog,
            deleting::a_dead_commit_goes_only_when_the_log_is_truncated_beyond_it,
        ),
        (
            Mutant::TruncationByFoldAlone,
            deleting::where_the_log_is_ahead_of_time_it_is_not_truncated_early,
        ),
        (
            Mutant::BoundaryUnread,
            deleting::the_log_is_kept_while_no_snapshot_beyond_it_can_be_read_back,
        ),
        (
            Mutant::BoundaryNotStored,
            deleting::a_boundary_that_was_raised_and_not_stored_is_stored_before_anything_is_deleted,
        ),
        (
            Mutant::LiveCommitsTruncated,
            deleting::the_log_is_deleted_behind_a_snapshot_of_age_but_for_commits_with_records,
        ),
        (
            Mutant::DeadCommitsTruncated,
            deleting::a_dead_commit_goes_only_when_the_log_is_truncated_beyond_it,
        ),
        (
            Mutant::TruncatedSaidFirst,
            deleting::the_log_is_said_to_be_truncated_when_it_is,
        ),
        (
            Mutant::ClaimsIgnored,
            deleting::a_job_that_another_node_has_is_left_to_it,
        ),
    ]);
}

#[test]
fn each_rule_of_repair_has_a_test_that_fails_without_it() {
    assert_found(&[
        (
            Mutant::SealIgnored,
            repairing::a_node_that_had_folded_what_was_replaced_halts_at_the_seal,
        ),
        (
            Mutant::RepairedPartCompared,
            repairing::nodes_do_not_compare_themselves_with_snapshots_of_what_was_replaced,
        ),
        (
            Mutant::VoidMintsNothing,
            repairing::whatever_commit_was_lost_what_is_acknowledged_after_the_repair_is_read,
        ),
        (
            Mutant::RepairedUnderNodes,
            repairing::a_bucket_is_not_repaired_under_nodes_that_may_be_running,
        ),
        (
            Mutant::RepairedWithoutCopy,
            repairing::a_repair_that_is_killed_anywhere_is_finished_by_the_next_and_loses_nothing_more,
        ),
    ]);
}

#[test]
fn the_grace_in_the_folds_time_is_a_second_line() {
    // What a node has known for so long is as old by the fold's time, unless somebody's clock is set back.
    let both = [Mutant::WallClockDestroys, Mutant::GraceByFoldAlone];
    let test = deleting::a_clock_that_runs_ahead_of_the_log_deletes_nothing_early;
    for bug in both {
        let _on = Active::new(&[bug]);
        test();
    }
    assert_found_together(&both, test);
}

#[test]
fn each_rule_of_the_sweep_has_a_test_that_fails_without_it() {
    let orphans = deleting::an_orphan_goes_when_it_can_never_be_committed_any_more;
    let others =
        deleting::snapshots_that_were_never_announced_old_boundaries_and_old_checks_are_swept_up;
    assert_found(&[
        (Mutant::SweepTakesLive, orphans),
        (Mutant::SweepTakesDead, orphans),
        (Mutant::SweepTakesYoung, orphans),
        (Mutant::SweepByOldState, orphans),
        (
            Mutant::SweepTakesCommits,
            deleting::what_a_stalled_writer_puts_in_the_truncated_log_is_swept_up,
        ),
        (Mutant::SweepTakesSnapshots, others),
        (Mutant::SweepTakesChunks, others),
        (Mutant::SweepTakesBoundaries, others),
        (Mutant::SweepTakesChecks, orphans),
    ]);
}

#[test]
fn each_rule_of_compaction_has_a_test_that_fails_without_it() {
    assert_found(&[
        (
            Mutant::BoundsUnchecked,
            compacting::a_compaction_whose_inputs_changed_is_refused_and_its_segment_deleted_at_once,
        ),
        (
            Mutant::UnknownDiscarded,
            compacting::a_segment_whose_op_may_have_taken_effect_is_left_to_the_sweep,
        ),
        (
            Mutant::ReplacedIsDamage,
            compacting::an_input_that_went_and_was_deleted_meanwhile_is_no_damage,
        ),
        (
            Mutant::DamagedLeftOut,
            compacting::damaged_and_missing_records_are_reported_and_never_dropped,
        ),
        (
            Mutant::MissingIsFinal,
            compacting::a_reader_that_misses_an_object_looks_where_its_records_are_now,
        ),
    ]);
}
