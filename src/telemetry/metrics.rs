//! The registry of metrics.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::process::ProcessCollector;
use crate::types::Timestamp;

/// The metrics of one node. Register everything, then share it and [`Telemetry::encode`] it.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
}

impl Telemetry {
    /// A registry with the version of this software (`weir_build_info`) and the process's own metrics
    /// (`process_...`); `started` is when the process began.
    pub fn new(started: Timestamp) -> Telemetry {
        let mut registry = Registry::default();
        registry.register(
            "weir_build",
            "The version of this node's software",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(ProcessCollector::new(started)));
        Telemetry { registry }
    }

    /// Where rooms register their metrics.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// All metrics in the OpenMetrics text format, as `/metrics` answers
    /// (`application/openmetrics-text; version=1.0.0; charset=utf-8`).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail, and collectors leave out what they cannot read.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// The content type of [`Telemetry::encode`].
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn the_page_has_the_build_the_process_and_what_rooms_registered() {
        let mut telemetry = Telemetry::new(Timestamp(1_700_000_000_000));
        let records = Counter::<u64>::default();
        telemetry
            .registry()
            .register("weir_records", "Records", records.clone());
        records.inc_by(3);
        let page = telemetry.encode();
        let version = env!("CARGO_PKG_VERSION");
        let build = format!("weir_build_info{{version=\"{version}\"}} 1");
        for line in [
            build.as_str(),
            "weir_records_total 3",
            "process_start_time_seconds 1700000000",
            "# EOF",
        ] {
            assert!(page.contains(line), "{line} is not in:\n{page}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_has_open_files_memory_and_has_used_the_processor() {
        let page = Telemetry::new(Timestamp(0)).encode();
        let value = |name: &str| -> f64 {
            let line = page.lines().find(|l| l.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_max_fds ") >= value("process_open_fds "));
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_virtual_memory_bytes ") > 1e6);
        assert!(value("process_threads ") >= 1.0);
        assert!(value("process_cpu_seconds_total ") > 0.0);
    }
}
