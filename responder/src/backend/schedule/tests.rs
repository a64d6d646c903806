use super::*;

fn block(text: &str) -> Element {
    Element::block(text.parse().unwrap())
}

fn add(element: Element, secs: u64) -> Action {
    Action::Add { element, expires_at: Timestamp::from_secs(secs) }
}

fn schedule() -> (tempfile::TempDir, Schedule) {
    let directory = tempfile::tempdir().unwrap();
    let schedule = Schedule::in_directory(directory.path());
    (directory, schedule)
}

const NOW: Timestamp = Timestamp::from_secs(1000);

#[test]
fn a_later_run_finds_what_has_not_expired() {
    let (directory, mut schedule) = schedule();
    let service = Element::shield(Service {
        address: "2001:db8::5".parse().unwrap(),
        protocol: Protocol::TCP,
        port: 443,
    });
    let wide = Element::throttle("2001:db8::/48".parse().unwrap());
    schedule.record(&[add(block("192.0.2.1"), 2000), add(block("192.0.2.2"), 1001)], NOW);
    schedule.record(&[add(service, 2000), add(wide, 3000), Action::SetThrottle { per_minute: 7 }], NOW);
    schedule.record(&[Action::Remove { element: block("192.0.2.1") }], NOW);
    schedule.record(&[Action::Extend { element: wide, expires_at: Timestamp::from_secs(4000) }], NOW);

    let mut later = Schedule::in_directory(directory.path());
    let held = later.load(Timestamp::from_secs(1001));
    assert_eq!(held, [(service, Timestamp::from_secs(2000)), (wide, Timestamp::from_secs(4000))].into());
    later.clear().unwrap();
    later.clear().unwrap();
    assert!(later.load(NOW).is_empty());
}

#[test]
fn a_torn_end_is_left_out_and_not_joined_to_what_follows() {
    let (directory, mut schedule) = schedule();
    schedule.record(&[add(block("192.0.2.1"), 2000), add(block("192.0.2.2"), 2000)], NOW);
    let path = directory.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut schedule = Schedule::in_directory(directory.path());
        let held = schedule.load(NOW);
        assert!(held.len() <= 2, "cut at {cut}");
        schedule.record(&[add(block("198.51.100.1"), 2000)], NOW);
        let after = Schedule::in_directory(directory.path()).load(NOW);
        assert_eq!(after.len(), held.len() + 1, "cut at {cut}");
        assert!(!path.with_extension("unreadable").exists(), "cut at {cut}");
    }
}

#[test]
fn a_foreign_file_is_set_aside_and_nothing_of_it_used() {
    for foreign in [
        "netguard-schedule 2\n+ 2000 block 192.0.2.1\n",
        "netguard-schedule 1\n+ 2000 block 192.0.2.1\nrm -rf /\n",
        "netguard-schedule 1\n+ 2000 block 192.0.2.1/24\n",
        "netguard-schedule 1\n+ -1 block 192.0.2.1\n",
        "netguard-schedule 1\n+ 2000 block 192.0.2.1 x\n",
        "something else",
        "\u{0}\n",
    ] {
        let (directory, mut schedule) = schedule();
        let path = directory.path().join(FILE);
        fs::write(&path, foreign).unwrap();
        assert!(schedule.load(NOW).is_empty(), "{foreign:?}");
        assert_eq!(fs::read_to_string(path.with_extension("unreadable")).unwrap(), foreign);
        schedule.record(&[add(block("192.0.2.9"), 2000)], NOW);
        assert_eq!(Schedule::in_directory(directory.path()).load(NOW).len(), 1);
    }
}

#[test]
fn the_journal_does_not_grow_with_time() {
    let (directory, mut schedule) = schedule();
    for round in 0..50 {
        let at = Timestamp::from_secs(1000 + round);
        let actions: Vec<_> = (0..1000)
            .map(|host| add(block(&format!("10.0.{}.{}", host / 250, host % 250)), 1002 + round))
            .collect();
        schedule.record(&actions, at);
    }
    let lines = fs::read_to_string(directory.path().join(FILE)).unwrap().lines().count();
    assert!(lines <= MIN_LINES + 3000, "{lines} lines for a thousand elements");
    assert_eq!(schedule.load(Timestamp::from_secs(1050)).len(), 1000);
}

#[test]
fn a_full_disk_keeps_nothing_from_being_enforced() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("not-a-directory");
    fs::write(&file, "").unwrap();
    let mut schedule = Schedule::in_directory(&file);
    schedule.record(&[add(block("192.0.2.1"), 2000)], NOW);
    assert!(schedule.broken && schedule.load(NOW).is_empty());
}
