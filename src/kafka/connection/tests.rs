//! Order, overlap and ends, with calls that the test finishes.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::net::BytePermit;
use crate::types::ByteCount;

/// What the calls of a connection do, seen from the test. A frame is one letter for its overlap and one for its name.
#[derive(Clone, Default)]
struct Stage {
    /// Names in the order in which calls were first polled, `x` names as dropped.
    log: Arc<Mutex<Vec<String>>>,
    finish: Arc<Mutex<std::collections::HashMap<String, oneshot::Sender<Outcome>>>>,
}

impl Stage {
    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn say(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    fn finish(&self, name: &str, outcome: Outcome) {
        let finish = self.finish.lock().unwrap().remove(name);
        assert!(finish.unwrap().send(outcome).is_ok(), "{name} is running");
    }

    fn reply(&self, name: &str) {
        self.finish(name, reply(name.as_bytes().to_vec()));
    }
}

fn reply(bytes: Vec<u8>) -> Outcome {
    Outcome::Reply(Reply {
        chunks: VecDeque::from([Bytes::from(bytes)]),
        permit: BytePermit::none(),
    })
}

struct DropLog(Stage, String);

impl Drop for DropLog {
    fn drop(&mut self) {
        self.0.say(format!("end {}", self.1));
    }
}

impl Service for Stage {
    fn accept(&mut self, frame: Frame) -> Result<Call, Violation> {
        let text = String::from_utf8(frame.body.to_vec()).unwrap();
        let (overlap, name) = text.split_at(1);
        let overlap = match overlap {
            "p" => Overlap::Append,
            "f" => Overlap::LongRead,
            "j" => Overlap::LongWait,
            "m" => Overlap::Alone,
            "l" => Overlap::Look,
            _ => return Err(Violation::Unanswerable("bad letter".into())),
        };
        let (stage, name) = (self.clone(), name.to_owned());
        let run = async move {
            let (finish, finished) = oneshot::channel();
            stage.say(name.clone());
            stage.finish.lock().unwrap().insert(name.clone(), finish);
            let _logged = DropLog(stage, name);
            let outcome = finished.await.unwrap();
            drop(frame.permit);
            outcome
        };
        Ok(Call {
            overlap,
            run: run.boxed(),
        })
    }

    fn charge(_: &[u8], size: usize) -> usize {
        size
    }

    fn sent(&self, _: usize) {}
}

struct Rig {
    stage: Stage,
    client: DuplexStream,
    stop: CancellationToken,
    ended: JoinHandle<Ended>,
}

fn rig(max_in_flight: usize) -> Rig {
    let (client, ours) = duplex(1 << 16);
    let stage = Stage::default();
    let limits = ConnectionLimits {
        frames: FrameLimits {
            max_size: ByteCount::mib(1),
            stall: Duration::from_secs(30),
        },
        max_in_flight,
        idle: Duration::from_secs(600),
    };
    let stop = CancellationToken::new();
    let budget = MemoryBudget::new(ByteCount::mib(4));
    let halves = tokio::io::split(ours);
    let ended = tokio::spawn(run(halves, stage.clone(), limits, budget, stop.clone()));
    Rig {
        stage,
        client,
        stop,
        ended,
    }
}

impl Rig {
    async fn send(&mut self, requests: &[&str]) {
        for request in requests {
            let length = i32::try_from(request.len()).unwrap();
            self.client.write_all(&length.to_be_bytes()).await.unwrap();
            self.client.write_all(request.as_bytes()).await.unwrap();
        }
        quiesce().await;
    }

    async fn expect(&mut self, answers: &str) {
        let mut got = vec![0; answers.len()];
        self.client.read_exact(&mut got).await.unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), answers);
    }

    /// Nothing is there to be read.
    async fn expect_nothing(&mut self) {
        let read = tokio::time::timeout(Duration::from_millis(10), self.client.read_u8()).await;
        assert!(read.is_err(), "{read:?}");
    }
}

