//! Real text, as producers compress it.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use bytes::{Bytes, BytesMut};
use weir::segment::Codec;

use crate::flood::{Flood, Load};
use crate::load::{IN_FLIGHT, MESSAGE};
use crate::measure::{Flow, Plan};
use crate::node::Node;
use crate::report::Row;
use crate::stats::Figures;
use crate::wire::batch_in;

/// The codecs, by the names that clients give them.
const CODECS: [(&str, Codec); 5] = [
    ("none", Codec::None),
    ("gzip", Codec::Gzip),
    ("snappy", Codec::Snappy),
    ("lz4", Codec::Lz4),
    ("zstd", Codec::Zstd),
];

/// Messages in a batch, and different batches.
const BATCH: usize = 1000;
const DIFFERENT: usize = 2;

const PRODUCERS: usize = 8;

/// Producers that send text, each codec in its turn.
pub(crate) async fn codecs(plan: &Plan, url: &str, figures: &mut Figures) -> Result<()> {
    let text = text()?;
    let node = Node::start(&plan.node, url, &plan.log)?;
    let mut floods = Vec::new();
    for (name, codec) in CODECS {
        let mut batches = Vec::new();
        let mut messages = text.chunks(MESSAGE).cycle();
        for _ in 0..DIFFERENT {
            let values = messages.by_ref().take(BATCH).map(Bytes::copy_from_slice);
            batches.push(batch_in(codec, &values.collect::<Vec<_>>())?);
        }
        let stored: usize = batches.iter().map(|batch| batch.stored()).sum();
        let whole = (DIFFERENT * BATCH * MESSAGE) as f64;
        figures.set(format!("codec.{name}.stored"), stored as f64 / whole);
        let load = Load {
            batches,
            messages: i32::try_from(BATCH)?,
            bytes: (BATCH * MESSAGE) as u64,
            in_flight: IN_FLIGHT,
        };
        let topic = name;
        let flood = Flood::start_with(topic, node.kafka, PRODUCERS, PRODUCERS, load).await?;
        floods.push((name, flood, Flow::default()));
    }
    for round in 0..=plan.rounds {
        for (_, flood, flow) in &mut floods {
            // The first round warms up.
            let time = plan.turn / if round == 0 { 8 } else { 2 };
            let before = node.processor_seconds()?;
            let (bytes, took) = flood.run(time).await?;
            if round > 0 {
                flow.add(bytes, took, node.processor_seconds()? - before);
            }
        }
    }
    for (name, _, flow) in floods {
        let rate = flow.megabytes_per_second();
        figures.set(format!("codec.{name}.rate"), rate);
        let processor = flow.processor_seconds_per_gigabyte();
        figures.set(format!("codec.{name}.processor"), processor);
    }
    Ok(())
}

/// What people wrote: the documentation of this project.
fn text() -> Result<Bytes> {
    let mut text = BytesMut::new();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for folder in [docs.join("decisions"), docs.join("formats"), docs] {
        let mut files: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        files.sort_by_key(|file| file.path());
        for file in files {
            if file.path().extension().is_some_and(|end| end == "md") {
                text.extend_from_slice(&fs::read(file.path())?);
            }
        }
    }
    ensure!(text.len() > 100 * MESSAGE, "there is too little text");
    text.truncate(text.len() / MESSAGE * MESSAGE);
    Ok(text.freeze())
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, _) in CODECS {
        let title = |what: &str| format!("text in 1 KiB messages, codec {name}: {what}");
        let id = |what: &str| format!("codec.{name}.{what}");
        rows.push(Row::new(title("bytes stored per byte"), id("stored")));
        rows.push(Row::new(title("MB/s of text"), id("rate")).whole());
        rows.push(Row::new(title("CPU s per GB of text"), id("processor")));
    }
    rows
}
