//! The network between the nodes and the bucket: slow, lossy, and as the weather is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::dice::Dice;
use super::process::Process;
use super::world::World;
use crate::store::{ObjectKind, ObjectPath};
use crate::testing::simulated::{Fate, Network, Reply, Verb};
use crate::types::{Seq, Timestamp};

/// How a node is cut off from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Connections are refused.
    Refused,
    /// Requests are lost.
    Lost,
    /// Requests arrive, answers are lost.
    Deaf,
}

/// What the network is like now. Chaos changes it.
#[derive(Default)]
pub(super) struct Weather {
    /// The share of requests that meet a fault of their own.
    pub(super) faults: f64,
    /// Until then this share of requests is answered so, and not applied: by 503, or by something between.
    pub(super) burst: Option<(Instant, f64, Reply)>,
    /// This share of puts of segments is swallowed: there is never an answer.
    pub(super) swallowed: f64,
    /// Until then everything is slower by this factor.
    pub(super) slow: Option<(Instant, u32)>,
    /// The nodes that are cut off.
    pub(super) cut: BTreeMap<usize, Cut>,
    /// The share of commits of which the first attempt arrives after many minutes, if that is before this moment: most
    /// have lost their race by then, and may meet a name that was deleted.
    pub(super) stuck: Option<(f64, Instant)>,
    /// The commits that are stuck so, and when they arrive.
    arriving: BTreeMap<Seq, Instant>,
    /// How many nodes have been paused while they read what stands where a stuck commit arrives.
    trapped: usize,
    /// The share of puts of segments in which the node falls asleep, if it wakes up before this moment.
    pub(super) dozes: Option<(f64, Instant)>,
    /// How many have.
    dozed: usize,
    /// How far each node has folded the log.
    pub(super) folded: BTreeMap<usize, Seq>,
}

/// How long a stuck commit is on its way.
const STUCK_MILLIS: (u64, u64) = (660_000, 1_000_000);

/// How many nodes are paused in a read of what is about to be taken by a stuck commit.
const TRAPS: usize = 3;

/// How long a node sleeps that falls asleep in the put of a segment: so long that the sweep may take what it put there
/// for an orphan, with the time that a sweep takes to come about.
const DOZE_MILLIS: (u64, u64) = (65_000, 150_000);

/// How many nodes fall asleep so.
const DOZES: usize = 2;

/// The weather, shared.
#[derive(Clone, Default)]
pub(super) struct Sky(Arc<Mutex<Weather>>);

impl Sky {
    pub(super) fn lock(&self) -> MutexGuard<'_, Weather> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing is lost.
    pub(super) fn clear(&self) {
        *self.lock() = Weather::default();
    }
}

/// One node's way to the store.
pub(super) struct Wire {
    world: World,
    sky: Sky,
    node: usize,
    /// Which run of the node, for the trace.
    run: u32,
    process: Arc<Process>,
    /// Whether answers tell the store's clock, as over HTTP.
    dates: bool,
    inner: Mutex<(Dice, u64)>,
}

impl Wire {
    pub(super) fn new(
        world: &World,
        sky: &Sky,
        (node, run): (usize, u32),
        process: Arc<Process>,
        dates: bool,
    ) -> Wire {
        let dice = world.dice(&format!("network of n{node}.{run}"));
        Wire {
            world: world.clone(),
            sky: sky.clone(),
            node,
            run,
            process,
            dates,
            inner: Mutex::new((dice, 0)),
        }
    }

    fn inner(&self) -> MutexGuard<'_, (Dice, u64)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of a request about a commit that is stuck on its way, or of one that shall be.
    fn stuck(&self, verb: Verb, name: &str, well: Fate) -> Option<Fate> {
        let Ok(ObjectKind::Commit(seq)) = name.parse::<ObjectPath>().map(|path| path.kind()) else {
            return None;
        };
        let mut weather = self.sky.lock();
        let (share, until) = weather.stuck?;
        match verb {
            Verb::Create => {
                let dice = &mut self.inner().0;
                let (least, most) = STUCK_MILLIS;
                let arrives = Duration::from_millis(dice.number(least, most));
                let at = Instant::now() + arrives;
                if at >= until || weather.arriving.contains_key(&seq) || !dice.chance(share) {
                    return None;
                }
                weather.arriving.insert(seq, at);
                Some(Fate {
                    arrives,
                    applied: true,
                    again: None,
                    answer: Reply::First,
                    ..well
                })
            }
            // Who has folded it reads the records in it, by a state that will be old when the answer comes.
            Verb::Get if weather.folded.get(&self.node) >= Some(&seq) => {
                let at = *weather.arriving.get(&seq)?;
                let waits = at.checked_duration_since(Instant::now())?;
                if weather.trapped == TRAPS || self.process.is_paused() {
                    return None;
                }
                weather.trapped += 1;
                drop(weather);
                self.world.count("stale reads", 1);
                let process = self.process.clone();
                process.pause();
                tokio::spawn(async move {
                    sleep_until(at + Duration::from_millis(50)).await;
                    process.resume();
                });
                self.world.note(format_args!(
                    "n{}.{} is paused in this read",
                    self.node, self.run
                ));
                Some(Fate {
                    arrives: waits + Duration::from_millis(10),
                    applied: true,
                    again: None,
                    answer: Reply::First,
                    returns: Duration::from_millis(1),
                })
            }
            _ => None,
        }
    }

