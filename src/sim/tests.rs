use super::*;

#[test]
fn first() {
    let seeds = std::env::var("SEEDS").unwrap_or("0..3".into());
    let (a, b) = seeds.split_once("..").unwrap();
    for seed in a.parse::<u64>().unwrap()..b.parse().unwrap() {
        let t = std::time::SystemTime::now();
        let report = run(seed);
        println!("seed {seed}: {:?} {} lines, {}", t.elapsed().unwrap(), report.trace.len(), report.trace.last().unwrap());
        for f in &report.findings { println!("   {f}"); }
        if std::env::var("TRACE").is_ok() { std::fs::write(format!("/dev/shm/weir-sim/trace-{seed}"), report.trace.join("\n")).unwrap(); }
    }
}
