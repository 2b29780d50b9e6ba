use super::*;

fn workload(rate: f64, nodes: u32) -> Workload {
    Workload {
        rate,
        message: 1024.0,
        nodes,
        consumers: 0,
        retention: Duration::from_secs(86_400),
        compaction: false,
        across_zones: 0.0,
        node: NodeSettings {
            commit_interval: Duration::from_millis(100),
            follow_interval: Duration::from_millis(50),
            commits_in_flight: 4,
            inline_limit: ByteCount::kib(512),
            segment_size: ByteCount::mib(8),
            compaction_target: ByteCount::mib(256),
        },
        put: Duration::from_millis(30),
    }
}

fn of(demand: &Demand, what: &str) -> f64 {
    let line = demand.requests.iter().find(|line| line.what == what);
    line.map_or(0.0, |line| line.per_second)
}

#[test]
fn few_messages_cost_a_commit_each_and_many_as_many_as_the_interval_allows() {
    assert_eq!(of(&workload(1024.0, 1).demand(), "commits"), 1.0);
    assert_eq!(of(&workload(1e6, 1).demand(), "commits"), 10.0);
    assert_eq!(of(&workload(1e6, 3).demand(), "commits"), 30.0);
    let eager = Workload {
        node: NodeSettings {
            commit_interval: Duration::ZERO,
            ..workload(1e6, 1).node
        },
        ..workload(1e6, 1)
    };
    // Four under way, of 30 ms each.
    assert!((of(&eager.demand(), "commits") - 4.0 / 0.030).abs() < 1e-6);
    assert_eq!(workload(0.0, 3).demand().requests, []);
}

#[test]
fn what_does_not_fit_into_a_commit_goes_to_segments() {
    assert_eq!(of(&workload(5.0 * MIB, 1).demand(), "segments"), 0.0);
    assert_eq!(of(&workload(6.0 * MIB, 1).demand(), "segments"), 10.0);
    assert_eq!(of(&workload(100.0 * MIB, 1).demand(), "segments"), 20.0);
}

#[test]
fn another_node_costs_races_and_the_reading_of_its_commits() {
    let one = workload(1e6, 1).demand();
    let two = workload(1e6, 2).demand();
    assert_eq!(of(&one, "commits that lost a race"), 0.0);
    // Each of 20 commits a second meets one of the other's in 30 ms of 100.
    assert!((of(&two, "commits that lost a race") - 6.0).abs() < 1e-9);
    assert_eq!(of(&two, "commits of other nodes"), 20.0);
}

#[test]
fn a_bill_has_a_share_for_everything_and_prices_can_be_given() {
    let workload = Workload {
        consumers: 2,
        compaction: true,
        across_zones: 2.0 / 3.0,
        ..workload(100.0 * MIB, 3)
    };
    let demand = workload.demand();
    let bill = Prices::default().bill(&demand, 3);
    assert!(bill.puts > 0.0 && bill.gets > 0.0 && bill.across_zones > 0.0);
    let kept = 100.0 * MIB * 86_400.0 / 1e9 * 0.023;
    assert!((bill.storage - kept).abs() < 1e-6);
    assert_eq!(bill.nodes, 0.0);
    let prices: Prices =
        serde_json::from_str(r#"{"put_per_1000": 0.01, "node_per_month": 100}"#).unwrap();
    let dearer = prices.bill(&demand, 3);
    assert!((dearer.puts / bill.puts - 2.0).abs() < 1e-9);
    assert!((dearer.total() - bill.total() - bill.puts - 300.0).abs() < 1e-6);
    assert!(serde_json::from_str::<Prices>(r#"{"puts": 1}"#).is_err());
}
