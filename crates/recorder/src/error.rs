//! What can go wrong, without a word of what was said.

use std::path::PathBuf;

use earpiece_core::audio::wav::WavError;
use earpiece_core::contact::ContactKey;
use earpiece_core::error::Kind;

/// Why a contact could not be finished or looked up. Its segments are kept; finishing may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not do what it was asked to.
    #[error("the recordings store failed to {action}: {}", cause(source))]
    Store {
        /// What it was asked to do.
        action: &'static str,
        /// What it said. Its text can hold addresses and answers of the store: not for logs.
        source: object_store::Error,
    },
    /// The recording would be larger than a WAV file can be (4 GiB).
    #[error("contact {contact} spans {samples} samples, which is more than a WAV file can hold")]
    TooLong {
        /// Which contact.
        contact: ContactKey,
        /// Length of the recording.
        samples: u64,
    },
    /// `ledger.json` of an earlier finish is not one that this version can read.
    #[error("the ledger of contact {contact} cannot be read")]
    UnreadableLedger {
        /// Which contact.
        contact: ContactKey,
    },
    /// There is a ledger of an earlier finish, but `recording.wav` is gone or no recording of ours.
    #[error("the recording of contact {contact} that its ledger speaks of cannot be read")]
    UnreadableRecording {
        /// Which contact.
        contact: ContactKey,
    },
    /// A piece of a stream is not known to be in the store. Writing it again does no harm.
    #[error("a piece of contact {contact} could not be written")]
    NotWritten {
        /// Which contact.
        contact: ContactKey,
    },
    /// A defect of ours: something that always has a form as bytes had none.
    #[error("{what} of contact {contact} could not be written down")]
    NotWritable {
        /// Which contact.
        contact: ContactKey,
        /// What.
        what: &'static str,
    },
}

impl Error {
    /// What kind of fault it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Store { .. } | Self::NotWritten { .. } => Kind::Unavailable,
            Self::TooLong { .. } => Kind::TooLarge,
            Self::UnreadableLedger { .. } | Self::UnreadableRecording { .. } | Self::NotWritable { .. } => {
                Kind::Internal
            }
        }
    }

    /// For `map_err`: what the store was asked to do.
    pub(crate) fn store(action: &'static str) -> impl FnOnce(object_store::Error) -> Self {
        move |source| Self::Store { action, source }
    }

    pub(crate) const fn wav(contact: ContactKey, samples: u64, error: WavError) -> Self {
        match error {
            WavError::TooLarge => Self::TooLong { contact, samples },
            _ => Self::NotWritable { contact, what: "the recording" },
        }
    }
}

/// Why a location cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither a path nor `s3://bucket/prefix`.
    #[error("recordings can go to a folder or to s3://bucket/prefix, not to {scheme}://")]
    UnknownScheme {
        /// What stands before `://`.
        scheme: String,
    },
    /// `s3://` without the name of a bucket, or with a prefix that is none.
    #[error("this is not of the form s3://bucket/prefix")]
    NotABucket,
    /// S3 was left out of this build (feature `s3`).
    #[error("this build knows no S3: it was made without the feature `s3`")]
    WithoutS3,
    /// The folder cannot be made or written to.
    #[error("the folder {} cannot be written to: {source}", folder.display())]
    Folder {
        /// Which folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store's own configuration, such as the `AWS_…` environment, is not usable.
    #[error("the store cannot be set up: {}", cause(source))]
    Store {
        /// What it said.
        #[from]
        source: object_store::Error,
    },
    /// A setting is outside its limits.
    #[error("{setting} must be from {min} to {max}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
}

impl OpenError {
    /// What kind of fault it is: a folder may yet become writable, the rest needs another configuration.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Folder { .. } => Kind::Unavailable,
            Self::UnknownScheme { .. }
            | Self::NotABucket
            | Self::WithoutS3
            | Self::Store { .. }
            | Self::Setting { .. } => Kind::BadInput,
        }
    }
}

/// What is behind a store's error, in words that are safe to log: stores put addresses, and S3 whole answers, into
/// their texts.
pub(crate) fn cause(error: &object_store::Error) -> String {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return io.kind().to_string();
        }
        source = inner.source();
    }
    let class = match error {
        object_store::Error::NotFound { .. } => "not found",
        object_store::Error::PermissionDenied { .. } => "permission denied",
        object_store::Error::Unauthenticated { .. } => "not authenticated",
        object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => "not supported",
        object_store::Error::UnknownConfigurationKey { .. } => "unknown configuration key",
        _ => "the store reported a failure",
    };
    class.to_owned()
}
