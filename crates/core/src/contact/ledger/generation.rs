//! Which number each stream of a perspective has.
//!
//! The store numbers handshakes in their order, but a call is accepted although the store is away, and such a stream
//! may never hear its number. A number that is told here without the store is a guess: it goes when a number that the
//! store gave contradicts it.

use std::collections::BTreeMap;

use crate::contact::StreamId;
use crate::contact::facts::StreamFacts;

/// Puts `fresh` facts in the place of what is known of the same streams, and numbers all of them anew: within a
/// perspective, as the store tells them apart, numbers rise with the streams.
pub(super) fn merge(known: &mut Vec<StreamFacts>, fresh: Vec<StreamFacts>) {
    // What an earlier ledger says of a stream that the store had not answered for may have been a guess.
    let is_given = |facts: &StreamFacts| !facts.degraded && facts.generation.is_some();
    let mut given: BTreeMap<StreamId, bool> = known.iter().map(|facts| (facts.stream, is_given(facts))).collect();
    given.extend(fresh.iter().map(|facts| (facts.stream, facts.generation.is_some())));
    for facts in fresh {
        match known.iter_mut().find(|known| known.stream == facts.stream) {
            Some(known) => *known = facts,
            None => known.push(facts),
        }
    }
    known.sort_by_key(|facts| facts.stream);
    let mut bounds = bounds(known, &given);
    let mut before: BTreeMap<&'static str, u64> = BTreeMap::new();
    for facts in known.iter_mut() {
        let last = before.entry(facts.perspective.label()).or_default();
        if let Some(bound) = bounds.remove(&facts.stream) {
            let told = facts.generation.filter(|told| told > last).unwrap_or(*last + 1);
            facts.generation = bound.is_none_or(|bound| told < bound).then_some(told);
        }
        *last = facts.generation.map_or(*last, |number| number.max(*last));
    }
}

/// For every stream without a number from the store: the least number that the store gave to a later one.
fn bounds(streams: &[StreamFacts], given: &BTreeMap<StreamId, bool>) -> BTreeMap<StreamId, Option<u64>> {
    let mut least: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut bounds = BTreeMap::new();
    for facts in streams.iter().rev() {
        let label = facts.perspective.label();
        match facts.generation {
            Some(number) if given.get(&facts.stream).copied().unwrap_or_default() => {
                least.entry(label).and_modify(|least| *least = number.min(*least)).or_insert(number);
            }
            _ => {
                bounds.insert(facts.stream, least.get(label).copied());
            }
        }
    }
    bounds
}
