//! The nodes, and how clients call them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::dice::Dice;
use super::network::{Sky, Wire};
use super::process::{Machine, Process};
use super::talk::Talk;
use super::world::{Ages, Finding, World};
use crate::broker::{Broker, Presence, Readings, Session};
use crate::env::Env;
use crate::maintain::{MaintenanceOptions, Task};
use crate::manifest::PEER_ENDPOINT;
use crate::node::{Node, NodeMetrics, NodeOptions};
use crate::state::Level;
use crate::store::{Store, StoreOptions};
use crate::testing::simulated::Bucket;
use crate::types::ByteCount;

/// For how long a background job is claimed.
pub(super) const CLAIM: Duration = Duration::from_secs(20);

/// How this run's nodes are set.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) nodes: usize,
    pub(super) commit_interval: Duration,
    pub(super) commits_in_flight: usize,
    pub(super) follow_interval: Duration,
    pub(super) snapshot_every: u64,
    pub(super) inline_limit: ByteCount,
    pub(super) segment_size: ByteCount,
    pub(super) request_timeout: Duration,
    pub(super) retry_deadline: Duration,
    pub(super) check_store: bool,
    /// Whether it goes on for so long that the log is truncated under nodes that sleep.
    pub(super) long: bool,
    /// Whether nothing goes wrong but that puts of segments are swallowed.
    pub(super) calm: bool,
    /// How much slower clients are than at their fastest.
    pub(super) pace: u64,
    pub(super) maintenance: Option<MaintenanceOptions>,
    /// How long the records of a topic stay.
    pub(super) retention: Duration,
    /// How long the parts of uploads are.
    pub(super) part_len: usize,
    /// Whether nodes speak to each other.
    pub(super) peers: bool,
    /// Whether the store's answers tell its clock.
    pub(super) dates: bool,
    /// Whether the nodes begin with older software, and are upgraded one by one.
    pub(super) upgraded: bool,
    /// Whether the main topic is archived.
    pub(super) archive: bool,
}

/// Background work that finds something to do within minutes.
fn maintenance(dice: &mut Dice) -> MaintenanceOptions {
    let seconds = Duration::from_secs;
    let mut options = MaintenanceOptions {
        interval: seconds(dice.number(1, 6)),
        claim: CLAIM,
        // Longer than what is read by an old state may be handed out.
        deletion_grace: seconds(360),
        sweep_interval: seconds(30),
        sweep_age: seconds(30),
        truncate_commits: dice.number(5, 50),
        truncate_wait: seconds(60),
        // Longer than anybody is away who may still hold a batch of a producer.
        producer_expiration: seconds(1_500),
        ..MaintenanceOptions::default()
    };
    options.archive.merge_at = 3;
    options.archive.merge_wait = seconds(60);
    options.archive.snapshot_age = seconds(60);
    options.archive.snapshots = 10;
    let compaction = &mut options.compaction;
    compaction.target = ByteCount::kib(dice.one_of(&[8, 64]));
    compaction.job = ByteCount(compaction.target.0 * 4);
    compaction.min_age = seconds(5);
    compaction.max_wait = seconds(60);
    compaction.max_slices = 16;
    compaction.state_slices = 20;
    // Slow, so that much happens meanwhile; or not.
    compaction.bandwidth = dice.chance(0.5).then_some(ByteCount::kib(2));
    options
}

impl Settings {
    pub(super) fn draw(dice: &mut Dice) -> Settings {
        let millis = |choices: &[u64], dice: &mut Dice| Duration::from_millis(dice.one_of(choices));
        let long = dice.chance(0.25);
        let follow: &[u64] = if long { &[200, 1_000] } else { &[10, 50] };
        Settings {
            nodes: dice.number(2, 5) as usize,
            commit_interval: millis(if long { &[0, 100, 2_000] } else { &[0, 5, 100] }, dice),
            commits_in_flight: dice.number(1, 6) as usize,
            follow_interval: millis(follow, dice),
            snapshot_every: dice.one_of(&[8, 32, 256]),
            inline_limit: ByteCount(dice.one_of(&[0, 0, 2_000, 20_000, 500_000])),
            segment_size: ByteCount(dice.one_of(&[5_000, 50_000])),
            request_timeout: millis(&[2_000, 10_000, 30_000], dice),
            retry_deadline: millis(&[2_000, 5_000, 180_000], dice),
            check_store: dice.chance(0.3),
            long,
            calm: false,
            pace: if long { 15 } else { 1 },
            maintenance: (long || dice.chance(0.5)).then(|| maintenance(dice)),
            retention: Duration::from_secs(if long { 300 } else { 20 }),
            part_len: dice.one_of(&[8_000, 30_000, 8 << 20]),
            peers: dice.chance(0.7),
            dates: dice.chance(0.5),
            upgraded: dice.chance(0.4),
            archive: dice.chance(0.5),
        }
    }
}

