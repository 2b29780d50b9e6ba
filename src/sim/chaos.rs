//! What goes wrong, and when.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::cluster::{CLAIM, Cluster};
use super::dice::Dice;
use super::network::Cut;
use super::process::Wander;
use crate::testing::simulated::Reply;

/// In milliseconds.
const DAY: i64 = 24 * 3_600_000;

/// A little longer than a background job is claimed, in milliseconds.
const BEYOND_CLAIM: u64 = CLAIM.as_secs() * 1_000 + 1_000;

/// Lets things go wrong until `until`; then all is put right.
pub(super) async fn reign(cluster: Cluster, until: Instant) {
    let mut dice = cluster.world.dice("chaos");
    let nodes = cluster.settings.nodes;
    if cluster.settings.calm {
        cluster.sky.lock().swallowed = dice.one_of(&[0.01, 0.04]);
        sleep_until(until).await;
        return cluster.sky.clear();
    }
    cluster.sky.lock().faults = dice.one_of(&[0.002, 0.01, 0.04]);
    if cluster.settings.long {
        cluster.sky.lock().stuck = Some((0.05, until));
    }
    if cluster.settings.maintenance.is_some() {
        cluster.sky.lock().dozes = Some((0.02, until));
    }
    // How often something happens differs from run to run.
    let pace = dice.one_of(&[2_000, 6_000, 20_000]) * cluster.settings.pace;
    let mut sleeper = Sleeper::draw(&mut dice, nodes);
    while Instant::now() < until {
        cluster.world.rest(dice.time(100, pace)).await;
        if cluster.settings.long {
            sleeper.sleep_if_due(&cluster, until);
        }
        let node = dice.index(nodes);
        match dice.number(0, 14) {
            0..3 if sleeper.is_asleep(node) => {}
            0..3 => {
                if cluster.kill(node) {
                    let rest = dice.time(10, 20_000);
                    later(rest, until, cluster.clone(), move |cluster| {
                        cluster.start(node)
                    });
                }
            }
            3..6 => {
                let minutes = dice.chance(if cluster.settings.long { 0.5 } else { 0.1 });
                let most = if cluster.settings.long {
                    1_200_000
                } else {
                    240_000
                };
                let mut rest = dice.time(20, if minutes { most } else { 20_000 });
                if !minutes && dice.chance(0.4) {
                    // So long that others take over what it has claimed.
                    rest = dice.time(BEYOND_CLAIM, BEYOND_CLAIM * 2);
                }
                if cluster.settings.long && minutes && dice.chance(0.4) {
                    // So long that the log may be truncated meanwhile.
                    rest = Duration::from_millis(dice.number(780_000, most));
                }
                if let Some(process) = cluster.process(node)
                    && !process.is_paused()
                {
                    cluster.world.note(format_args!(
                        "n{node} is paused for {} ms",
                        rest.as_millis()
                    ));
                    process.pause();
                    later(rest, until, cluster.clone(), move |cluster| {
                        cluster.world.note(format_args!("n{node} goes on"));
                        process.resume();
                    });
                }
            }
            6..9 => {
                let cut = dice.one_of(&[Cut::Refused, Cut::Lost, Cut::Deaf]);
                let rest = dice.time(50, 40_000);
                cluster.world.note(format_args!(
                    "n{node} is cut off for {} ms: {cut:?}",
                    rest.as_millis()
                ));
                cluster.sky.lock().cut.insert(node, cut);
                later(rest, until, cluster.clone(), move |cluster| {
                    cluster
                        .world
                        .note(format_args!("n{node} is cut off no more"));
                    cluster.sky.lock().cut.remove(&node);
                });
            }
            12.. => {
                if let Some(process) = cluster.process(node)
                    && !cluster.is_any_clock_wrong()
                {
                    let drifts = dice.chance(0.3);
                    let jumps = [
                        -3 * DAY,
                        -3_600_000,
                        -20_000,
                        20_000,
                        3_600_000,
                        DAY,
                        8 * DAY,
                    ];
                    let wander = Wander {
                        jump_millis: if drifts { 0 } else { dice.one_of(&jumps) },
                        drift_ppm: if drifts {
                            dice.one_of(&[-200_000, 200_000])
                        } else {
                            0
                        },
                        since: Instant::now(),
                    };
                    let rest = dice.time(
                        1_000,
                        if cluster.settings.long {
                            600_000
                        } else {
                            60_000
                        },
                    );
                    cluster.world.count("clocks set wrong", 1);
                    cluster.world.note(format_args!(
                        "the clock of n{node} is set by {} ms, and goes wrong by {} ppm, for {} ms",
                        wander.jump_millis,
                        wander.drift_ppm,
                        rest.as_millis()
                    ));
                    process.set_wander(Some(wander));
                    later(rest, until, cluster.clone(), move |cluster| {
                        cluster
                            .world
                            .note(format_args!("the clock of n{node} is right"));
                        process.set_wander(None);
                    });
                }
            }
            9..=10 => {
                let share = dice.one_of(&[0.3, 0.9, 1.0]);
                let rest = dice.time(100, 20_000);
                let answer = dice.one_of(&[Reply::Error, Reply::Foreign]);
                cluster.world.note(format_args!(
                    "{share} of all requests are answered {answer:?} for {} ms",
                    rest.as_millis()
                ));
                cluster.sky.lock().burst = Some((Instant::now() + rest, share, answer));
            }
            _ => {
                let factor = dice.number(3, 60) as u32;
                let rest = dice.time(100, 20_000);
                cluster.world.note(format_args!(
                    "the store is slower by {factor} for {} ms",
                    rest.as_millis()
                ));
                cluster.sky.lock().slow = Some((Instant::now() + rest, factor));
            }
        }
    }
    cluster.world.note(format_args!("all is well again"));
    cluster.sky.clear();
    for node in 0..nodes {
        match cluster.process(node) {
            Some(process) => {
                process.set_wander(None);
                process.resume();
            }
            None => cluster.start(node),
        }
    }
}

