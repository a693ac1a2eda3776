//! `outbox`: what could not be sent, another try for it, or its end.

use earpiece_core::assist::InteractionId;
use earpiece_core::assist::outbox::Entry;
use earpiece_store::Store;
use serde_json::{Value, json};

use crate::args::{Handling, Letters, OutboxArgs};
use crate::clock::now_ms;
use crate::paint::Tone;
use crate::serve::from_store;
use crate::source::Source;
use crate::stage::Stage;
use crate::trouble::Trouble;

/// Dead letters that are shown, or handled by `--all`, in one go.
const LETTERS_MAX: usize = 100;

/// Shows dead letters, has them tried again, or drops them.
///
/// # Errors
///
/// When the store cannot be read or written, or a letter that was asked for is not there.
pub(crate) async fn run(args: &OutboxArgs, stage: &Stage) -> Result<(), Trouble> {
    let opening = Source::open(&args.data, args.table.as_deref());
    let source = stage.meanwhile("opening the state", opening).await?;
    let done = match &source.store {
        None => Err(Trouble::failed(format!("there is no state in {}, only recordings", source.name))),
        Some(store) => match &args.act {
            None | Some(Handling::List) => list(store, stage).await,
            Some(Handling::Retry(letters)) => handle(store, letters, Verdict::Retry, stage).await,
            Some(Handling::Drop(letters)) => handle(store, letters, Verdict::Drop, stage).await,
        },
    };
    stage.meanwhile("closing the state", source.close()).await;
    done
}

/// What becomes of a dead letter.
#[derive(Clone, Copy)]
enum Verdict {
    Retry,
    Drop,
}

impl Verdict {
    async fn on(self, store: &Store, interaction: &InteractionId, seq: u64) -> Result<bool, Trouble> {
        let done = match self {
            Self::Retry => store.revive_entry(interaction, seq, now_ms()).await,
            Self::Drop => store.drop_entry(interaction, seq, now_ms()).await,
        };
        done.map_err(|error| from_store(&error))
    }

    fn told(self, count: usize) -> String {
        match self {
            Self::Retry => format!("{count} to be tried again; whoever holds the lane's lease sends them"),
            Self::Drop => format!("{count} dropped"),
        }
    }
}

async fn letters(store: &Store, stage: &Stage) -> Result<Vec<Entry>, Trouble> {
    let asking = store.dead_entries(LETTERS_MAX);
    stage.meanwhile("asking the store", asking).await.map_err(|error| from_store(&error))
}

async fn list(store: &Store, stage: &Stage) -> Result<(), Trouble> {
    let letters = letters(store, stage).await?;
    if letters.is_empty() {
        stage.line("no dead letters: everything was sent, or is still being tried");
    } else {
        stage.line(stage.paint.tone(Tone::Bold, "INTERACTION SEQ, what, tries, why"));
    }
    for letter in &letters {
        stage.line(format!(
            "{} {}  {}, {} tries, {}",
            letter.interaction,
            letter.seq,
            letter.payload.label(),
            letter.attempts,
            reason(letter),
        ));
    }
    if letters.len() == LETTERS_MAX {
        stage.line(format!("the oldest {LETTERS_MAX}; there may be more"));
    }
    if !letters.is_empty() {
        let next =
            "  another try: earpiece outbox retry INTERACTION SEQ, or --all; to give one up: earpiece outbox drop";
        stage.line(stage.paint.tone(Tone::Faint, next));
    }
    stage.document(&letters.iter().map(described).collect::<Vec<_>>())
}

fn reason(letter: &Entry) -> &str {
    letter.dead.as_ref().map_or("unknown", |dead| dead.reason.as_str())
}

fn described(letter: &Entry) -> Value {
    json!({
        "interactionId": letter.interaction,
        "seq": letter.seq,
        "what": letter.payload.label(),
        "lane": letter.payload.lane().label(),
        "attempts": letter.attempts,
        "createdAtMs": letter.created_ms,
        "buriedAtMs": letter.dead.as_ref().map(|dead| dead.at_ms),
        "reason": reason(letter),
    })
}

async fn handle(store: &Store, which: &Letters, verdict: Verdict, stage: &Stage) -> Result<(), Trouble> {
    let count = match (&which.interaction, which.seq) {
        (Some(interaction), Some(seq)) => {
            if !stage.meanwhile("asking the store", verdict.on(store, interaction, seq)).await? {
                return Err(Trouble::failed(format!("interaction {interaction} has no dead letter {seq}"))
                    .next("the list of them: earpiece outbox list"));
            }
            1
        }
        _ => handle_all(store, verdict, stage).await?,
    };
    stage.line(verdict.told(count));
    stage.document(&json!({ "handled": count }))
}

async fn handle_all(store: &Store, verdict: Verdict, stage: &Stage) -> Result<usize, Trouble> {
    let mut handled = 0;
    loop {
        let letters = letters(store, stage).await?;
        let mut now = 0;
        for letter in &letters {
            now += usize::from(verdict.on(store, &letter.interaction, letter.seq).await?);
        }
        handled += now;
        // The index may lag behind, and show some of them once more.
        if now == 0 {
            return Ok(handled);
        }
    }
}
