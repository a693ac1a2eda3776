use earpiece_core::config::{EmptyEnv, Overlay};

use super::*;
use crate::trust::{CA_FILE, TrustError};

#[test]
fn the_public_roots_are_part_of_the_program() {
    let roots = Trust::read(&EmptyEnv).unwrap().into_roots();
    assert!(roots.roots.len() > 50, "{}", roots.roots.len());
}

#[test]
fn a_file_adds_roots_to_the_public_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, format!("{}\n{}", Authority::new().pem(), Authority::new().pem())).unwrap();
    let env = Overlay::over(EmptyEnv).with(&CA_FILE, path.display().to_string());
    let public = Trust::public().into_roots().roots.len();
    assert_eq!(Trust::read(&env).unwrap().into_roots().roots.len(), public + 2);
}

#[test]
fn what_cannot_be_trusted_is_found_out_at_once() {
    let env = Overlay::over(EmptyEnv).with(&CA_FILE, "/no/such/file");
    let unreadable = Trust::read(&env).unwrap_err();
    assert!(matches!(unreadable, TrustError::Unreadable { .. }));
    assert!(unreadable.to_string().starts_with("EARPIECE_CA_FILE cannot be read"), "{unreadable}");
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(Trust::public().with_pem(damaged.as_bytes()), Err(TrustError::Malformed)));
    for nothing in ["", "no PEM", &Authority::new().identity().key] {
        assert!(matches!(Trust::public().with_pem(nothing.as_bytes()), Err(TrustError::Empty)));
    }
}
