use super::*;
use netguard_core::identity::{Role, SpiffeId};
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};
use std::os::unix::fs::PermissionsExt;
use time::OffsetDateTime;
use x509_parser::{extensions::GeneralName, pem::Pem};

fn identity(role: Role, id: &str) -> SpiffeId {
    SpiffeId { cluster: "prod".into(), role, id: id.into() }
}

fn csr(key: &KeyPair, parameters: CertificateParams) -> Vec<u8> {
    parameters.serialize_request(key).unwrap().der().to_vec()
}

/// Everything about a leaf that anybody decides by.
#[derive(Debug, PartialEq, Eq)]
struct Leaf {
    uris: Vec<String>,
    dns: Vec<String>,
    client: bool,
    server: bool,
    ca: bool,
    lifetime: i64,
    serial_bytes: usize,
}

fn leaf(pem: &str) -> Leaf {
    let pem = Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap();
    let certificate = pem.parse_x509().unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    Leaf {
        uris: names
            .iter()
            .filter_map(|n| if let GeneralName::URI(uri) = n { Some((*uri).to_owned()) } else { None })
            .collect(),
        dns: names
            .iter()
            .filter_map(|n| if let GeneralName::DNSName(dns) = n { Some((*dns).to_owned()) } else { None })
            .collect(),
        client: usage.client_auth,
        server: usage.server_auth,
        ca: certificate.is_ca(),
        lifetime: certificate.validity().not_after.timestamp()
            - certificate.validity().not_before.timestamp(),
        serial_bytes: certificate.raw_serial().len(),
    }
}

#[test]
fn a_request_gives_nothing_but_its_key() {
    let ca = CertificateAuthority::create("test").unwrap();
    let key = KeyPair::generate().unwrap();
    let mut wishes = CertificateParams::new(vec!["coordinator.netguard.internal".into()]).unwrap();
    wishes.subject_alt_names.push(SanType::URI("spiffe://prod/admin:owner/mallory".try_into().unwrap()));
    wishes.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wishes.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    wishes
        .custom_extensions
        .push(rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![4; 1000]));

    let public_key = public_key_of(&csr(&key, wishes)).unwrap();
    let issued =
        ca.issue_client(&identity(Role::Sensor, "web-1"), &public_key, OffsetDateTime::now_utc()).unwrap();

    assert_eq!(
        leaf(&issued.pem),
        Leaf {
            uris: vec!["spiffe://prod/sensor/web-1".into()],
            dns: vec![],
            client: true,
            server: false,
            ca: false,
            lifetime: 24 * 3600 + 300,
            serial_bytes: 16,
        }
    );
}

#[test]
fn every_profile_is_as_narrow_as_its_use() {
    let authorities = Authorities::create("prod").unwrap();
    let now = OffsetDateTime::now_utc();
    let own = server_identities(&authorities, "prod", 3, now).unwrap();
    let agents = leaf(&own.agents.issued.pem);
    assert_eq!(
        (agents.uris, agents.dns, agents.client, agents.server),
        (
            vec!["spiffe://prod/coordinator/3".to_owned()],
            vec!["coordinator.netguard.internal".to_owned()],
            false,
            true
        )
    );
    let chain: Vec<Pem> =
        Pem::iter_from_buffer(own.agents.issued.pem.as_bytes()).collect::<Result<_, _>>().unwrap();
    assert_eq!(chain.len(), 2, "the leaf and the CA that tokens pin");
    let peers = leaf(&own.peers.issued.pem);
    assert_eq!(
        (peers.dns, peers.client, peers.server, peers.lifetime),
        (vec!["peer.netguard.internal".to_owned()], true, true, 7 * 24 * 3600 + 300)
    );
    let key = public_key_of(&csr(&KeyPair::generate().unwrap(), CertificateParams::default())).unwrap();
    let admin = authorities.agents.issue_client(&identity(Role::AdminOwner, "alice"), &key, now).unwrap();
    assert_eq!(leaf(&admin.pem).lifetime, 8 * 3600 + 300);
    let again = authorities.agents.issue_client(&identity(Role::AdminOwner, "alice"), &key, now).unwrap();
    assert_ne!(admin.pem, again.pem, "serials are random");
}

#[test]
fn no_leaf_outlives_its_authority() {
    let ca = CertificateAuthority::create("test").unwrap();
    let key = public_key_of(&csr(&KeyPair::generate().unwrap(), CertificateParams::default())).unwrap();
    let near_the_end =
        OffsetDateTime::now_utc() + std::time::Duration::from_secs(10 * 365 * 24 * 3600 - 3600);
    let issued = ca.issue_client(&identity(Role::Sensor, "a"), &key, near_the_end).unwrap();
    assert!(issued.not_after - near_the_end <= std::time::Duration::from_secs(3600));
    let past = near_the_end + std::time::Duration::from_secs(7200);
    assert!(matches!(
        ca.issue_client(&identity(Role::Sensor, "a"), &key, past),
        Err(AuthorityError::Expired { .. })
    ));
}

#[test]
fn good_keys_are_taken_and_all_else_is_refused() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        assert!(public_key_of(&csr(&key, CertificateParams::default())).is_ok(), "{algorithm:?}");
    }
    let good = csr(&KeyPair::generate().unwrap(), CertificateParams::default());
    assert_eq!(public_key_of(&vec![0x30; MAX_CSR_BYTES + 1]).unwrap_err(), CsrError::TooLong);
    assert_eq!(public_key_of(&[]).unwrap_err(), CsrError::Malformed);
    assert_eq!(public_key_of(b"-----BEGIN").unwrap_err(), CsrError::Malformed);
    assert_eq!(public_key_of(&good[..good.len() - 1]).unwrap_err(), CsrError::Malformed);
    let mut trailing = good.clone();
    trailing.push(0);
    assert_eq!(public_key_of(&trailing).unwrap_err(), CsrError::Malformed);
    let mut forged = good.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(public_key_of(&forged).is_err(), "signed by another key");
    // Made by openssl, see testdata/README.
    for (name, der) in [
        ("rsa-1024", include_bytes!("testdata/rsa-1024.csr.der").as_slice()),
        ("rsa-2048", include_bytes!("testdata/rsa-2048.csr.der").as_slice()),
        ("p-521", include_bytes!("testdata/p-521.csr.der").as_slice()),
        ("secp256k1", include_bytes!("testdata/secp256k1.csr.der").as_slice()),
    ] {
        assert_eq!(public_key_of(der).unwrap_err(), CsrError::KeyType, "{name}");
    }
}

#[test]
fn authorities_read_back_and_refuse_exposed_or_mixed_keys() {
    let dir = tempfile::tempdir().unwrap();
    let made = Authorities::create("prod").unwrap();
    made.store(dir.path()).unwrap();
    let read = Authorities::load(dir.path()).unwrap();
    assert_eq!(read.agents.spki_sha256(), made.agents.spki_sha256());
    assert_eq!(read.peers.certificate_pem(), made.peers.certificate_pem());
    assert_ne!(read.agents.spki_sha256(), read.peers.spki_sha256());

    let key = dir.path().join("ca/agents.key.pem");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&key), mode(&dir.path().join("ca"))), (0o600, 0o700));
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).unwrap();
    let refused = Authorities::load(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("agents.key.pem can be read by others (mode 640)"), "{refused}");

    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::copy(dir.path().join("ca/peers.cert.pem"), dir.path().join("ca/agents.cert.pem")).unwrap();
    let refused = Authorities::load(dir.path()).unwrap_err().to_string();
    assert!(refused.contains("do not belong together"), "{refused}");
}
