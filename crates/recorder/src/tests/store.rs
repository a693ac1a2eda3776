//! A store that misbehaves on order, over one that does not.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It succeeds.
    Succeeds,
    /// It fails at once.
    Fails,
    /// It takes so many milliseconds.
    Takes(u64),
    /// It is done, and then the answer is lost.
    SucceedsUnheard,
}

/// A store that misbehaves on order.
#[derive(Debug)]
pub(super) struct Moody {
    inner: Arc<dyn ObjectStore>,
    puts: Mutex<VecDeque<Put>>,
    /// What happens to puts when nothing is ordered.
    usual: Mutex<Put>,
    /// After so many changes nothing can be changed any more: the task that makes them is dead.
    changes_left: AtomicUsize,
}

impl Moody {
    pub(super) fn over(inner: &Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            puts: Mutex::default(),
            usual: Mutex::new(Put::Succeeds),
            changes_left: AtomicUsize::new(usize::MAX),
        })
    }

    pub(super) fn next_puts(&self, puts: impl IntoIterator<Item = Put>) {
        self.puts.lock().expect("unpoisoned").extend(puts);
    }

    pub(super) fn all_puts(&self, put: Put) {
        self.puts.lock().expect("unpoisoned").clear();
        *self.usual.lock().expect("unpoisoned") = put;
    }

    pub(super) fn dies_after(&self, changes: usize) {
        self.changes_left.store(changes, Ordering::SeqCst);
    }

    fn change(&self) -> Result<()> {
        let spent = self.changes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        spent.map(drop).map_err(|_| refused())
    }

    async fn put(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let ordered = self.puts.lock().expect("unpoisoned").pop_front();
        let put = ordered.unwrap_or(*self.usual.lock().expect("unpoisoned"));
        self.change()?;
        match put {
            Put::Fails => return Err(refused()),
            Put::Takes(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Put::Succeeds | Put::SucceedsUnheard => {}
        }
        let written = self.inner.put_opts(location, payload, opts).await?;
        if put == Put::SucceedsUnheard { Err(refused()) } else { Ok(written) }
    }
}

fn refused() -> Error {
    Error::Generic { store: "moody", source: "not now".into() }
}

impl fmt::Display for Moody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moody")
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

impl ObjectStore for Moody {
    fn put_opts<'me, 'path, 'answer>(
        &'me self,
        location: &'path Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Answer<'answer, PutResult>
    where
        'me: 'answer,
        'path: 'answer,
        Self: 'answer,
    {
        Box::pin(self.put(location, payload, opts))
    }

    fn put_multipart_opts<'me, 'path, 'answer>(
        &'me self,
        location: &'path Path,
        opts: PutMultipartOptions,
    ) -> Answer<'answer, Box<dyn MultipartUpload>>
    where
        'me: 'answer,
        'path: 'answer,
        Self: 'answer,
    {
        Box::pin(async move {
            self.change()?;
            self.inner.put_multipart_opts(location, opts).await
        })
    }

    fn get_opts<'me, 'path, 'answer>(
        &'me self,
        location: &'path Path,
        options: GetOptions,
    ) -> Answer<'answer, GetResult>
    where
        'me: 'answer,
        'path: 'answer,
        Self: 'answer,
    {
        self.inner.get_opts(location, options)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // One after the other, so that a task can die between two.
        let inner = Arc::clone(&self.inner);
        let left = self.changes_left.load(Ordering::SeqCst);
        let deleted = locations.enumerate().then(move |(n, location)| {
            let inner = Arc::clone(&inner);
            async move {
                let location = location?;
                if n >= left {
                    return Err(refused());
                }
                inner.delete(&location).await?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_delimiter<'me, 'path, 'answer>(&'me self, prefix: Option<&'path Path>) -> Answer<'answer, ListResult>
    where
        'me: 'answer,
        'path: 'answer,
        Self: 'answer,
    {
        self.inner.list_with_delimiter(prefix)
    }

    fn copy_opts<'me, 'from, 'to, 'answer>(
        &'me self,
        from: &'from Path,
        to: &'to Path,
        options: CopyOptions,
    ) -> Answer<'answer, ()>
    where
        'me: 'answer,
        'from: 'answer,
        'to: 'answer,
        Self: 'answer,
    {
        Box::pin(async move {
            self.change()?;
            self.inner.copy_opts(from, to, options).await
        })
    }
}
