//! Configuration: read once, every fault reported together, before a port is bound.
//!
//! A [`Setting`] is declared once, with its default and its doc; the README's table is checked against those. Values
//! come from an [`Env`]: the process environment in production, a map in tests, a map over the environment for the
//! command line. A [`Reader`] turns text into values and collects faults, so that the operator sees all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// One setting, as an operator knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Name of the environment variable.
    pub name: &'static str,
    /// What holds when it is not set; empty for "none".
    pub default: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// Whether the value must never be shown.
    pub secret: bool,
}

impl Setting {
    /// Declares a setting.
    #[must_use]
    pub const fn new(name: &'static str, default: &'static str, doc: &'static str) -> Self {
        Self { name, default, doc, secret: false }
    }

    /// Declares a setting whose value must never be shown.
    #[must_use]
    pub const fn secret(name: &'static str, doc: &'static str) -> Self {
        Self { name, default: "", doc, secret: true }
    }
}

/// Where settings come from.
pub trait Env {
    /// The value of a variable, if it is set and not blank.
    fn get(&self, name: &str) -> Option<String>;
}

impl<E: Env + ?Sized> Env for &E {
    fn get(&self, name: &str) -> Option<String> {
        (**self).get(name)
    }
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnv;

impl Env for ProcessEnv {
    fn get(&self, name: &str) -> Option<String> {
        // What is no Unicode is kept, damaged: it will be a fault or a wrong token, and never "not set".
        let value = std::env::var_os(name)?.to_string_lossy().into_owned();
        (!value.trim().is_empty()).then_some(value)
    }
}

/// Values that win over those of another environment: command-line flags, or a test's.
#[derive(Default)]
pub struct Overlay<E> {
    values: BTreeMap<String, String>,
    below: E,
}

impl<E: Env> Overlay<E> {
    /// An overlay without values.
    #[must_use]
    pub const fn over(below: E) -> Self {
        Self { values: BTreeMap::new(), below }
    }

    /// Sets a value.
    #[must_use]
    pub fn with(mut self, setting: &Setting, value: impl Into<String>) -> Self {
        self.values.insert(setting.name.to_owned(), value.into());
        self
    }

    /// Sets a value if there is one.
    #[must_use]
    pub fn with_some(self, setting: &Setting, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(setting, value.to_string()),
            None => self,
        }
    }
}

impl<E: Env> Env for Overlay<E> {
    fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).filter(|value| !value.trim().is_empty()).cloned().or_else(|| self.below.get(name))
    }
}

/// An environment with nothing in it.
#[derive(Debug, Clone, Copy, Default)]
pub struct EmptyEnv;

impl Env for EmptyEnv {
    fn get(&self, _name: &str) -> Option<String> {
        None
    }
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults(Vec<String>);

impl ConfigFaults {
    /// One line per fault; each begins with the name of the variable.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration cannot be used: {}", self.0.join("; "))
    }
}

impl std::error::Error for ConfigFaults {}

/// Reads settings and collects faults. Values of secrets are never repeated in a fault.
pub struct Reader<'a, E> {
    env: &'a E,
    faults: Vec<String>,
}

impl<'a, E: Env> Reader<'a, E> {
    /// A reader over an environment.
    pub const fn new(env: &'a E) -> Self {
        Self { env, faults: Vec::new() }
    }

    /// The text of a setting, or its default; `None` where neither says anything.
    pub fn text(&mut self, setting: &Setting) -> Option<String> {
        let text = self.env.get(setting.name).unwrap_or_else(|| setting.default.to_owned());
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A comma-separated list; blanks around entries and empty entries are dropped.
    pub fn list(&mut self, setting: &Setting) -> Vec<String> {
        let text = self.text(setting).unwrap_or_default();
        text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
    }

    /// A duration such as `30s`, `500ms`, `15m`.
    pub fn duration(&mut self, setting: &Setting, range: RangeInclusive<Duration>) -> Duration {
        let parsed = |text: &str| humantime::parse_duration(text).ok();
        let form = format!(
            "must be a duration such as 30s, between {} and {}",
            humantime::format_duration(*range.start()),
            humantime::format_duration(*range.end())
        );
        self.value(setting, &form, |text| parsed(text).filter(|value| range.contains(value))).unwrap_or_default()
    }

    /// A whole number.
    pub fn count(&mut self, setting: &Setting, range: RangeInclusive<u64>) -> u64 {
        let form = format!("must be a whole number between {} and {}", range.start(), range.end());
        self.value(setting, &form, |text| text.parse().ok().filter(|value| range.contains(value))).unwrap_or_default()
    }

    /// `true` or `false`.
    pub fn flag(&mut self, setting: &Setting) -> bool {
        self.value(setting, "must be true or false", |text| text.parse().ok()).unwrap_or_default()
    }

    /// Anything that `parse` understands; `form` says what that is. `None` when unset without a default, or faulty.
    pub fn value<T>(&mut self, setting: &Setting, form: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(setting)?;
        let value = parse(&text);
        if value.is_none() {
            self.fault(setting, form);
        }
        value
    }

    /// Notes a fault found elsewhere.
    pub fn fault(&mut self, setting: &Setting, problem: &str) {
        self.faults.push(format!("{} {problem}", setting.name));
    }

    /// Ends reading.
    ///
    /// # Errors
    ///
    /// All faults that were found.
    pub fn finish(self) -> Result<(), ConfigFaults> {
        if self.faults.is_empty() { Ok(()) } else { Err(ConfigFaults(self.faults)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Setting = Setting::new("EARPIECE_PERIOD", "15m", "A period.");
    const COUNT: Setting = Setting::new("EARPIECE_COUNT", "7", "A count.");
    const TOKEN: Setting = Setting::secret("EARPIECE_TOKEN", "A token.");

    #[test]
    fn defaults_hold_where_nothing_is_set_and_overlays_win() {
        let env = Overlay::over(EmptyEnv).with(&COUNT, "9");
        let mut reader = Reader::new(&env);
        assert_eq!(reader.duration(&PERIOD, Duration::ZERO..=Duration::from_hours(1)), Duration::from_mins(15));
        assert_eq!(reader.count(&COUNT, 1..=10), 9);
        assert_eq!(reader.list(&TOKEN), Vec::<String>::new());
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn every_fault_is_reported_at_once_and_names_its_variable_but_not_its_value() {
        let env = Overlay::over(EmptyEnv).with(&COUNT, "eleven").with(&PERIOD, "2d").with(&TOKEN, "hunter2");
        let mut reader = Reader::new(&env);
        reader.duration(&PERIOD, Duration::ZERO..=Duration::from_hours(1));
        reader.count(&COUNT, 1..=10);
        reader.value(&TOKEN, "must be longer", |_| None::<()>);
        let faults = reader.finish().expect_err("three faults");
        assert_eq!(
            faults.lines(),
            [
                "EARPIECE_PERIOD must be a duration such as 30s, between 0s and 1h",
                "EARPIECE_COUNT must be a whole number between 1 and 10",
                "EARPIECE_TOKEN must be longer"
            ]
        );
    }
}
