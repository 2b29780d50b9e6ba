//! What nodes say to each other, in bytes.

use std::fmt;

use aws_lc_rs::hmac;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::manifest::Declined;
use crate::types::{LogId, PeerKey, Seq};

/// Where commits are forwarded to. The path is older than the word: nodes of before ask by it and answer at it.
pub const FORWARD: &str = "/peer/carry";
/// Where a log is asked for; the query is a [`LogQuery`].
pub const LOG: &str = "/peer/log";

/// The header with the [`Seal`], of questions and answers.
pub const SEAL: &str = "weir-seal";

/// How many bytes stand before each object of the log: its seq and its length, both little endian.
const FRAME: usize = 8 + 4;

/// Shows that who wrote a text knows a node's key: HMAC-SHA-256 in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal(String);

impl Seal {
    /// The seal of a question: its method, its path and query, and its body.
    pub fn question(key: &PeerKey, what: &str, body: &[u8]) -> Seal {
        Seal::of(key, &[b"question ", what.as_bytes(), b"\n", body])
    }

    /// The seal of the answer to the question of that seal.
    pub fn answer(key: &PeerKey, question: &Seal, status: u16, body: &[u8]) -> Seal {
        let status = status.to_string();
        let question = question.0.as_bytes();
        Seal::of(
            key,
            &[b"answer ", question, b" ", status.as_bytes(), b"\n", body],
        )
    }

    fn of(key: &PeerKey, parts: &[&[u8]]) -> Seal {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let mut signing = hmac::Context::with_key(&key);
        parts.iter().for_each(|part| signing.update(part));
        let digits = |byte: &u8| format!("{byte:02x}");
        Seal(signing.sign().as_ref().iter().map(digits).collect())
    }

    /// As it stands in the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the one that was sent. Takes as long whether they differ early or late.
    pub fn is(&self, sent: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), sent).is_ok()
    }
}

/// What is asked for of a log: `after=7`, and `&log=1` behind it unless it is the first log. So nodes of before, which
/// know no other, understand what is asked of that one, and decline what is asked of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Which log.
    pub log: LogId,
    /// The last seq in it that the asking node has.
    pub after: Seq,
}

impl LogQuery {
    /// Reads what stands behind the `?`; `None` if it is not such a query.
    pub fn parse(query: &str) -> Option<LogQuery> {
        let (mut log, mut after) = (None, None);
        for (name, value) in query
            .split('&')
            .map(|part| part.split_once('='))
            .collect::<Option<Vec<_>>>()?
        {
            match name {
                "log" if log.is_none() => log = Some(LogId(value.parse().ok()?)),
                "after" if after.is_none() => after = Some(Seq(value.parse().ok()?)),
                _ => return None,
            }
        }
        let log = log.unwrap_or(LogId::ZERO);
        after.map(|after| LogQuery { log, after })
    }
}

impl fmt::Display for LogQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after={}", self.after)?;
        match self.log {
            LogId::ZERO => Ok(()),
            log => write!(f, "&log={log}"),
        }
    }
}

/// Objects of the log in one body.
pub fn frames(objects: &[(Seq, Bytes)]) -> Bytes {
    let len = objects.iter().map(|(_, object)| FRAME + object.len());
    let mut body = BytesMut::with_capacity(len.sum());
    for (seq, object) in objects {
        body.put_u64_le(seq.0);
        body.put_u32_le(u32::try_from(object.len()).unwrap_or(u32::MAX));
        body.extend_from_slice(object);
    }
    body.freeze()
}

/// The objects in a body; `None` if it is not made of frames.
pub fn unframe(mut body: Bytes) -> Option<Vec<(Seq, Bytes)>> {
    let mut objects = Vec::new();
    while body.has_remaining() {
        if body.remaining() < FRAME {
            return None;
        }
        let seq = Seq(body.get_u64_le());
        let len = usize::try_from(body.get_u32_le()).ok()?;
        if body.remaining() < len {
            return None;
        }
        objects.push((seq, body.split_to(len)));
    }
    Some(objects)
}