/// All nodes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) world: World,
    pub(super) sky: Sky,
    pub(super) settings: Arc<Settings>,
    bucket: Bucket,
    /// Of all nodes together.
    metrics: Arc<NodeMetrics>,
    slots: Arc<Mutex<BTreeMap<usize, Slot>>>,
    /// Whether no node may be put back to older software any more.
    committed: Arc<AtomicBool>,
}

/// One node: the run of it that there is, if any.
#[derive(Default)]
struct Slot {
    run: u32,
    /// What its software knows.
    level: Level,
    process: Option<Arc<Process>>,
    env: Option<Env>,
    broker: Option<Broker>,
    /// Owns the node.
    keeper: Option<JoinHandle<()>>,
}

/// The call came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nobody listens: the node has not seen the request.
    Refused,
    /// No answer. The node may have done what was asked, or may yet.
    Unanswered,
}

impl Cluster {
    pub(super) fn new(world: &World, settings: Settings) -> Cluster {
        world.ages(Ages::of(&settings));
        Cluster {
            world: world.clone(),
            sky: Sky::default(),
            settings: Arc::new(settings),
            bucket: Bucket::default(),
            metrics: Arc::default(),
            slots: Arc::default(),
            committed: Arc::default(),
        }
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<usize, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a node that does not run.
    pub(super) fn start(&self, node: usize) {
        let process = Arc::new(Process::default());
        let mut slots = self.slots();
        let slot = slots.entry(node).or_default();
        slot.run += 1;
        let run = slot.run;
        let mut dice = self.world.dice(&format!("n{node}.{run}"));
        // What start-up allows is 5 s on either side.
        let skew_millis = dice.number(0, 9_800) as i64 - 4_900;
        let machine = Machine {
            origin: self.world.origin(),
            skew_millis,
            up: dice.time(1, 1_000_000_000),
            process: process.clone(),
        };
        self.world.note(format_args!(
            "n{node}.{run} starts, its clock off by {skew_millis} ms"
        ));
        let env = Env::new(Arc::new(machine), dice.into_random()).held(process.clone());
        let mut options = self.options(&env);
        slot.level = self.software_of(node, run);
        options.manifest.level = slot.level;
        if self.settings.peers {
            let dice = self.world.dice(&format!("talk of n{node}.{run}"));
            options.peers = Some(Arc::new(Talk::new(self, dice)));
        }
        let wire = Arc::new(Wire::new(
            &self.world,
            &self.sky,
            (node, run),
            process.clone(),
            self.settings.dates,
        ));
        let store = self.bucket.behind(wire, options.store.clone());
        slot.process = Some(process.clone());
        slot.env = Some(env.clone());
        slot.broker = None;
        let (this, started) = (self.clone(), process.clone());
        let metrics = self.metrics.clone();
        slot.keeper = Some(tokio::spawn(async move {
            let (reply, node_started) = oneshot::channel();
            let node_number = node;
            env.spawn(async move {
                let node = Node::start(store, options, &metrics).await;
                if let Ok(node) = &node {
                    register(node.broker(), address(node_number, run)).await;
                }
                let _ = reply.send(node);
            });
            let ended = match node_started.await {
                Ok(Ok(up)) => {
                    this.keep(node, run, up).await;
                    true
                }
                Ok(Err(error)) => {
                    this.world
                        .note(format_args!("n{node}.{run} cannot start: {error}"));
                    true
                }
                // Killed while it was starting; or it panicked, which is noted where it happened.
                Err(_) => started.is_dead(),
            };
            if !ended {
                this.world
                    .note(format_args!("n{node}.{run} ended while it was starting"));
            }
            // As whoever runs nodes does: again, after a while.
            started.kill();
            sleep(Duration::from_secs(2)).await;
            let next = this.clone();
            tokio::spawn(async move { next.start(node) });
        }));
    }

    /// What the software of a run knows. Until the upgrade is committed to, it may be put back.
    fn software_of(&self, node: usize, run: u32) -> Level {
        let mut dice = self.world.dice(&format!("software of n{node}.{run}"));
        let put_back = !self.committed.load(Ordering::Relaxed) && (run == 1 || dice.chance(0.2));
        match self.settings.upgraded && put_back {
            true => Level::FIRST,
            false => Level::NEWEST,
        }
    }

    /// A node with older software, if there is one.
    pub(super) fn behind(&self) -> Option<usize> {
        let slots = self.slots();
        let behind = slots.iter().find(|(_, slot)| slot.level < Level::NEWEST);
        behind.map(|(node, _)| *node)
    }

    /// From now on every node starts with the newest software.
    pub(super) fn commit_to_upgrade(&self) {
        self.committed.store(true, Ordering::Relaxed);
    }

    fn options(&self, env: &Env) -> NodeOptions {
        let settings = &self.settings;
        let url = "memory://".parse().unwrap();
        let mut options = NodeOptions::new(url, env.clone());
        options.store.request_timeout = settings.request_timeout;
        options.store.retry.deadline = settings.retry_deadline;
        options.store.part_len = settings.part_len;
        options.manifest.commit_interval = settings.commit_interval;
        options.manifest.commits_in_flight = settings.commits_in_flight;
        options.manifest.follow_interval = settings.follow_interval;
        options.manifest.snapshot_every = settings.snapshot_every;
        if settings.snapshot_every < 256 {
            // The states of a simulation are small: so they are in chunks all the same.
            options.manifest.max_chunk = 1 << 10;
        }
        options.ingest.inline_limit = settings.inline_limit;
        options.ingest.segment_size = settings.segment_size;
        options.check_store = settings.check_store;
        options.maintenance = settings.maintenance.clone();
        options
    }

    /// Owns a node that runs, until it fails.
    async fn keep(&self, node: usize, run: u32, mut up: Node) {
        self.world.note(format_args!("n{node}.{run} is up"));
        if let Some(slot) = self.slots().get_mut(&node) {
            slot.broker = Some(up.broker().clone());
        }
        let (world, mut states) = (self.world.clone(), up.manifest().subscribe());
        let (sky, name) = (self.sky.clone(), format!("n{node}.{run}"));
        let watch = tokio::spawn(async move {
            loop {
                let state = states.see();
                sky.lock().folded.insert(node, state.seq());
                world.see(&name, &state);
                if states.changed().await.is_err() {
                    return;
                }
            }
        });
        let failed = up.failed().await;
        watch.abort();
        self.world
            .found(Finding::NodeFailed(format!("n{node}.{run}: {failed}")));
        if let Some(slot) = self.slots().get_mut(&node) {
            slot.broker = None;
        }
    }

    /// Counts what the nodes did beside the traffic.
    pub(super) fn tally(&self) {
        for task in Task::ALL {
            let runs = self.metrics.maintenance().runs(task);
            self.world.count(task.label(), runs);
        }
        let manifest = self.metrics.manifest();
        self.world
            .count("started over", manifest.started_over.get());
        // Nothing in a simulation spoils bytes, so a state that cannot be started from is a fault of the fold.
        let refused = manifest.snapshots_refused.get();
        if refused > 0 {
            let what = format!("{refused} snapshots were refused");
            self.world.found(Finding::Wrong(what));
        }
        let left = self.bucket.unfinished_uploads();
        self.world
            .note(format_args!("{left} uploads were never ended"));
    }

    /// The store as somebody sees it who is no node.
    pub(super) fn store(&self, who: &str) -> Store {
        let random = self.world.dice(who).into_random();
        let process = Arc::new(Process::default());
        let machine = Machine {
            origin: self.world.origin(),
            skew_millis: 0,
            up: Duration::ZERO,
            process: process.clone(),
        };
        let env = Env::new(Arc::new(machine), random);
        let wire = Wire::new(&self.world, &self.sky, (usize::MAX, 0), process, false);
        self.bucket.behind(Arc::new(wire), StoreOptions::new(env))
    }

    /// Kills a node; false if it is dead already.
    pub(super) fn kill(&self, node: usize) -> bool {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(&node) else {
            return false;
        };
        let Some(process) = slot.process.take() else {
            return false;
        };
        process.kill();
        if let Some(keeper) = slot.keeper.take() {
            keeper.abort();
        }
        slot.broker = None;
        slot.env = None;
        self.world.note(format_args!("n{node}.{} dies", slot.run));
        true
    }

    /// The process of a node, if it has one.
    pub(super) fn process(&self, node: usize) -> Option<Arc<Process>> {
        self.slots().get(&node)?.process.clone()
    }

    /// Whether the clock of a node is wrong. One at a time: that two wrong ones agree is not allowed for.
    pub(super) fn is_any_clock_wrong(&self) -> bool {
        let slots = self.slots();
        let mut processes = slots.values().filter_map(|slot| slot.process.as_ref());
        processes.any(|process| process.wander().is_some())
    }

    /// Whether a node takes calls.
    pub(super) fn broker(&self, node: usize) -> Option<Broker> {
        self.slots().get(&node)?.broker.clone()
    }

    /// Who is found at the address, if that run of a node takes calls.
    pub(super) fn at(&self, address: &str) -> Option<(Env, Broker)> {
        let slots = self.slots();
        let (_, slot) = slots
            .iter()
            .find(|(node, slot)| self::address(**node, slot.run) == address)?;
        Some((slot.env.clone()?, slot.broker.clone()?))
    }

    fn env(&self, node: usize) -> Option<Env> {
        self.slots().get(&node)?.env.clone()
    }
}

/// Where the other nodes find a run of a node.
fn address(node: usize, run: u32) -> String {
    format!("n{node}.{run}")
}

/// As the server does before it listens.
async fn register(broker: &Broker, address: String) {
    let endpoints = BTreeMap::from([(PEER_ENDPOINT.to_owned(), address)]);
    while broker.register(endpoints.clone(), None).await.is_err() {
        sleep(Duration::from_secs(1)).await;
    }
}

/// A client's connection: to one node at a time.
pub(super) struct Connection {
    cluster: Cluster,
    pub(super) dice: Dice,
    node: Option<usize>,
    presence: Option<Presence>,
    session: Session,
}

impl Connection {
    pub(super) fn new(cluster: &Cluster, name: &str) -> Connection {
        Connection {
            cluster: cluster.clone(),
            dice: cluster.world.dice(name),
            node: None,
            presence: None,
            session: Session::internal(name),
        }
    }

