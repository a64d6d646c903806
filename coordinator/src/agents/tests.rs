use super::*;
use netguard_core::time::Timestamp;
use netguard_proto::convert::Stopped;
use netguard_proto::convert::{Drift, NotEffective, Probe};

fn arriving(id: &str, address: &str) -> Arriving {
    Arriving { id: id.into(), address: address.into(), ..Arriving::default() }
}

#[test]
fn the_newest_stream_of_an_agent_wins() {
    let agents = Agents::new(1, FlowMetrics::default());
    let first = agents.connect(Role::Sensor, arriving("s1", "192.0.2.1:1"));
    let second = agents.connect(Role::Sensor, arriving("s1", "192.0.2.2:2"));
    assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
    assert_eq!((first.replaces.clone(), second.replaces.clone()), (None, Some("192.0.2.1:1".to_owned())));
    drop(first);
    assert_eq!(agents.connected(Role::Sensor), 1, "the replaced stream's end says nothing of the agent");
    assert_eq!(agents.metrics.sensors_connected.get(), 1);
    drop(second);
    assert_eq!((agents.connected(Role::Sensor), agents.metrics.sensors_connected.get()), (0, 0));
    assert_eq!(agents.local_state(false).agents.len(), 1, "it is remembered");
}

#[test]
fn effects_tell_where_a_decision_holds_since_when_and_why_not() {
    let agents = Agents::new(1, FlowMetrics::default());
    let decision = DecisionId(7);
    let target = (Verb::Block, Target::Source("192.0.2.9".parse().unwrap()));
    let at = Timestamp::from_secs(1_700_000_000);
    let report = |revision, not_effective| Report {
        effective_revision: revision,
        effective_at: Some(at),
        not_effective,
        ..Report::default()
    };
    let not =
        NotEffective { verb: target.0, target: target.1, why: "set full".into(), decision: Some(decision) };
    let news = agents.report("holds", report(5, vec![]));
    assert_eq!(news.effective, Some((0, 5, at)));
    assert_eq!(agents.report("fails", report(5, vec![not.clone()])).not_effective, vec![not.clone()]);
    assert!(agents.report("fails", report(5, vec![not])).not_effective.is_empty(), "told once");
    let _ = agents.report("behind", report(4, vec![]));

    let mut effects = agents.effects(decision, Some(target), 5);
    effects.sort_by(|a, b| a.responder.cmp(&b.responder));
    let told: Vec<_> = effects
        .iter()
        .map(|e| (e.responder.as_str(), e.effective, e.effective_at, e.why_not.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("behind", false, None, "at revision 4, which is before 5"),
            ("fails", false, None, "set full"),
            ("holds", true, Some(at), "")
        ]
    );
}

#[test]
fn what_is_new_is_told_and_what_was_stopped_is_summed_over_the_connected() {
    let agents = Agents::new(1, FlowMetrics::default());
    let decision = DecisionId(7);
    let stopped = |packets| Stopped { decision, packets, bytes: packets * 60 };
    let drift = Drift { what: "table inet netguard was missing".into(), noticed_at: None, repaired_at: None };
    let unmet = Probe { probed_at: Some(Timestamp::from_secs(1)), met: false, why: "no hook".into() };
    let report = |packets| Report {
        drift: vec![drift.clone()],
        stopped: vec![stopped(packets)],
        probe: Some(unmet.clone()),
        ..Report::default()
    };
    let connections = ["r1", "r2"].map(|id| agents.connect(Role::Responder, arriving(id, "192.0.2.1:1")));
    let news = agents.report("r1", report(3));
    assert_eq!((news.drift, news.unmet), (vec![drift.clone()], Some("no hook".to_owned())));
    assert_eq!(agents.report("r1", report(5)).unmet, None, "told once");
    let met = Probe { probed_at: Some(Timestamp::from_secs(2)), met: true, why: String::new() };
    let unknown = Probe { probed_at: None, met: false, why: "no permission".into() };
    let told = |probe: &Probe| {
        let news = agents.report("r3", Report { probe: Some(probe.clone()), ..Report::default() });
        (news.unmet.is_some(), news.probed)
    };
    assert_eq!(told(&met), (false, None), "well from the start");
    assert_eq!(told(&unmet), (true, None));
    assert_eq!(told(&met), (false, Some(met.clone())), "again");
    assert_eq!(told(&unknown), (false, Some(unknown.clone())));
    assert_eq!(told(&unknown), (false, None), "told once");
    let _ = agents.report("r2", report(10));
    assert_eq!(agents.stopped(&[decision].into()), [stopped(15)]);
    let effects = agents.effects(decision, None, 0);
    assert!(effects.iter().any(|effect| effect.stopped == (5, 300)), "{effects:?}");
    let shown = agents.local_state(false).agents;
    let r1 = shown.iter().find(|agent| agent.id == "r1").unwrap();
    assert_eq!(r1.not_effective, ["packets do not meet our rules: no hook"]);
    drop(connections);
    assert_eq!(agents.stopped(&[decision].into()), []);
}

#[test]
fn a_report_from_the_future_is_taken_as_now() {
    let agents = Agents::new(1, FlowMetrics::default());
    let report =
        Report { effective_revision: 1, effective_at: Some(Timestamp::MAX_SANE), ..Report::default() };
    let (_, _, at) = agents.report("r", report).effective.unwrap();
    assert!(at <= now());
}
