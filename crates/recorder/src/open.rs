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

    use std::fmt;
    use std::time::Duration;

    use earpiece_core::config::ProcessEnv;
    use earpiece_https::client::{Client, Failure, Limits};
    use earpiece_https::{Trust, TrustError};
    use futures_util::future::BoxFuture;
    use http_body_util::BodyExt as _;
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
    use object_store::client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    };
    use object_store::prefix::PrefixStore;
    use object_store::{BackoffConfig, ClientOptions, RetryConfig, path};

    use super::{Arc, Cadence, ObjectStore, OpenError, Opened};

    /// How long one request may take, up to the last byte of its answer. An upload goes in parts of 5 MiB.
    const EXCHANGE_MAX: Duration = Duration::from_secs(30);
    /// No answer is larger. Every answer is held whole, here or by whoever asked; what would exceed this is no part of a
    /// recording of ours, which is read in ranges.
    const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;

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
            .with_http_connector(Carrier)
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

    /// The store's requests go through our own HTTPS client, as everybody's do: one TLS, one set of roots.
    #[derive(Debug)]
    struct Carrier;

    impl HttpConnector for Carrier {
        fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
            let refused = |fault: TrustError| object_store::Error::Generic { store: "S3", source: fault.into() };
            let trust = Trust::read(&ProcessEnv).map_err(refused)?;
            Ok(HttpClient::new(Carried { client: Client::new(&trust).map_err(refused)? }))
        }
    }

    struct Carried {
        client: Client,
    }

    impl fmt::Debug for Carried {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Carried")
        }
    }

    impl HttpService for Carried {
        fn call<'a, 'b>(&'a self, request: HttpRequest) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let limits = Limits { deadline: EXCHANGE_MAX, answer_bytes_max: ANSWER_BYTES_MAX };
                let answer = self.client.send(http::Request::from_parts(head, body), limits).await;
                Ok(answer.map_err(error_of)?.map(Into::into))
            })
        }
    }

    /// What the store's retries make of it: what may have arrived is sent again only where that does no harm.
    fn error_of(failure: Failure) -> HttpError {
        let kind = match failure {
            Failure::Unreachable => HttpErrorKind::Connect,
            Failure::TimedOut => HttpErrorKind::Timeout,
            Failure::Broken => HttpErrorKind::Interrupted,
            Failure::TooLarge => HttpErrorKind::Decode,
        };
        HttpError::new(kind, failure)
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
