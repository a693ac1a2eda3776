//! From settings to parts: what an operator configured becomes what [`crate::run`] works with, before anything is served.

use std::path::PathBuf;

use earpiece_core::config::{Env, Reader, Setting};
use earpiece_cxone::{Cxone, CxoneError, Uplink};
use earpiece_https::{Client, Trust};
use earpiece_knowledge::Knowledge;
use earpiece_store::Store;
use tracing::warn;

use crate::metrics::Metrics;
use crate::run::Parts;
use crate::settings::{Settings, Which};

/// What is configured of the way back to the agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// Leases, outbox, knowledge, triggers, webhooks.
    pub uplink: Settings,
    /// CXone; `None` where there are no credentials for it.
    pub cxone: Option<earpiece_cxone::Settings>,
}

/// What was configured and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// CXone's client.
    #[error("CXone cannot be used: {0}")]
    Cxone(#[from] CxoneError),
    /// The folder of articles.
    #[error("EARPIECE_KNOWLEDGE cannot be used: {0}")]
    Knowledge(#[from] earpiece_knowledge::OpenError),
    /// Indexing the folder did not come to an end.
    #[error("EARPIECE_KNOWLEDGE could not be indexed")]
    Indexing,
    /// The metrics could not be declared.
    #[error("the metrics cannot be declared: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Config {
    /// Every setting that [`Config::read`] reads.
    #[must_use]
    pub fn settings() -> Vec<Setting> {
        earpiece_cxone::settings::ALL.iter().chain(&crate::settings::ALL).copied().collect()
    }

    /// Reads every setting. Faults are left with the reader.
    pub fn read(reader: &mut Reader<'_, impl Env>) -> Self {
        Self { uplink: Settings::read(reader), cxone: earpiece_cxone::Settings::read(reader) }
    }

    /// Makes the parts for the task of this name. CXone is not asked for anything yet; a folder of articles is indexed.
    ///
    /// # Errors
    ///
    /// What cannot be used.
    pub async fn open(
        &self,
        task: String,
        store: Store,
        https: Client,
        trust: &Trust,
        env: &impl Env,
    ) -> Result<Parts, OpenError> {
        let mut settings = self.uplink.clone();
        let cxone = match &self.cxone {
            None => None,
            Some(configured) => {
                leave_out_unreachable(&mut settings, configured);
                Some(Cxone::connect(configured, https.clone(), trust, env).await?)
            }
        };
        let knowledge = match settings.knowledge.clone() {
            None => None,
            Some(folder) => Some(index(folder).await?),
        };
        Ok(Parts { task, store, cxone, knowledge, https, settings, metrics: Metrics::new()? })
    }
}

/// A socket whose address lacks a part is left out: the others are of use without it.
fn leave_out_unreachable(settings: &mut Settings, cxone: &earpiece_cxone::Settings) {
    settings.uplinks.retain(|which| {
        let uplink = match which {
            Which::Suggestions => Uplink::Suggestions,
            Which::Insights => Uplink::Insights,
            Which::Popups => Uplink::Interactions,
        };
        let Some(lacking) = cxone.lacking(uplink) else { return true };
        warn!(
            uplink = which.label(),
            "{} is not set, and this socket's address needs it: it stays closed", lacking.name
        );
        false
    });
}

/// Indexing is work for a processor: not on a thread that others wait for.
async fn index(folder: PathBuf) -> Result<Knowledge, OpenError> {
    let indexed = tokio::task::spawn_blocking(move || Knowledge::open(&folder)).await;
    Ok(indexed.map_err(|_| OpenError::Indexing)??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_every_setting_with_its_default_and_doc() {
        let readme = include_str!("../../../README.md");
        let mut lacking = String::new();
        for setting in Config::settings() {
            let default = if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
            let row = format!("| `{}` | {default} | {} |", setting.name, setting.doc);
            if !readme.contains(&row) {
                lacking.push_str(&row);
                lacking.push('\n');
            }
        }
        assert!(lacking.is_empty(), "the README's settings tables lack:\n{lacking}");
    }
}
