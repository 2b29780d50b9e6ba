//! The end of the log, at hand for peers that ask what comes next in it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::types::Seq;

/// How many bytes of the log are kept at hand for peers.
const RECENT: usize = 8 << 20;

/// The most bytes of the log in one answer, a single larger object excepted.
const ANSWER: usize = 4 << 20;

/// The end of the log, as far as it is at hand as whole objects.
#[derive(Debug, Default)]
pub(in crate::manifest) struct Recent {
    /// At successive seqs.
    objects: VecDeque<(Seq, Bytes)>,
    bytes: usize,
}

impl Recent {
    /// Notes what stands at the next seq; `None` if not all of it is at hand.
    pub(in crate::manifest) fn note(&mut self, seq: Seq, object: Option<&Bytes>) {
        let last = self.objects.back().map(|(last, _)| last.next());
        if object.is_none() || last != Some(seq) {
            *self = Recent::default();
        }
        let Some(object) = object else { return };
        self.bytes += object.len();
        self.objects.push_back((seq, object.clone()));
        while self.bytes > RECENT {
            let Some((_, oldest)) = self.objects.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
        }
    }

    /// What comes after `after`, as much as one answer takes; `None` if the next one is not at hand.
    pub(super) fn after(&self, after: Seq) -> Option<Vec<(Seq, Bytes)>> {
        let (first, _) = self.objects.front()?;
        let from = usize::try_from(after.next().0.checked_sub(first.0)?).ok()?;
        let mut left = ANSWER;
        let mut found = Vec::new();
        for (seq, object) in self.objects.iter().skip(from) {
            if !found.is_empty() && object.len() > left {
                break;
            }
            left = left.saturating_sub(object.len());
            found.push((*seq, object.clone()));
        }
        (!found.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(recent: &Recent, after: u64) -> Option<Vec<u64>> {
        let found = recent.after(Seq(after))?;
        Some(found.into_iter().map(|(seq, _)| seq.0).collect())
    }

    #[test]
    fn the_end_of_the_log_is_at_hand_without_gaps_and_within_its_bytes() {
        let mut recent = Recent::default();
        let object = Bytes::from(vec![0; 1 << 20]);
        for seq in 5..=9 {
            recent.note(Seq(seq), Some(&object));
        }
        assert_eq!(seqs(&recent, 3), None);
        assert_eq!(seqs(&recent, 4), Some(vec![5, 6, 7, 8]));
        assert_eq!(seqs(&recent, 7), Some(vec![8, 9]));
        assert_eq!(seqs(&recent, 9), None);
        for seq in 10..=30 {
            recent.note(Seq(seq), Some(&object));
        }
        assert_eq!(seqs(&recent, 21), None);
        assert_eq!(seqs(&recent, 22), Some(vec![23, 24, 25, 26]));
        // One that is not at hand is a gap, and so is what was jumped over.
        recent.note(Seq(31), None);
        assert_eq!(seqs(&recent, 22), None);
        recent.note(Seq(32), Some(&object));
        recent.note(Seq(40), Some(&object));
        assert_eq!(seqs(&recent, 31), None);
        assert_eq!(seqs(&recent, 39), Some(vec![40]));
    }
}
