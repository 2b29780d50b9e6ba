//! Which topics are tables, and by which names.
//!
//! A table's name is the topic's in lower case, with `_` for `.` and `-`: `orders.eu-1` is `orders_eu_1`, as its folder
//! in the archive is. SQL folds what is not quoted to lower case, so `SELECT * FROM Orders` reads the topic `Orders`. A
//! quoted name is first taken as the topic's own: `"orders.eu-1"`. Two topics may have one name as tables; then it
//! belongs to neither, and the error says how each is named.
//!
//! Tables of the archive whose topics are deleted are in a schema of their own, `archive`, and found without it where
//! no topic has their name.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::TableType;

use super::engine::{Shared, batch_rows};
use super::error::{QueryError, QueryErrorKind};
use super::table::{OrphanTable, TopicTable};
use crate::broker::Snapshot;
use crate::types::{TableId, TopicId};

/// The name of the catalog.
pub(super) const CATALOG: &str = "weir";
/// The name of the schema of topics.
pub(super) const SCHEMA: &str = "topics";
/// The name of the schema of what is left of deleted topics.
const ORPHANS: &str = "archive";
/// The engine's schema of what tables there are, and of that what may be seen: the rest tells of the host.
const INFORMATION: &str = "information_schema";
const SHOWN: &[&str] = &[
    "tables",
    "views",
    "columns",
    "schemata",
    "routines",
    "parameters",
];

/// How many names are told to who names a table that there is not.
const MAX_NEAR: usize = 3;

