//! The simulator: a whole cluster in one process, on simulated time, from one seed.
//!
//! Several nodes, each a [`Node`](crate::node::Node) as it runs in production, share one bucket behind a network that
//! delays, loses, repeats and refuses; processes are killed, paused and cut off; clients of every kind retry through
//! whichever node. What clients were told is a history, and the predicates of [`crate::invariants`] are held against
//! it. `docs/simulator.md` says how to run it and what it does not cover.
//!
//! One seed is one run, request by request: all chance comes from [`dice::Dice`], all time from tokio's paused clock,
//! and there is one thread. To add an actor, write an `async fn` that takes a [`cluster::Cluster`] and ends
//! at a given time, and start it in [`live`]. It calls nodes through a [`cluster::Connection`] only, so that calls are
//! lost, nodes may be dead, and what a node does for it stops when the node is paused.

mod admins;
mod archived;
mod batches;
mod chaos;
mod cluster;
mod dice;
mod impatient;
mod keyed;
mod lanes;
mod logged;
mod members;
mod network;
mod process;
mod producers;
mod readers;
mod renamed;
mod talk;
#[cfg(test)]
mod tests;
mod times;
mod verdict;
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Once;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep, timeout};

use cluster::{Cluster, Connection, Settings};
use network::MAX_WAY;
use world::{Finding, Tally, World};

/// How long clients have to come to an end when all is well again.
const RECOVERY: Duration = Duration::from_secs(120);

/// The longest that a write may wait where nothing goes wrong but that puts of segments are swallowed.
const CALM_WAIT: Duration = Duration::from_secs(3);

/// A run that has ended.
struct Report {
    seed: u64,
    trace: Vec<String>,
    findings: Vec<Finding>,
    /// How often background jobs and other things happened.
    tally: Tally,
}

thread_local! {
    /// What panicked in the run of this thread, while there is one.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// From now on, what panics in a run is noted there instead of being printed.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let noted = PANICS.with_borrow_mut(|panics| {
                let panics = panics.as_mut()?;
                panics.push(panic.to_string());
                Some(())
            });
            if noted.is_none() {
                others(panic);
            }
        }));
    });
}

/// Runs one seed.
fn run(seed: u64) -> Report {
    run_so(seed, false)
}

/// Runs one seed; if it is `calm`, nothing goes wrong but that puts of segments are swallowed, and nobody who writes
/// may wait for longer than [`CALM_WAIT`].
fn run_so(seed: u64, calm: bool) -> Report {
    note_panics();
    PANICS.set(Some(Vec::new()));
    let ran = std::panic::catch_unwind(|| run_to_the_end(seed, calm));
    let mut report = ran.unwrap_or(Report {
        seed,
        trace: Vec::new(),
        findings: Vec::new(),
        tally: Tally::new(),
    });
    let panics = PANICS.take().unwrap_or_default();
    report
        .findings
        .extend(panics.into_iter().map(Finding::Panicked));
    report
}

fn run_to_the_end(seed: u64, calm: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(seed);
        let _logs = logged::note_logs(&world);
        simulate(&world, calm).await;
        let findings = std::mem::take(&mut world.history().findings);
        Report {
            seed,
            trace: world.take_trace(),
            findings,
            tally: world.tally(),
        }
    })
}

async fn simulate(world: &World, calm: bool) {
    let mut dice = world.dice("settings");
    let mut settings = Settings::draw(&mut dice);
    if calm {
        (settings.calm, settings.long) = (true, false);
        settings.commit_interval = settings.commit_interval.min(Duration::from_millis(100));
        world.bound_waits(CALM_WAIT);
    }
    world.note(format_args!("seed {}: {settings:?}", world.seed()));
    let (nodes, long) = (settings.nodes, settings.long);
    world.compare_every(if long { 32 } else { 4 });
    let cluster = Cluster::new(world, settings);
    (0..nodes).for_each(|node| cluster.start(node));
    verdict::all_up(&cluster).await;
    lanes::create(&cluster, RECOVERY).await;
    let (least, most) = if long { (1_500, 2_700) } else { (30, 120) };
    let until = Instant::now() + Duration::from_secs(dice.number(least, most));
    live(&cluster, until).await;
    if timeout(RECOVERY, verdict::all_up(&cluster)).await.is_err() {
        world.found(Finding::Stuck("a node does not come up".to_owned()));
    }
    // What is on its way still arrives, and must change nothing.
    sleep(MAX_WAY).await;
    if timeout(RECOVERY, verdict::judge(&cluster)).await.is_err() {
        world.found(Finding::Stuck("the log cannot be read".to_owned()));
    }
    cluster.tally();
}