    /// Has the node fall asleep in the put of a segment, now and then. What it put there has become an orphan when it
    /// wakes up, and it goes on to commit it.
    fn doze(&self) {
        let mut weather = self.sky.lock();
        let Some((share, until)) = weather.dozes else {
            return;
        };
        let sleeps = {
            let dice = &mut self.inner().0;
            let (least, most) = DOZE_MILLIS;
            let sleeps = Duration::from_millis(dice.number(least, most));
            dice.chance(share).then_some(sleeps)
        };
        let Some(wakes) = sleeps.map(|sleeps| Instant::now() + sleeps) else {
            return;
        };
        if weather.dozed == DOZES || wakes >= until || self.process.is_paused() {
            return;
        }
        weather.dozed += 1;
        drop(weather);
        self.world.count("asleep in a put of a segment", 1);
        self.world.note(format_args!(
            "n{}.{} falls asleep in this put",
            self.node, self.run
        ));
        let process = self.process.clone();
        process.pause();
        tokio::spawn(async move {
            sleep_until(wakes).await;
            process.resume();
        });
    }

    fn fate(&self, dice: &mut Dice, is_segment: bool) -> Fate {
        let weather = self.sky.lock();
        let factor = match weather.slow {
            Some((until, factor)) if Instant::now() < until => factor,
            _ => 1,
        };
        let mut way = || dice.time(1, 12) * factor;
        let well = Fate {
            arrives: way(),
            applied: true,
            again: None,
            answer: Reply::First,
            returns: way(),
        };
        match weather.cut.get(&self.node) {
            Some(Cut::Refused) => {
                return Fate {
                    applied: false,
                    answer: Reply::NotSent,
                    ..well
                };
            }
            Some(Cut::Lost) => {
                return Fate {
                    applied: false,
                    answer: Reply::Never,
                    ..well
                };
            }
            Some(Cut::Deaf) => {
                return Fate {
                    answer: Reply::Never,
                    ..well
                };
            }
            None => {}
        }
        if let Some((until, share, answer)) = weather.burst
            && Instant::now() < until
            && dice.chance(share)
        {
            return Fate {
                applied: false,
                answer,
                ..well
            };
        }
        if is_segment && weather.swallowed > 0.0 && dice.chance(weather.swallowed) {
            return Fate {
                applied: dice.chance(0.5),
                answer: Reply::Never,
                ..well
            };
        }
        if !dice.chance(weather.faults) {
            return well;
        }
        match dice.number(0, 9) {
            // Slow.
            0 => Fate {
                arrives: dice.time(100, 5_000),
                returns: dice.time(1, 5_000),
                ..well
            },
            // Fails before it was applied.
            1 => Fate {
                applied: false,
                answer: Reply::Error,
                ..well
            },
            // Fails after it was applied.
            2 => Fate {
                answer: Reply::Error,
                ..well
            },
            // Applied, and hangs.
            3 => Fate {
                answer: Reply::Never,
                ..well
            },
            // Hangs.
            4 => Fate {
                applied: false,
                answer: Reply::Never,
                ..well
            },
            // Applied long after everybody has given it up.
            5 => Fate {
                arrives: dice.time(5_000, 120_000),
                ..well
            },
            // Somebody between repeats it and passes on the second answer.
            6 => Fate {
                again: Some(dice.time(1, 500)),
                answer: Reply::Second,
                ..well
            },
            // It comes again, long after its answer.
            7 => Fate {
                again: Some(dice.time(1, 120_000)),
                ..well
            },
            // Something between answers.
            8 => Fate {
                applied: false,
                answer: Reply::Foreign,
                ..well
            },
            _ => Fate {
                applied: false,
                answer: Reply::NotSent,
                ..well
            },
        }
    }
}

impl Network for Wire {
    fn send(&self, number: u64, verb: Verb, name: &str, len: usize) -> Fate {
        let is_segment = verb == Verb::Put && name.starts_with("segments/");
        let fate = self.fate(&mut self.inner().0, is_segment);
        let fate = self.stuck(verb, name, fate).unwrap_or(fate);
        if is_segment && fate.answer == Reply::Never {
            self.world.count("puts of segments swallowed", 1);
        }
        match verb {
            Verb::Part => self.world.count("parts of uploads", 1),
            Verb::Complete => self.world.count("uploads completed", 1),
            Verb::Abort => self.world.count("uploads aborted", 1),
            _ => {}
        }
        let Fate {
            arrives, returns, ..
        } = fate;
        let applied = if fate.applied { "" } else { " not applied" };
        let again = fate.again.map_or(String::new(), |again| {
            format!(" again after {}", again.as_millis())
        });
        self.world.note(format_args!(
            "n{}.{} #{number} {verb:?} {name} ({len} B): {}+{} ms {:?}{applied}{again}",
            self.node,
            self.run,
            arrives.as_millis(),
            returns.as_millis(),
            fate.answer
        ));
        if is_segment {
            self.doze();
        }
        fate
    }

    fn written(&self, name: &str, body: &Bytes) {
        match name.parse::<ObjectPath>().map(|path| path.kind()) {
            Ok(ObjectKind::Commit(seq)) => self.world.committed(seq, body),
            Ok(ObjectKind::Boundary(seq)) => self.world.bounded(seq),
            _ => {}
        }
    }

    fn applied(&self, number: u64, says: &str) {
        self.world
            .note(format_args!("n{}.{} #{number} {says}", self.node, self.run));
    }

    fn date(&self) -> Option<Timestamp> {
        let now = self.world.now().0;
        self.dates.then_some(Timestamp(now - now % 1_000))
    }

    fn next(&self) -> u64 {
        let mut inner = self.inner();
        inner.1 += 1;
        inner.1
    }
}

/// The longest that a request may be on its way in bad weather: what was sent before it cleared has arrived then.
pub(super) const MAX_WAY: Duration = Duration::from_secs(130);
