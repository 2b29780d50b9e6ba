//! That the tests of this room would notice if a rule were gone. `docs/rules.md` has the table.

use super::*;
use crate::rules::{Rule, assert_needed};

#[test]
fn each_rule_of_log_compaction_has_a_test_that_fails_without_it() {
    let last = examples::the_last_value_of_each_key_stays_where_it_was;
    assert_needed(&[
        (Rule::LastRecordOfKeyStays, last),
        (
            Rule::TombstonesStayForTheirTime,
            examples::a_tombstone_stays_for_its_time_from_the_first_cleaning_and_then_goes,
        ),
        (
            Rule::RecordsBeyondMapStay,
            examples::with_fewer_keys_in_memory_than_there_are_it_takes_several_goes,
        ),
        (
            Rule::TombstonesAgeOnceCleaned,
            examples::a_tombstone_does_not_age_before_all_of_its_batch_is_cleaned,
        ),
        (
            Rule::TransactionalBatchesStayWhole,
            examples::batches_of_transactions_and_control_batches_stay_whole,
        ),
        (
            Rule::CompactedOffsetsAreVerified,
            examples::an_offset_that_was_damaged_in_a_compacted_slice_is_not_written_again,
        ),
        (
            Rule::DecisionsMatchSettings,
            examples::a_switch_of_the_policy_meanwhile_refuses_the_result,
        ),
        (
            Rule::ReplacementsMatchLayout,
            examples::slices_that_go_meanwhile_refuse_the_result_and_the_next_go_succeeds,
        ),
        (
            Rule::CompactionLagIsKept,
            due::what_is_younger_than_the_least_lag_is_left_alone,
        ),
    ]);
}
