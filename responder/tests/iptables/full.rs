//! Sets that are full, and many changes at once.

use crate::{
    PORT, SERVICES, enforce, enforcing,
    namespaces::{Namespaces, async_inside, echo},
    on_host, outside, possible,
};
use netguard_core::plan::Action;
use netguard_core::plan::Element;
use netguard_responder::{
    backend::{Backend as _, BackendError, iptables::Variant},
    conformance::{after, block, desired, now},
};

#[test]
fn a_set_that_is_full_says_what_has_no_room_and_holds_the_rest() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    async_inside(&namespaces.host, || async {
        let mut backend = enforcing(Variant::Nft).with_max_elements(16);
        let wanted: Vec<_> = (0..20_u8).map(|host| block(&format!("192.0.2.{host}"))).collect();
        let add = |elements: &[Element]| -> Vec<Action> {
            elements.iter().map(|&element| Action::Add { element, expires_at: after(60) }).collect()
        };
        backend.open(now()).await.unwrap();
        let refused = backend.apply(&add(&wanted), now()).await;
        assert!(matches!(refused, Err(BackendError::Full { without: 4, max: 16 })), "{refused:?}");
        assert!(backend.open(now()).await.unwrap().actual.elements.is_empty());
        let (cannot, can): (Vec<_>, Vec<_>) =
            wanted.iter().copied().partition(|element| backend.cannot(element).is_some());
        assert_eq!(cannot, wanted[16..]);
        assert!(backend.cannot(&cannot[0]).unwrap().contains("full"));
        backend.apply(&add(&can), now()).await.unwrap();
        assert_eq!(backend.open(now()).await.unwrap().actual.elements.len(), 16);
    });
}

#[test]
fn many_changes_replace_a_set_at_once_and_keep_its_counters() {
    if !possible() {
        return;
    }
    let namespaces = Namespaces::new();
    echo(&namespaces.host, PORT);
    let client = outside(&namespaces);
    let many = |from: u32| -> Vec<_> {
        (from..from + 3000)
            .map(|number| {
                (
                    Element::block(netguard_core::net::Prefix::host(
                        std::net::Ipv4Addr::from(0x0b00_0000 + number).into(),
                    )),
                    after(600),
                )
            })
            .collect()
    };
    let first = [&many(0)[..], &[(block("10.77.1.2"), after(600))]].concat();
    enforce(&namespaces, Variant::Legacy, desired(&first));
    assert!(client.tcp(SERVICES[0], PORT).is_none());
    let stopped =
        || async_inside(&namespaces.host, || async { enforcing(Variant::Legacy).stopped(3).await.unwrap() });
    let before = stopped();
    assert!(matches!(before[..], [(element, _)] if element == block("10.77.1.2")), "{before:?}");
    // 3,000 go, 3,000 come, and one stays, for longer.
    let second = [&many(3000)[..], &[(block("10.77.1.2"), after(900))]].concat();
    enforce(&namespaces, Variant::Legacy, desired(&second));
    assert_eq!(stopped(), before);
    assert!(!on_host(&namespaces, "ipset list -n").contains("-new"));
    // Few: the one goes and comes again, and begins anew.
    enforce(&namespaces, Variant::Legacy, desired(&many(3000)));
    enforce(&namespaces, Variant::Legacy, desired(&second));
    assert_eq!(stopped(), []);
}
