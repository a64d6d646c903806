use super::*;
use crate::tests::ca::Ca;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn an_identity_is_read_back_and_a_shared_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let missing = Identity::load(directory.path()).map(|_| ()).unwrap_err();
    assert!(matches!(&missing, Failure::Usage(text) if text.contains("--identity")), "{missing}");

    let identity = Ca::new().admin(3_600, 0);
    identity.store(directory.path()).unwrap();
    let read = Identity::load(directory.path()).unwrap();
    assert_eq!((read.uri.as_str(), read.key_pem), ("spiffe://test/admin:owner/owner", identity.key_pem));

    let key = directory.path().join("key.pem");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let shared = Identity::load(directory.path()).map(|_| ()).unwrap_err();
    assert!(matches!(&shared, Failure::Usage(text) if text.contains("chmod 600")), "{shared}");
}

#[test]
fn an_interrupted_renewal_is_finished_or_undone() {
    let ca = Ca::new();
    let (old, new) = (ca.admin(3_600, 0), ca.admin(7_200, 0));
    for staged_files in 0..=3 {
        let directory = tempfile::tempdir().unwrap();
        old.store(directory.path()).unwrap();
        let files = [("ca.pem", &new.ca_pem), ("cert.pem", &new.cert_pem), ("key.pem", &new.key_pem)];
        for (name, text) in &files[..staged_files] {
            let path = directory.path().join(format!("{name}.new"));
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let read = Identity::load(directory.path()).unwrap();
        assert_eq!(read.cert_pem == new.cert_pem, staged_files == 3, "{staged_files} staged");
        assert_eq!(Identity::load(directory.path()).unwrap().cert_pem, read.cert_pem);
    }
}

#[test]
fn only_one_command_renews_and_a_dead_ones_lock_goes_stale() {
    let directory = tempfile::tempdir().unwrap();
    let lock = RenewalLock::take(directory.path()).unwrap();
    assert!(lock.is_some());
    assert!(RenewalLock::take(directory.path()).unwrap().is_none());
    let old = SystemTime::now() - 2 * LOCK_LIFE;
    File::options()
        .write(true)
        .open(directory.path().join("renewal.lock"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    let second = RenewalLock::take(directory.path()).unwrap();
    assert!(second.is_some());
    drop(second);
    assert!(!directory.path().join("renewal.lock").exists());
}

#[test]
fn renewal_is_due_at_half_of_the_life() {
    let now = SystemTime::now();
    let ca = Ca::new();
    assert!(!ca.admin(1_000, 400).due(now));
    assert!(ca.admin(400, 1_000).due(now));
    assert!(ca.admin(400, 1_000).expired(now + Duration::from_secs(500)));
}