/// The word for why a node says no.
pub fn word(declined: Declined) -> &'static str {
    match declined {
        Declined::NotWinning => "not-winning",
        Declined::Full => "full",
        Declined::Unfit => "unfit",
        Declined::OtherLog => "other-log",
        Declined::Forgotten => "forgotten",
        Declined::Stopping => "stopping",
    }
}

/// What the word means.
pub fn meaning(word: &[u8]) -> Option<Declined> {
    use Declined::{Forgotten, Full, NotWinning, OtherLog, Stopping, Unfit};
    [NotWinning, Full, Unfit, OtherLog, Forgotten, Stopping]
        .into_iter()
        .find(|declined| self::word(*declined).as_bytes() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written_and_nothing_else_is() {
        let objects: Vec<(Seq, Bytes)> = vec![
            (Seq(7), Bytes::from_static(b"one")),
            (Seq(8), Bytes::new()),
            (Seq(u64::MAX), Bytes::from(vec![9; 100_000])),
        ];
        let body = frames(&objects);
        assert_eq!(unframe(body.clone()), Some(objects));
        assert_eq!(unframe(Bytes::new()), Some(Vec::new()));
        for cut in [1, 11, 14, body.len() - 1] {
            assert_eq!(unframe(body.slice(..cut)), None);
        }
    }

    #[test]
    fn a_seal_is_of_one_key_one_question_and_one_answer() {
        let (key, other) = (PeerKey::new([1; 32]), PeerKey::new([2; 32]));
        let seal = Seal::question(&key, "GET /peer/log?after=3", b"");
        assert!(seal.is(seal.as_str().as_bytes()));
        for forged in [
            Seal::question(&other, "GET /peer/log?after=3", b""),
            Seal::question(&key, "GET /peer/log?after=4", b""),
            Seal::question(&key, "GET /peer/log?after=3", b"x"),
            Seal::answer(&key, &seal, 200, b""),
        ] {
            assert!(!seal.is(forged.as_str().as_bytes()));
        }
        let answer = Seal::answer(&key, &seal, 200, b"7");
        assert_ne!(answer, Seal::answer(&key, &seal, 409, b"7"));
        assert_ne!(answer, Seal::answer(&key, &answer, 200, b"7"));
        assert!(!seal.is(b""));
    }

    #[test]
    fn the_first_log_is_asked_for_as_nodes_of_before_do_and_others_by_their_number() {
        let query = |log, after| LogQuery {
            log: LogId(log),
            after: Seq(after),
        };
        assert_eq!(query(0, 7).to_string(), "after=7");
        assert_eq!(query(3, 7).to_string(), "after=7&log=3");
        for asked in [query(0, 0), query(0, u64::MAX), query(u32::MAX, 7)] {
            assert_eq!(LogQuery::parse(&asked.to_string()), Some(asked));
        }
        assert_eq!(LogQuery::parse("log=0&after=7"), Some(query(0, 7)));
        for other in [
            "",
            "7",
            "after",
            "after=",
            "after=x",
            "after=-1",
            "log=1",
            "after=1&",
            "after=1&log=x",
            "after=1&log=4294967296",
            "after=1&after=2",
            "after=1&log=0&log=1",
            "after=1&more=1",
        ] {
            assert_eq!(LogQuery::parse(other), None, "{other}");
        }
    }

    #[test]
    fn every_refusal_has_its_word() {
        for declined in [
            Declined::NotWinning,
            Declined::Full,
            Declined::Unfit,
            Declined::OtherLog,
            Declined::Forgotten,
            Declined::Stopping,
        ] {
            assert_eq!(meaning(word(declined).as_bytes()), Some(declined));
        }
        assert_eq!(meaning(b"no"), None);
    }
}