/// Runs all actors until they end.
async fn live(cluster: &Cluster, until: Instant) {
    cluster.world.ends(until);
    let mut connection = Connection::new(cluster, "introducer");
    let topic = connection.call(RECOVERY, members::main_topic).await;
    let Ok(Some(topic)) = topic else {
        let what = "the topic that was just created is not there";
        return cluster.world.found(Finding::Wrong(what.to_owned()));
    };
    members::found(cluster, topic).await;
    let mut actors: Vec<(String, BoxFuture<'static, ()>)> = Vec::new();
    let mut add = |name: &str, actor: &dyn Fn(String) -> BoxFuture<'static, ()>| {
        actors.push((name.to_owned(), actor(name.to_owned())));
    };
    let here = || cluster.clone();
    add("chaos", &|_| chaos::reign(here(), until).boxed());
    for name in ["idempotent-1", "idempotent-2", "idempotent-3"] {
        add(name, &|name| {
            producers::idempotent(here(), name, until).boxed()
        });
    }
    for name in ["plain-1", "plain-2"] {
        add(name, &|name| producers::plain(here(), name, until).boxed());
    }
    for name in ["follower-1", "follower-2"] {
        add(name, &|name| readers::follower(here(), name, until).boxed());
    }
    add("asker", &|name| readers::asker(here(), name, until).boxed());
    // Members have their nodes follow the log all the time; a long run would be nothing else.
    let members_until = until.min(Instant::now() + Duration::from_secs(180));
    for name in ["member-1", "member-2", "member-3"] {
        add(name, &|name| {
            members::member(here(), name, topic, members_until).boxed()
        });
    }
    let offset = impatient::What::Offset(topic);
    for (name, what) in [
        ("impatient-1", offset),
        ("impatient-2", offset),
        ("impatient-3", impatient::What::Setting),
    ] {
        add(name, &|name| {
            impatient::client(here(), name, what, until).boxed()
        });
    }
    for name in ["topics-1", "topics-2"] {
        add(name, &|name| admins::topics(here(), name, until).boxed());
    }
    if cluster.settings.long {
        for name in ["archivist-1", "archivist-2"] {
            add(name, &|name| {
                readers::archivist(here(), name, until).boxed()
            });
        }
    }
    add("keys", &|name| keyed::writer(here(), name, until).boxed());
    add("key-reader", &|name| {
        keyed::reader(here(), name, until).boxed()
    });
    add("renamer", &|name| {
        renamed::renamer(here(), name, until).boxed()
    });
    add("churner", &|name| {
        admins::churner(here(), name, until).boxed()
    });
    add("upgrader", &|name| {
        admins::upgrader(here(), name, until).boxed()
    });
    add("deleter", &|name| {
        admins::deleter(here(), name, until).boxed()
    });
    let names: Vec<String> = actors.iter().map(|(name, _)| name.clone()).collect();
    let mut ended = actors
        .into_iter()
        .map(|(name, actor)| {
            let actor = tokio::spawn(actor);
            async move { (name, actor.await) }
        })
        .collect::<futures::stream::FuturesUnordered<_>>();
    let world = &cluster.world;
    world.history().group.name = members::GROUP.to_owned();
    let recovered = until + RECOVERY;
    let mut left: BTreeSet<String> = names.into_iter().collect();
    let all = async {
        while let Some((name, ended)) = ended.next().await {
            left.remove(&name);
            if let Err(error) = ended {
                world.found(Finding::Panicked(format!("{name}: {error}")));
            }
        }
    };
    if tokio::time::timeout_at(recovered, all).await.is_err() {
        world.found(Finding::Stuck(format!(
            "though all is well, these have not come to an end: {left:?}"
        )));
    }
}