/// Lets everything that can run, run.
async fn quiesce() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn appends_overlap_and_are_answered_in_the_order_of_the_requests() {
    let mut rig = rig(16);
    rig.send(&["pa", "pb", "pc"]).await;
    assert_eq!(rig.stage.log(), ["a", "b", "c"]);
    rig.stage.reply("c");
    rig.stage.reply("b");
    rig.expect_nothing().await;
    rig.stage.reply("a");
    rig.expect("abc").await;
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_requests_are_started() {
    let mut rig = rig(2);
    rig.send(&["pa", "pb", "pc", "pd"]).await;
    assert_eq!(rig.stage.log(), ["a", "b"]);
    rig.stage.reply("b");
    quiesce().await;
    // The answer of `b` waits for that of `a`, and still counts.
    assert_eq!(rig.stage.log(), ["a", "b", "end b"]);
    rig.stage.reply("a");
    rig.expect("ab").await;
    quiesce().await;
    assert_eq!(rig.stage.log()[4..], ["c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_an_append_waits_for_all_answers_before_it() {
    for alone in ["f", "j", "m"] {
        let mut rig = rig(16);
        let second = format!("{alone}b");
        rig.send(&["pa", &second, "pc"]).await;
        assert_eq!(rig.stage.log(), ["a"], "{alone}");
        rig.stage.reply("a");
        rig.expect("a").await;
        quiesce().await;
        let started = rig.stage.log().split_off(2);
        if alone == "f" {
            // An append behind a Fetch starts, and its answer waits for that of the Fetch.
            assert_eq!(started, ["b", "c"]);
            rig.stage.reply("c");
            rig.expect_nothing().await;
            rig.stage.reply("b");
        } else {
            assert_eq!(started, ["b"]);
            rig.stage.reply("b");
            rig.expect("b").await;
            quiesce().await;
            rig.stage.reply("c");
            rig.expect("c").await;
            continue;
        }
        rig.expect("bc").await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_requests_that_are_not_appends_never_overlap() {
    let mut rig = rig(16);
    rig.send(&["fa", "fb", "mc", "md"]).await;
    for (at, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        quiesce().await;
        assert_eq!(rig.stage.log().len(), 2 * at + 1);
        rig.stage.reply(name);
        rig.expect(name).await;
    }
}

#[tokio::test(start_paused = true)]
async fn looks_overlap_with_each_other_and_with_nothing_else() {
    for other in ["p", "f", "j", "m"] {
        let mut rig = rig(16);
        let (first, last) = (format!("{other}a"), format!("{other}e"));
        rig.send(&[&first, "lb", "lc", "ld", &last]).await;
        assert_eq!(rig.stage.log(), ["a"], "{other}");
        rig.stage.reply("a");
        rig.expect("a").await;
        quiesce().await;
        assert_eq!(rig.stage.log()[2..], ["b", "c", "d"], "{other}");
        rig.stage.reply("d");
        rig.stage.reply("c");
        rig.expect_nothing().await;
        rig.stage.reply("b");
        rig.expect("bcd").await;
        quiesce().await;
        assert_eq!(rig.stage.log().last().unwrap(), "e", "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn looks_that_are_started_are_bounded() {
    let mut rig = rig(1000);
    let looks: Vec<String> = (0..2 * MAX_LOOKS).map(|n| format!("l{n}")).collect();
    let looks: Vec<&str> = looks.iter().map(String::as_str).collect();
    rig.send(&looks).await;
    for _ in 0..4 {
        quiesce().await;
    }
    assert_eq!(rig.stage.log().len(), MAX_LOOKS);
}

#[tokio::test(start_paused = true)]
async fn a_silent_outcome_keeps_the_order_of_the_others() {
    let mut rig = rig(16);
    rig.send(&["pa", "pb", "pc"]).await;
    rig.stage.reply("c");
    rig.stage.finish("a", Outcome::Silent);
    rig.expect_nothing().await;
    rig.stage.finish("b", Outcome::Silent);
    rig.expect("c").await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_append_without_acknowledgement_closes_after_the_answers_before_it() {
    let mut rig = rig(16);
    rig.send(&["pa", "pb", "pc"]).await;
    let why = Violation::Unacknowledged("NotLeaderOrFollower".into());
    rig.stage.finish("b", Outcome::Close(why));
    rig.expect_nothing().await;
    rig.stage.reply("a");
    rig.expect("a").await;
    assert!(matches!(
        rig.ended.await.unwrap(),
        Ended::Violation(Violation::Unacknowledged(_))
    ));
    assert_eq!(rig.stage.log().last().unwrap(), "end c");
    assert!(rig.client.read_u8().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_bad_frame_closes_after_the_answers_before_it() {
    for bad in [
        &b"\0\0\0\x01?"[..],
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
    ] {
        let mut rig = rig(16);
        rig.send(&["pa"]).await;
        rig.client.write_all(bad).await.unwrap();
        quiesce().await;
        rig.expect_nothing().await;
        rig.stage.reply("a");
        rig.expect("a").await;
        assert!(matches!(rig.ended.await.unwrap(), Ended::Violation(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn appends_of_a_client_that_has_gone_are_finished_and_other_calls_dropped() {
    let mut rig = rig(16);
    rig.send(&["fa", "pb"]).await;
    assert_eq!(rig.stage.log(), ["a", "b"]);
    drop(rig.client);
    quiesce().await;
    assert_eq!(rig.stage.log(), ["a", "b", "end a"]);
    assert!(!rig.ended.is_finished());
    rig.stage.reply("b");
    assert!(matches!(rig.ended.await.unwrap(), Ended::ByClient));
}

#[tokio::test(start_paused = true)]
async fn an_append_sent_right_before_the_client_closes_is_started() {
    let mut rig = rig(2);
    rig.send(&["pa", "pb", "pc", "pd"]).await;
    drop(rig.client);
    quiesce().await;
    for name in ["a", "b", "c", "d"] {
        quiesce().await;
        rig.stage.finish(name, Outcome::Silent);
    }
    assert!(matches!(rig.ended.await.unwrap(), Ended::ByClient));
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_what_has_begun_and_drops_what_only_waits() {
    let mut working = rig(16);
    working.send(&["pa", "pb", "mc"]).await;
    working.stop.cancel();
    quiesce().await;
    assert!(!working.ended.is_finished());
    working.stage.reply("a");
    working.stage.reply("b");
    working.expect("ab").await;
    assert!(matches!(working.ended.await.unwrap(), Ended::Stopped));
    for wait in ["fa", "ja"] {
        let mut waiting = rig(16);
        waiting.send(&[wait]).await;
        waiting.stop.cancel();
        assert!(matches!(waiting.ended.await.unwrap(), Ended::Stopped));
        assert_eq!(waiting.stage.log(), ["a", "end a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_is_closed_and_a_waiting_one_is_not() {
    let mut quiet = rig(16);
    quiet.send(&["pa"]).await;
    quiet.stage.reply("a");
    quiet.expect("a").await;
    assert!(matches!(quiet.ended.await.unwrap(), Ended::Idle));
    let mut waiting = rig(16);
    waiting.send(&["ja"]).await;
    tokio::time::sleep(Duration::from_secs(1200)).await;
    waiting.stage.reply("a");
    waiting.expect("a").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_its_answers_is_closed() {
    let mut rig = rig(16);
    rig.send(&["pa", "pb"]).await;
    rig.stage.finish("a", reply(vec![1; 1 << 20]));
    rig.stage.reply("b");
    let before = tokio::time::Instant::now();
    assert!(matches!(
        rig.ended.await.unwrap(),
        Ended::Violation(Violation::SlowReader(_))
    ));
    // 30 s, and a little for what the pipe took; no more for all that it did not take.
    assert!(before.elapsed() >= Duration::from_secs(30));
    assert!(before.elapsed() < Duration::from_secs(31));
}

#[tokio::test(start_paused = true)]
async fn calls_go_on_while_an_answer_is_not_taken() {
    let mut rig = rig(16);
    rig.send(&["pa", "pb"]).await;
    rig.stage.finish("a", reply(vec![1; 1 << 20]));
    quiesce().await;
    rig.stage.reply("b");
    quiesce().await;
    assert!(rig.stage.log().contains(&"end b".to_owned()));
    let mut taken = vec![0; 1 << 20];
    rig.client.read_exact(&mut taken).await.unwrap();
    rig.expect("b").await;
}

/// The end of the stream is behind requests that have not been read, and must be noticed all the same.
#[tokio::test]
async fn what_a_client_asked_for_before_it_hung_up_is_not_begun() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let (ours, _) = listener.accept().await.unwrap();
    let stage = Stage::default();
    let limits = ConnectionLimits {
        frames: FrameLimits {
            max_size: ByteCount::mib(1),
            stall: Duration::from_secs(30),
        },
        max_in_flight: 16,
        idle: Duration::from_secs(600),
    };
    let budget = MemoryBudget::new(ByteCount::mib(4));
    let stop = CancellationToken::new();
    let halves = crate::net::Stream::from(ours).into_split();
    let ended = tokio::spawn(run(halves, stage.clone(), limits, budget, stop));
    for request in ["ma", "mb", "jc", "md", "me", "mf"] {
        let length = i32::try_from(request.len()).unwrap();
        client.write_all(&length.to_be_bytes()).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
    }
    while stage.log().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    drop(client);
    let ended = tokio::time::timeout(HANG_UP_LOOK * 5, ended).await;
    assert!(matches!(ended.unwrap().unwrap(), Ended::ByClient));
    assert_eq!(stage.log(), ["a", "end a"]);
}
