//! Who gets in: permits are taken before any work is done, and are exact.
//!
//! A permit is a value: it counts from the moment it is taken until it is dropped, whatever way the task ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use earpiece_core::error::{Fault, Kind};

use crate::limits::Limits;

/// Counts streams on this task.
#[derive(Debug)]
pub(crate) struct Admission {
    streams_max: usize,
    per_business_unit_max: usize,
    streams: AtomicUsize,
    business_units: Mutex<HashMap<u64, usize>>,
    opens: Mutex<Bucket>,
}

/// Tokens that refill over time: a rate with a burst of twice as much.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled);
        self.tokens = (self.tokens + since.as_secs_f64() * self.per_second).min(self.per_second * 2.0);
        self.filled = now;
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let per_second = f64::from(limits.opens_per_second_max);
        Arc::new(Self {
            streams_max: limits.streams_max,
            per_business_unit_max: limits.streams_per_business_unit_max,
            streams: AtomicUsize::new(0),
            business_units: Mutex::default(),
            opens: Mutex::new(Bucket { per_second, tokens: per_second * 2.0, filled: Instant::now() }),
        })
    }

    /// A place on this task.
    ///
    /// # Errors
    ///
    /// [`Kind::Overloaded`] when there is none, or when too many come at once.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Permit, Fault> {
        if !self.opens.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            return Err(Fault::new(Kind::Overloaded, "too many new streams per second; try again in a moment"));
        }
        let room = |live: usize| (live < self.streams_max).then_some(live + 1);
        match self.streams.fetch_update(Ordering::AcqRel, Ordering::Acquire, room) {
            Ok(_) => Ok(Permit { admission: self.clone(), business_unit: None }),
            Err(_) => Err(Fault::new(Kind::Overloaded, "every stream of this task is taken; try again in a moment")),
        }
    }

    /// Live permits.
    pub(crate) fn live(&self) -> usize {
        self.streams.load(Ordering::Acquire)
    }

    /// Whether another stream would be refused.
    pub(crate) fn is_full(&self) -> bool {
        self.live() >= self.streams_max
    }
}

/// A place on this task, and later one of a business unit. Dropping it gives both back.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    business_unit: Option<u64>,
}

impl Permit {
    /// A place of the business unit, beside the one on this task.
    ///
    /// # Errors
    ///
    /// [`Kind::Overloaded`] when the business unit has no place left here.
    pub(crate) fn enter_business_unit(&mut self, bus_no: u64) -> Result<(), Fault> {
        let mut units = self.admission.business_units.lock().unwrap_or_else(PoisonError::into_inner);
        let live = units.entry(bus_no).or_default();
        if *live >= self.admission.per_business_unit_max {
            return Err(Fault::new(Kind::Overloaded, "every stream of this business unit is taken"));
        }
        *live += 1;
        self.business_unit = Some(bus_no);
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.streams.fetch_sub(1, Ordering::AcqRel);
        let Some(bus_no) = self.business_unit else { return };
        let mut units = self.admission.business_units.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = units.get_mut(&bus_no) {
            *live -= 1;
            if *live == 0 {
                units.remove(&bus_no);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits() -> Limits {
        Limits { streams_max: 3, streams_per_business_unit_max: 2, opens_per_second_max: 100, ..Limits::default() }
    }

    #[test]
    fn permits_are_exact_and_come_back() {
        let admission = Admission::new(&limits());
        let permits: Vec<_> = (0..3).map(|_| admission.enter().expect("room")).collect();
        assert!(admission.is_full());
        assert_eq!(admission.enter().expect_err("full").kind, Kind::Overloaded);
        drop(permits);
        assert_eq!(admission.live(), 0);
    }

    #[test]
    fn one_business_unit_cannot_take_the_places_of_another() {
        let admission = Admission::new(&limits());
        let mut permits: Vec<_> = (0..3).map(|_| admission.enter().expect("room")).collect();
        assert!(permits[0].enter_business_unit(7).is_ok());
        assert!(permits[1].enter_business_unit(7).is_ok());
        assert_eq!(permits[2].enter_business_unit(7).expect_err("full").kind, Kind::Overloaded);
        assert!(permits[2].enter_business_unit(8).is_ok());
        drop(permits);
        assert!(admission.business_units.lock().expect("lock").is_empty());
    }

    #[test]
    fn racing_sockets_never_get_more_than_the_limit() {
        let admission = Admission::new(&Limits { streams_max: 50, opens_per_second_max: 10_000, ..Limits::default() });
        let granted: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..100).filter_map(|_| admission.enter().ok()).collect::<Vec<_>>()))
                .collect();
            let permits: Vec<Vec<Permit>> = racers.into_iter().map(|racer| racer.join().expect("no panic")).collect();
            permits.iter().map(Vec::len).sum()
        });
        assert_eq!(granted, 50);
        assert_eq!(admission.live(), 0);
    }

    #[test]
    fn opens_above_the_rate_are_refused_until_time_passes() {
        let now = Instant::now();
        let mut bucket = Bucket { per_second: 10.0, tokens: 20.0, filled: now };
        assert_eq!((0..100).filter(|_| bucket.take(now)).count(), 20);
        assert_eq!((0..100).filter(|_| bucket.take(now + Duration::from_millis(500))).count(), 5);
    }
}
