//! A location as a store.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;

use crate::error::OpenError;
use crate::setting::Cadence;

/// A store, seen twice.
pub(crate) struct Opened {
    /// For segments: as fast as may be. A machine that loses power loses the last seconds of its calls anyway.
    pub(crate) segments: Arc<dyn ObjectStore>,
    /// For what segments are turned into. Segments are deleted after that, so it must be on the disk by then.
    pub(crate) results: Arc<dyn ObjectStore>,
    /// How long segments are where nothing else is said.
    pub(crate) cadence: Cadence,
}

pub(crate) fn open(location: &str) -> Result<Opened, OpenError> {
    match location.split_once("://") {
        None => folder(Path::new(location)),
        #[cfg(feature = "s3")]
        Some(("s3", bucket)) => s3::open(bucket, object_store::aws::AmazonS3Builder::from_env()),
        #[cfg(not(feature = "s3"))]
        Some(("s3", _)) => Err(OpenError::WithoutS3),
        Some((scheme, _)) => Err(OpenError::UnknownScheme { scheme: scheme.to_owned() }),
    }
}

fn folder(folder: &Path) -> Result<Opened, OpenError> {
    let refused = |source| OpenError::Folder { folder: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(refused)?;
    // Better now than with the first call.
    let probe = folder.join(".earpiece-may-write");
    OpenOptions::new().write(true).create(true).truncate(true).open(&probe).map_err(refused)?;
    fs::remove_file(&probe).map_err(refused)?;
    let store = LocalFileSystem::new_with_prefix(folder)?.with_automatic_cleanup(true);
    Ok(Opened {
        segments: Arc::new(store.clone()),
        results: Arc::new(store.with_fsync(true)),
        cadence: Cadence::FOLDER,
    })
}

#[cfg(feature = "s3")]
pub(crate) mod s3 {
    //! `s3://bucket/prefix`.

    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
    use object_store::prefix::PrefixStore;
    use object_store::{BackoffConfig, RetryConfig, path};

    use super::{Arc, Cadence, ObjectStore, OpenError, Opened};

    /// `bucket` is what follows `s3://`.
    pub(crate) fn open(bucket: &str, environment: AmazonS3Builder) -> Result<Opened, OpenError> {
        let (bucket, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if bucket.is_empty() || !bucket.bytes().all(is_name) {
            return Err(OpenError::NotABucket);
        }
        let prefix = path::Path::parse(prefix.trim_end_matches('/')).map_err(|_| OpenError::NotABucket)?;
        let endpoints = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
        let endpoint = endpoints.iter().find_map(|key| environment.get_config_value(key));
        let is_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let store = environment
            .with_bucket_name(bucket)
            .with_allow_http(is_http)
            // An object is written by one task, and under one name only ever with one content.
            .with_conditional_put(S3ConditionalPut::Disabled)
            // Segments have retries of their own, and a finish is tried again as a whole: these are for hiccups.
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: 2,
                retry_timeout: std::time::Duration::from_secs(10),
            })
            .build()?;
        let store: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(store, prefix));
        Ok(Opened { segments: Arc::clone(&store), results: store, cadence: Cadence::S3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_of_another_kind_is_refused_by_its_scheme() {
        let refused = |location| open(location).err().map(|error| error.to_string());
        assert_eq!(
            refused("ftp://host/path").as_deref(),
            Some("recordings can go to a folder or to s3://bucket/prefix, not to ftp://")
        );
        #[cfg(not(feature = "s3"))]
        assert!(matches!(open("s3://bucket"), Err(OpenError::WithoutS3)));
        #[cfg(feature = "s3")]
        for location in ["s3://", "s3:///prefix", "s3://user:secret@bucket/x", "s3://bucket/a//b"] {
            assert!(matches!(open(location), Err(OpenError::NotABucket)), "{location}");
        }
    }

    #[test]
    fn a_folder_is_made_and_one_that_cannot_be_is_named() {
        let temporary = tempfile::tempdir().expect("a folder");
        let wanted = temporary.path().join("a/b");
        assert!(open(wanted.to_str().expect("text")).is_ok());
        assert_eq!(fs::read_dir(&wanted).expect("it exists").count(), 0, "the probe is gone");
        let file = temporary.path().join("file");
        fs::write(&file, b"").expect("written");
        let error = open(file.to_str().expect("text")).err().expect("a file is no folder");
        assert!(error.to_string().contains("file"), "{error}");
    }
}
