//! Arithmetic on stretches of samples.

use std::ops::Range;

/// The same samples as sorted stretches that neither touch nor overlap.
pub(crate) fn joined(mut spans: Vec<Range<u64>>) -> Vec<Range<u64>> {
    spans.retain(|span| span.start < span.end);
    spans.sort_by_key(|span| span.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => joined.push(span),
        }
    }
    joined
}

/// What is in `span` and in none of `taken`, which must be as [`joined`] gives it.
pub(crate) fn without(span: Range<u64>, taken: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    let mut next = span.start;
    let first = taken.partition_point(|other| other.end <= span.start);
    for other in taken[first..].iter().take_while(|other| other.start < span.end) {
        if next < other.start {
            left.push(next..other.start);
        }
        next = next.max(other.end);
    }
    if next < span.end {
        left.push(next..span.end);
    }
    left
}

/// What two stretches share; empty when they share nothing.
pub(crate) fn shared(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_span() -> impl Strategy<Value = Range<u64>> {
        (0u64..60, 0u64..20).prop_map(|(start, length)| start..start + length)
    }

    fn has(spans: &[Range<u64>], at: u64) -> bool {
        spans.iter().any(|span| span.contains(&at))
    }

    proptest! {
        #[test]
        fn joining_keeps_exactly_the_same_samples(spans in prop::collection::vec(any_span(), 0..8)) {
            let result = joined(spans.clone());
            for at in 0..90 {
                prop_assert_eq!(has(&result, at), has(&spans, at));
            }
            prop_assert!(result.windows(2).all(|pair| pair[0].end < pair[1].start));
        }

        #[test]
        fn what_is_left_is_in_the_span_and_in_nothing_taken(
            span in any_span(), taken in prop::collection::vec(any_span(), 0..8)
        ) {
            let taken = joined(taken);
            let left = without(span.clone(), &taken);
            for at in 0..90 {
                prop_assert_eq!(has(&left, at), span.contains(&at) && !has(&taken, at));
            }
        }

        #[test]
        fn what_is_shared_is_in_both(a in any_span(), b in any_span()) {
            let both = shared(&a, &b);
            for at in 0..90 {
                prop_assert_eq!(both.contains(&at), a.contains(&at) && b.contains(&at));
            }
        }
    }
}
