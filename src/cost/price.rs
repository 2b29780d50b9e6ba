//! Prices, and what a demand costs.

use serde::{Deserialize, Serialize};

use super::{Billed, Demand};

/// Prices in US dollars. The defaults are S3's, of the standard class in us-east-1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prices {
    /// 1,000 requests of PUT, COPY, POST or LIST.
    pub put_per_1000: f64,
    /// 1,000 requests of GET or HEAD.
    pub get_per_1000: f64,
    /// A gigabyte (1e9 bytes) kept for a month.
    pub storage_per_gb_month: f64,
    /// A gigabyte that goes from one zone to another, both directions together.
    pub across_zones_per_gb: f64,
    /// A node for a month; 0 leaves machines out.
    pub node_per_month: f64,
}

impl Default for Prices {
    fn default() -> Prices {
        Prices {
            put_per_1000: 0.005,
            get_per_1000: 0.0004,
            storage_per_gb_month: 0.023,
            across_zones_per_gb: 0.02,
            node_per_month: 0.0,
        }
    }
}

/// US dollars in a month of 30 days.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bill {
    /// PUT and LIST.
    pub puts: f64,
    /// GET.
    pub gets: f64,
    /// What is kept.
    pub storage: f64,
    /// From zone to zone.
    pub across_zones: f64,
    /// The machines.
    pub nodes: f64,
}

/// The seconds of a month of 30 days.
pub(crate) const MONTH: f64 = 30.0 * 24.0 * 3600.0;

const GB: f64 = 1e9;

impl Prices {
    /// What it costs in a month, on so many nodes.
    pub fn bill(&self, demand: &Demand, nodes: u32) -> Bill {
        let month = |billed| demand.per_second(billed) * MONTH / 1000.0;
        Bill {
            puts: month(Billed::Put) * self.put_per_1000,
            gets: month(Billed::Get) * self.get_per_1000,
            storage: demand.stored / GB * self.storage_per_gb_month,
            across_zones: demand.across_zones * MONTH / GB * self.across_zones_per_gb,
            nodes: f64::from(nodes) * self.node_per_month,
        }
    }
}

impl Bill {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.puts + self.gets + self.storage + self.across_zones + self.nodes
    }
}