/// The name of a topic's table.
pub fn table_name(topic: &str) -> String {
    topic
        .chars()
        .map(|c| match c {
            '.' | '-' => '_',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

/// The tables of one query.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    snapshot: Arc<Snapshot>,
    shared: Shared,
    /// The topics by the names of their tables.
    names: Arc<BTreeMap<String, Vec<(String, TopicId)>>>,
    /// The tables of deleted topics.
    orphans: Arc<BTreeMap<String, TableId>>,
}

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Topic(TopicId),
    Orphan(TableId),
}

impl Tables {
    /// The topics of `snapshot`.
    pub(super) fn new(snapshot: Snapshot, shared: Shared) -> Tables {
        let mut names: BTreeMap<String, Vec<(String, TopicId)>> = BTreeMap::new();
        for topic in snapshot.topics() {
            let name = topic.name().as_str();
            let same = names.entry(table_name(name)).or_default();
            same.push((name.to_owned(), topic.id()));
        }
        let orphans = snapshot.orphans();
        let orphans = orphans.map(|archive| (archive.name().as_str().to_owned(), archive.id()));
        Tables {
            orphans: Arc::new(orphans.collect()),
            snapshot: Arc::new(snapshot),
            shared,
            names: Arc::new(names),
        }
    }

    /// Fails if a name means no table, or several: before it is planned, since the engine's own words are few. What a
    /// statement uses that only asks what there is, the engine knows. `is_function` knows the functions that make
    /// tables.
    pub(super) fn check(
        &self,
        references: &[TableReference],
        asks_what_there_is: bool,
        is_function: impl Fn(&str) -> bool,
    ) -> Result<(), QueryError> {
        for reference in references {
            if reference.schema().is_none() && is_function(reference.table()) {
                continue;
            }
            let is_ours = reference.catalog().is_none_or(|catalog| catalog == CATALOG);
            let table = reference.table();
            match reference
                .schema()
                .filter(|_| is_ours)
                .or((is_ours).then_some(""))
            {
                Some(INFORMATION) if asks_what_there_is || SHOWN.contains(&table) => {}
                Some(ORPHANS) if self.orphans.contains_key(table) => {}
                Some("" | SCHEMA) => {
                    self.find(table)?;
                }
                _ => return Err(self.unknown(&reference.to_string())),
            }
        }
        Ok(())
    }

    /// What a table is of.
    fn find(&self, table: &str) -> Result<Named, QueryError> {
        let folded = table_name(table);
        let Some(named) = self.names.get(&folded) else {
            let orphan = self.orphans.get(&folded).map(|id| Named::Orphan(*id));
            return orphan.ok_or_else(|| self.unknown(table));
        };
        if let Some((_, topic)) = named.iter().find(|(name, _)| name == table) {
            return Ok(Named::Topic(*topic));
        }
        match named.as_slice() {
            [(_, topic)] => Ok(Named::Topic(*topic)),
            several => {
                let names: Vec<String> = several
                    .iter()
                    .map(|(name, _)| format!("\"{name}\""))
                    .collect();
                Err(QueryError::new(
                    QueryErrorKind::UnknownTable,
                    format!(
                        "the table '{folded}' may be several topics: name one of them in double quotes: {}",
                        names.join(", ")
                    ),
                ))
            }
        }
    }

    /// How many rows a batch is to have, by how large the records of these tables are.
    pub(super) fn batch_rows(&self, references: &[TableReference]) -> u64 {
        let used = references
            .iter()
            .filter_map(|table| self.find(table.table()).ok());
        let sizes = used
            .filter_map(|named| match named {
                Named::Topic(topic) => self.snapshot.topic(topic),
                Named::Orphan(_) => None,
            })
            .map(|topic| {
                let all = topic.partitions().map(|(_, partition)| {
                    let records = partition.high_watermark().since(partition.log_start());
                    (partition.bytes().0, records)
                });
                let (bytes, records) = all.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
                batch_rows(bytes, records)
            });
        sizes.min().unwrap_or_else(|| batch_rows(0, 0))
    }

    fn unknown(&self, table: &str) -> QueryError {
        let folded = table_name(table);
        let mut near: Vec<(usize, &str)> = self
            .names
            .keys()
            .chain(self.orphans.keys())
            .map(|name| (distance(&folded, name), name.as_str()))
            .filter(|(distance, name)| {
                let longest = name.len().max(folded.len());
                *distance * 2 <= longest || name.contains(&folded) || folded.contains(name)
            })
            .collect();
        near.sort_unstable();
        near.truncate(MAX_NEAR);
        let near: Vec<&str> = near.into_iter().map(|(_, name)| name).collect();
        let hint = match near.is_empty() {
            true => "SHOW TABLES lists the tables".to_owned(),
            false => format!("did you mean {}?", near.join(", ")),
        };
        let shown: String = table
            .chars()
            .take(64)
            .flat_map(char::escape_debug)
            .collect();
        QueryError::new(
            QueryErrorKind::UnknownTable,
            format!("there is no table '{shown}'; {hint}"),
        )
    }
}

/// How many letters have to be changed, added or left out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        for (y, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = *above;
            left = replaced.min(diagonal + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

impl Tables {
    fn provider(&self, named: Named) -> Result<Arc<dyn TableProvider>, QueryError> {
        let (snapshot, shared) = (self.snapshot.clone(), self.shared.clone());
        Ok(match named {
            Named::Topic(id) => Arc::new(TopicTable::new(snapshot, id, shared)?),
            Named::Orphan(id) => Arc::new(OrphanTable::new(snapshot, id, shared)?),
        })
    }
}

/// The schema of what is left of deleted topics.
#[derive(Debug)]
struct Orphans(Tables);

#[async_trait]
impl SchemaProvider for Orphans {
    fn table_names(&self) -> Vec<String> {
        self.0.orphans.keys().cloned().collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let found = self.0.orphans.get(name);
        let provided = found.map(|id| self.0.provider(Named::Orphan(*id)));
        Ok(provided.transpose()?)
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.orphans.contains_key(name)
    }
}

impl CatalogProvider for Tables {
    fn schema_names(&self) -> Vec<String> {
        let orphans = (!self.orphans.is_empty()).then_some(ORPHANS);
        [SCHEMA]
            .into_iter()
            .chain(orphans)
            .map(str::to_owned)
            .collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            SCHEMA => Some(Arc::new(self.clone())),
            ORPHANS => Some(Arc::new(Orphans(self.clone()))),
            _ => None,
        }
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        // Of those that share a name, each has its own.
        let named = self.names.iter().flat_map(|(name, topics)| {
            let alone = topics.len() == 1;
            topics.iter().map(move |(topic, _)| match alone {
                true => name.clone(),
                false => topic.clone(),
            })
        });
        named.collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(Some(self.provider(self.find(name)?)?))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        Ok(self.find(name).is_ok().then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.find(name).is_ok()
    }
}