    /// What nodes know of this client while it is connected.
    pub(super) fn session(&self) -> Session {
        self.session.clone()
    }

    /// Does nothing for a while, for as long as it suits the pace of the run.
    pub(super) async fn rest(&mut self, low: u64, high: u64) {
        let pace = self.cluster.settings.pace;
        let time = self.dice.time(low * pace, high * pace);
        self.cluster.world.rest(time).await;
    }

    /// Drops the connection; the next call goes to any node.
    pub(super) fn leave(&mut self) {
        self.presence = None;
        self.node = None;
        self.session.readings = Readings::default();
    }

    /// Has a node do something, and waits for the answer for at most `limit`. After a call that came to nothing the
    /// next goes to any node, after a pause.
    pub(super) async fn call<T, F>(
        &mut self,
        limit: Duration,
        work: impl FnOnce(Broker) -> F,
    ) -> Result<T, Lost>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let answer = self.try_call(limit, work).await;
        if answer.is_err() {
            self.leave();
            sleep(self.dice.time(50, 1_000)).await;
        }
        answer
    }

    async fn try_call<T, F>(
        &mut self,
        limit: Duration,
        work: impl FnOnce(Broker) -> F,
    ) -> Result<T, Lost>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        sleep(self.dice.time(1, 5)).await;
        let node = match self.node {
            Some(node) => node,
            None => self.dice.index(self.cluster.settings.nodes),
        };
        let broker = self.cluster.broker(node).ok_or(Lost::Refused)?;
        let env = self.cluster.env(node).ok_or(Lost::Refused)?;
        if self.node != Some(node) {
            self.node = Some(node);
            self.presence = Some(broker.client_arrived());
        }
        let (reply, answer) = oneshot::channel();
        let work = work(broker);
        let serving = env.spawn(async move {
            // The client may be gone.
            let _ = reply.send(work.await);
        });
        let answer = timeout(limit, answer).await;
        let lost = self.cluster.sky.lock().faults > 0.0 && self.dice.chance(0.01);
        match answer {
            Ok(Ok(answer)) if !lost => {
                sleep(self.dice.time(1, 5)).await;
                Ok(answer)
            }
            _ => {
                // The node sees that the connection is gone, or it does not.
                if self.dice.chance(0.5) {
                    serving.abort();
                }
                Err(Lost::Unanswered)
            }
        }
    }
}
