//! Many members on several nodes that die and return. I6: in one generation a partition has one owner.

use std::collections::BTreeMap;
use std::sync::Mutex;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const PARTITIONS: u8 = 12;

/// Who owned what in which generation, as the members were told.
type Ledger = Arc<Mutex<BTreeMap<(Generation, u8), MemberId>>>;

/// The nodes that clients may talk to.
type Cluster = Arc<Mutex<Vec<TestNode>>>;

fn note(ledger: &Ledger, client: &Client, assignment: &[u8]) {
    let member = client.member.clone().unwrap();
    let mut ledger = ledger.lock().unwrap();
    for partition in assignment {
        let owner = ledger
            .entry((client.generation, *partition))
            .or_insert(member.clone());
        assert_eq!(
            *owner, member,
            "partition {partition} in {:?}",
            client.generation
        );
    }
}

/// A consumer as it should be: it goes on through every error, at another node if need be.
async fn consume(
    name: String,
    seed: u64,
    cluster: Cluster,
    ledger: Ledger,
    until: tokio::time::Instant,
) -> Client {
    let mut random = StdRng::seed_from_u64(seed);
    let mut pick = {
        let cluster = cluster.clone();
        move |client: Option<&mut Client>| {
            let nodes = cluster.lock().unwrap();
            let node = &nodes[random.random_range(0..nodes.len())];
            match client {
                Some(client) => {
                    client.move_to(node);
                    None
                }
                None => Some(Client::of(node, &name)),
            }
        }
    };
    let mut client = pick(None).unwrap();
    loop {
        let outcome = async {
            let joined = client.join().await?;
            let assignment = client.sync(&joined, PARTITIONS).await?;
            note(&ledger, &client, &assignment);
            loop {
                if tokio::time::Instant::now() >= until {
                    return Ok(());
                }
                sleep(Duration::from_secs(2)).await;
                client.heartbeat().await?;
            }
        };
        match outcome.await {
            Ok(()) => return client,
            Err(GroupOpError::RebalanceInProgress | GroupOpError::IllegalGeneration { .. }) => {}
            Err(GroupOpError::UnknownMember(_)) => client.member = None,
            Err(GroupOpError::Unavailable(_)) => {
                sleep(Duration::from_millis(200)).await;
                pick(Some(&mut client));
            }
            Err(error) => panic!("{:?}: {error}", client.member),
        }
    }
}

async fn survive(seed: u64) {
    let store = Store::memory();
    let mut random = StdRng::seed_from_u64(seed);
    let cluster: Cluster = Arc::default();
    for n in 0..3 {
        let node = node(&store, seed * 100 + n).await;
        cluster.lock().unwrap().push(node);
    }
    let ledger = Ledger::default();
    let until = tokio::time::Instant::now() + Duration::from_secs(240);
    let members: Vec<_> = (0..6)
        .map(|n| {
            let (cluster, ledger) = (cluster.clone(), ledger.clone());
            let seed = seed * 1_000 + n;
            tokio::spawn(consume(format!("c{n}"), seed, cluster, ledger, until))
        })
        .collect();
    // For two minutes nodes die and others come; then there is peace.
    for n in 0..6 {
        sleep(Duration::from_millis(random.random_range(2_000..20_000))).await;
        let reborn = node(&store, seed * 100 + 10 + n).await;
        let victim = {
            let mut nodes = cluster.lock().unwrap();
            let victim = random.random_range(0..nodes.len());
            std::mem::replace(&mut nodes[victim], reborn)
        };
        victim.kill();
    }
    let mut clients = Vec::new();
    for member in members {
        clients.push(member.await.unwrap());
    }
    let generation = clients[0].generation;
    assert!(
        clients.iter().all(|c| c.generation == generation),
        "all came to one generation"
    );
    let owned = ledger
        .lock()
        .unwrap()
        .keys()
        .filter(|(g, _)| *g == generation)
        .count();
    assert_eq!(
        owned,
        usize::from(PARTITIONS),
        "every partition has an owner in the end"
    );
}

#[tokio::test(start_paused = true)]
async fn a_group_survives_the_deaths_of_its_nodes_with_one_owner_for_each_partition() {
    for seed in 1..=4 {
        survive(seed).await;
    }
}
