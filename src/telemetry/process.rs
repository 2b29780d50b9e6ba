//! Metrics of the process itself, read when they are asked for.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::types::Timestamp;

/// Reads `/proc` at each scrape. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    started: Timestamp,
}

impl ProcessCollector {
    pub(super) fn new(started: Timestamp) -> ProcessCollector {
        ProcessCollector { started }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let started = self.started.0 as f64 / 1000.0;
        let figures = [
            (
                "process_start_time_seconds",
                "When the process began, in seconds since the Unix epoch",
                Some(started),
            ),
            ("process_open_fds", "Open file descriptors", open_files()),
            ("process_max_fds", "The most file descriptors", max_files()),
            (
                "process_resident_memory_bytes",
                "Memory that is resident, in bytes",
                status("VmRSS:").map(|kib| kib * 1024.0),
            ),
            (
                "process_virtual_memory_bytes",
                "Address space, in bytes",
                status("VmSize:").map(|kib| kib * 1024.0),
            ),
            ("process_threads", "Threads", status("Threads:")),
        ];
        for (name, help, value) in figures {
            if let Some(value) = value {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)?;
            }
        }
        if let Some(seconds) = cpu_seconds() {
            let (name, help) = ("process_cpu_seconds", "Processor time used, in seconds");
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        Ok(())
    }
}

fn open_files() -> Option<f64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them reads the directory.
    Some(count.saturating_sub(1) as f64)
}

fn max_files() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|l| l.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// A number of `/proc/self/status`; sizes are in KiB.
fn status(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(target_os = "linux")]
fn cpu_seconds() -> Option<f64> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

#[cfg(not(target_os = "linux"))]
fn cpu_seconds() -> Option<f64> {
    None
}