/// A node that sleeps for so long that the log is truncated meanwhile. Nobody kills it in its sleep: in runs without
/// it, hardly ever did a node wake up behind a truncation.
struct Sleeper {
    node: usize,
    /// When it falls asleep, and for how long.
    from: Instant,
    rest: Duration,
    slept: bool,
}

impl Sleeper {
    fn draw(dice: &mut Dice, nodes: usize) -> Sleeper {
        Sleeper {
            node: dice.index(nodes),
            from: Instant::now() + dice.time(10_000, 400_000),
            rest: dice.time(800_000, 1_100_000),
            slept: false,
        }
    }

    fn is_asleep(&self, node: usize) -> bool {
        self.slept && self.node == node && Instant::now() < self.from + self.rest
    }

    fn sleep_if_due(&mut self, cluster: &Cluster, until: Instant) {
        let now = Instant::now();
        let Some(process) = cluster.process(self.node) else {
            return;
        };
        if self.slept || now < self.from || process.is_paused() {
            return;
        }
        (self.slept, self.from) = (true, now);
        let (node, rest) = (self.node, self.rest);
        let world = &cluster.world;
        world.note(format_args!("n{node} sleeps for {} ms", rest.as_millis()));
        process.pause();
        later(rest, until, cluster.clone(), move |cluster| {
            cluster.world.note(format_args!("n{node} wakes up"));
            process.resume();
        });
    }
}

/// Puts something right after a while, unless everything is before that.
fn later(
    rest: Duration,
    until: Instant,
    cluster: Cluster,
    right: impl FnOnce(&Cluster) + Send + 'static,
) {
    let at = Instant::now() + rest;
    if at < until {
        tokio::spawn(async move {
            sleep_until(at).await;
            right(&cluster);
        });
    }
}
