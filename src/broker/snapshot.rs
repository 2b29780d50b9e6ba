//! One moment of the whole cluster, for who asks several things of it: queries.
//!
//! A state is a value, so what a [`Snapshot`] shows does not change under its reader. What it says of records is where
//! each partition begins and ends: the records themselves are read by [`Broker::fetch`], which has its own rules for
//! what was deleted since, and asks the gate again for each read.

use std::sync::Arc;

use super::access::{Action, Denied, Permit, Resource};
use super::{Broker, Home, Session, Unavailable};
use crate::dynamic_config::ArchiveConfig;
use crate::fetch::{Reader, TableFile};
use crate::state::table::{DataFile, LiveManifest, Table};
use crate::state::{State, Topic};
use crate::store::{ArchiveObject, ObjectPath};
use crate::table::typing::{Formats, Typing};
use crate::table::{Columns, SchemaError};
use crate::types::{Offset, PartitionIndex, TableId, TableName, TopicId};

/// One moment of the cluster, as far as a client may know of it.
#[derive(Clone)]
pub struct Snapshot {
    broker: Broker,
    session: Session,
    state: Arc<State>,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.state.seq())
    }
}

impl Broker {
    /// The cluster as it is now: contains every commit acknowledged anywhere before the call.
    pub async fn snapshot(&self, session: &Session) -> Result<Snapshot, Unavailable> {
        Ok(Snapshot {
            broker: self.clone(),
            session: session.clone(),
            state: self.fresh(Home::Cluster).await?,
        })
    }
}

/// The archive of a topic at one moment.
pub struct TopicArchive<'a> {
    table: &'a Table,
    reader: &'a Reader,
}

impl TopicArchive<'_> {
    /// The id of its table.
    pub fn id(&self) -> TableId {
        self.table.id()
    }

    /// The name of its table.
    pub fn name(&self) -> &TableName {
        self.table.name()
    }

    /// Its columns.
    pub fn columns(&self) -> Result<Columns, SchemaError> {
        Columns::new(self.table.schema().clone())
    }

    /// What its files are listed in.
    pub fn manifests(&self) -> impl Iterator<Item = &LiveManifest> {
        self.table.manifests()
    }

    /// One of its files.
    pub fn file(&self, file: &DataFile) -> TableFile {
        let path = ObjectPath::archive(self.table.name(), ArchiveObject::Data(file.id));
        self.reader.file(path, file.bytes, file.crc32c)
    }
}

impl Snapshot {
    /// The topics that the client may know of, without internal ones.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.state.topics().filter(|topic| self.may_know(topic))
    }

    /// One of them.
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.state.topic(id).filter(|topic| self.may_know(topic))
    }

    fn may_know(&self, topic: &Topic) -> bool {
        let named = Resource::topic(topic.name().as_str());
        let permit = self
            .broker
            .authorize(&self.session, Action::Describe, named);
        !topic.name().is_internal() && permit.is_ok()
    }

    /// The moment, for who may read this topic.
    ///
    /// # Errors
    ///
    /// The client may not read it.
    pub fn to_read(&self, topic: &Topic) -> Result<&Arc<State>, Denied> {
        let named = Resource::topic(topic.name().as_str());
        let permit = self.broker.authorize(&self.session, Action::Read, named)?;
        Ok(self.state(permit))
    }

    /// The table of the archive that a topic has.
    fn table(&self, topic: TopicId) -> Option<&Table> {
        let table = self.state.table_of(topic)?;
        (!table.is_dropped()).then_some(table)
    }

    /// Whether a topic has an archive.
    pub fn is_archived(&self, topic: TopicId) -> bool {
        self.table(topic).is_some()
    }

    /// The columns of a topic: those of its table, if it is archived.
    pub fn columns(&self, topic: TopicId) -> Result<Columns, SchemaError> {
        match self.table(topic) {
            Some(table) => Columns::new(table.schema().clone()),
            None => Ok(Columns::base()),
        }
    }

    /// What the archive has of a partition: from which offset on, and which is the one behind the last.
    pub fn archived(&self, topic: TopicId, partition: PartitionIndex) -> (Offset, Offset) {
        let partition = self
            .table(topic)
            .and_then(|table| table.partition(partition));
        partition.map_or_else(Default::default, |at| (at.start(), at.end()))
    }

    /// What keys and values of a topic are opened as, for the columns that its table has.
    pub fn formats(&self, topic: &Topic) -> Formats {
        if self.table(topic.id()).is_none() {
            return Formats::default();
        }
        let settings = ArchiveConfig::effective(topic.configs(), self.state.configs());
        let typing = Typing::new(&settings.key.name, "", &settings.value.name, "");
        typing.map_or_else(|_| Formats::default(), |typing| typing.formats())
    }

    /// The archive of a topic, for who may read the topic; `None` if it has none. The files that its manifests list are
    /// all that is archived, each record once.
    ///
    /// # Errors
    ///
    /// The client may not read it.
    pub fn archive(&self, topic: &Topic) -> Result<Option<TopicArchive<'_>>, Denied> {
        self.to_read(topic)?;
        Ok(self.table(topic.id()).map(|table| TopicArchive {
            table,
            reader: &self.broker.inner.reader,
        }))
    }

    /// The tables of topics that are deleted, for who may administer the cluster: there are no rules any more about
    /// what they were named after.
    pub fn orphans(&self) -> impl Iterator<Item = TopicArchive<'_>> {
        let permit = self
            .broker
            .authorize(&self.session, Action::Alter, Resource::Cluster);
        let state = permit.ok().map(|permit| self.state(permit));
        let tables = state.into_iter().flat_map(|state| state.tables());
        let left = tables.filter(|table| table.topic().is_none() && !table.is_dropped());
        left.map(|table| TopicArchive {
            table,
            reader: &self.broker.inner.reader,
        })
    }

    /// One of them.
    pub fn orphan(&self, id: TableId) -> Option<TopicArchive<'_>> {
        self.orphans().find(|archive| archive.id() == id)
    }

    fn state(&self, _: Permit) -> &Arc<State> {
        &self.state
    }

    /// The broker that it is of.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Whose it is.
    pub fn session(&self) -> &Session {
        &self.session
    }
}
