use earpiece_core::config::{EmptyEnv, Overlay};

use super::*;

#[test]
fn the_defaults_are_those_of_the_limits() {
    let settings = Settings::read(&EmptyEnv).expect("defaults can be used");
    assert_eq!(settings.limits, Limits::default());
    assert!(settings.tokens.guard.is_open());
    assert!(settings.voice.is_none() && settings.tls.is_none() && settings.ingest.is_none());
    assert!(settings.connections_url.is_none() && settings.ecs_agent.is_none() && !settings.emf);
}

#[test]
fn the_door_is_open_where_neither_tokens_nor_keys_are_configured_or_where_one_word_says_so() {
    for (setting, value) in [(AUDIO_TOKENS, "abc"), (earpiece_access::settings::JWKS, "table")] {
        let settings = Settings::read(&Overlay::over(EmptyEnv).with(&setting, value)).expect(value);
        assert!(!settings.tokens.guard.is_open(), "{value}");
    }
    let open = Overlay::over(EmptyEnv).with(&AUDIO_TOKENS, " none ");
    let beside_keys =
        Overlay::over(EmptyEnv).with(&AUDIO_TOKENS, "none").with(&earpiece_access::settings::JWKS, "table");
    for env in [open, beside_keys] {
        assert!(Settings::read(&env).expect("settings").tokens.guard.is_open());
    }
}

#[test]
fn tls_needs_both_files_and_ones_that_can_be_used() {
    let read = |env: Overlay<EmptyEnv>| Settings::read(&env).expect_err("a fault").to_string();
    let env = || Overlay::over(EmptyEnv);
    assert!(read(env().with(&TLS_CERT, "/nowhere/a.pem")).contains("EARPIECE_TLS_KEY must be set"));
    assert!(read(env().with(&TLS_KEY, "/nowhere/a.key")).contains("EARPIECE_TLS_CERT must be set"));
    let neither = env().with(&TLS_CERT, "/nowhere/a.pem").with(&TLS_KEY, "/nowhere/a.key");
    assert!(read(neither).contains("EARPIECE_TLS_CERT cannot be used"));
}

#[test]
fn addresses_switches_and_tokens_are_judged() {
    let faults = |setting: &Setting, value: &str| Settings::read(&Overlay::over(EmptyEnv).with(setting, value)).err();
    for (setting, good, bad) in [
        (CONNECTIONS_URL, "https://api.example/prod/", "wss://api.example/prod"),
        (CONNECTIONS_URL, "http://127.0.0.1:3001/local", "https://api.example/prod?token=x"),
        (ECS_AGENT_URI, "http://169.254.170.2/api/x", "169.254.170.2"),
        (EMF, "on", "yes"),
        (INGEST_TOKENS, "abc", ","),
        (INGEST_TOKENS, "abc", "none"),
        (INGEST_TOKENS, "abc", "abc,sha256:beef"),
        (AUDIO_TOKENS, "none", "none,abc"),
        (AUDIO_TOKENS, "abc,Sha256:beef", "abc,sha256:beef"),
    ] {
        assert_eq!(faults(&setting, good), None);
        let fault = faults(&setting, bad).expect(bad);
        assert!(fault.lines().len() == 1 && fault.lines()[0].starts_with(setting.name), "{fault}");
        assert!(!fault.to_string().contains("beef"), "{fault}");
    }
}

#[test]
fn every_fault_is_reported_at_once() {
    let env = Overlay::over(EmptyEnv)
        .with(&LISTEN, "here")
        .with(&PING, "2m")
        .with(&TOKEN_SOURCES, "init,cookie")
        .with(&ASSIST_URL, "http://app?token=hunter2")
        .with(&AUDIO_TOKENS, " , ")
        .with(&LOG, "loud");
    let faults = Settings::read(&env).expect_err("six faults");
    assert_eq!(faults.lines().len(), 6, "{faults}");
    assert!(!faults.to_string().contains("hunter2"));
}

#[test]
fn the_readme_shows_every_setting_with_its_default_and_doc() {
    let readme = include_str!("../../../README.md");
    for setting in ALL.into_iter().chain(earpiece_access::settings::ALL).chain(trust::SETTINGS) {
        let default = if setting.default.is_empty() { "–".to_owned() } else { format!("`{}`", setting.default) };
        let row = format!("| `{}` | {default} | {} |", setting.name, setting.doc);
        assert!(readme.contains(&row), "the README's settings table lacks:\n{row}");
    }
}
