//! What the segments of a contact say.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use earpiece_core::contact::facts::StreamFacts;
use earpiece_core::contact::{ContactKey, StreamId};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::error::Error;
use crate::event::AllEvents;
use crate::name::{self, SegmentName};
use crate::segment::{self, SEGMENT_BYTES_MAX};

/// Segments that are read at the same time.
pub(crate) const READS_MAX: usize = 8;

/// Everything that lies under a contact's name in `live/`.
#[derive(Default)]
pub(crate) struct Survey {
    pub(crate) streams: BTreeMap<StreamId, Found>,
    pub(crate) events: AllEvents,
    /// Segments that were read.
    pub(crate) used: Vec<Path>,
    /// What cannot be read.
    pub(crate) unreadable: Vec<Path>,
}

/// What was found of a stream.
#[derive(Debug)]
pub(crate) struct Found {
    /// The facts of the segment that knows most.
    pub(crate) facts: StreamFacts,
    /// Segments with samples, by their first.
    pub(crate) stretches: Vec<Stretch>,
}

/// The samples of one segment.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub(crate) name: SegmentName,
    /// Which samples of the stream.
    pub(crate) samples: Range<u64>,
    /// Where in the object the first one lies.
    pub(crate) data_at: u64,
}

/// One object, as far as it can be read.
enum Looked {
    Segment(SegmentName, Path, Box<segment::Read>),
    Unreadable(Path),
}

impl Survey {
    pub(crate) async fn of(store: &Arc<dyn ObjectStore>, contact: ContactKey) -> Result<Self, Error> {
        let live = name::live(contact);
        let mut objects: Vec<ObjectMeta> =
            store.list(Some(&live)).try_collect().await.map_err(Error::store("list segments"))?;
        // Stores list in any order; by name it is by stream and time.
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        let mut looks = futures_util::stream::iter(objects)
            .map(|object| look(Arc::clone(store), contact, object))
            .buffered(READS_MAX);
        let mut survey = Self::default();
        while let Some(looked) = looks.try_next().await? {
            survey.add(looked);
        }
        for found in survey.streams.values_mut() {
            found.stretches.sort_by_key(|stretch| stretch.name);
        }
        Ok(survey)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used.is_empty() && self.unreadable.is_empty()
    }

    fn add(&mut self, looked: Looked) {
        let (name, path, read) = match looked {
            Looked::Segment(name, path, read) => (name, path, *read),
            Looked::Unreadable(path) => return self.unreadable.push(path),
        };
        self.used.push(path);
        self.events.add(&read.events);
        let samples = name.first_sample..name.first_sample + (read.data.end - read.data.start);
        let stretch = Stretch { name, samples, data_at: read.data.start };
        let found = self
            .streams
            .entry(name.stream)
            .or_insert_with(|| Found { facts: read.facts.clone(), stretches: Vec::new() });
        if knows_more(&read.facts, &found.facts) {
            found.facts = read.facts;
        }
        if !stretch.samples.is_empty() {
            found.stretches.push(stretch);
        }
    }
}

/// Facts only ever grow: an end is the last thing to be known, and nothing is known after it.
fn knows_more(a: &StreamFacts, b: &StreamFacts) -> bool {
    let knowledge = |facts: &StreamFacts| (facts.closed.is_some(), facts.samples, facts.frames, facts.lost.len());
    knowledge(a) > knowledge(b)
}

async fn look(store: Arc<dyn ObjectStore>, contact: ContactKey, object: ObjectMeta) -> Result<Looked, Error> {
    let path = object.location;
    let name = path.filename().and_then(SegmentName::read);
    let Some(name) = name.filter(|name| name::segment(contact, *name) == path && object.size <= SEGMENT_BYTES_MAX)
    else {
        return Ok(Looked::Unreadable(path));
    };
    let bytes = read(&store, &path).await?;
    Ok(match segment::read(&bytes, contact, name) {
        Some(read) => Looked::Segment(name, path, Box::new(read)),
        None => Looked::Unreadable(path),
    })
}

async fn read(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Bytes, Error> {
    let action = "read a segment";
    let object = store.get(path).await.map_err(Error::store(action))?;
    object.bytes().await.map_err(Error::store(action))
}

/// Contacts with something under `live/` of which nothing was written for `idle`.
pub(crate) async fn unfinished(
    store: &Arc<dyn ObjectStore>,
    limit: usize,
    idle: Duration,
) -> Result<Vec<ContactKey>, Error> {
    let list = |folder: Path| async move {
        let listed = store.list_with_delimiter(Some(&folder)).await;
        Ok::<_, Error>(listed.map_err(Error::store("list contacts"))?.common_prefixes)
    };
    let mut contacts = Vec::new();
    for business_unit in list(name::live_root()).await? {
        for folder in list(business_unit).await? {
            if contacts.len() >= limit {
                return Ok(contacts);
            }
            let Some(contact) = name::contact_of(&folder) else { continue };
            // On a disk there may be a folder with nothing in it but what a dead task had begun to write.
            let segments: Vec<ObjectMeta> =
                store.list(Some(&folder)).try_collect().await.map_err(Error::store("list segments"))?;
            let newest = segments.iter().map(|segment| SystemTime::from(segment.last_modified)).max();
            if newest.is_some_and(|at| at.elapsed().is_ok_and(|since| since >= idle)) {
                contacts.push(contact);
            }
        }
    }
    Ok(contacts)
}
