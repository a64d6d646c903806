//! Servers that this host cannot do without: for its time, its address, and its Kubernetes node. From the files of
//! the programs that use them, and from the connected sockets of these programs.

use super::{
    files::Files,
    parse::{Server, api_servers, assigned, dhclient_servers, server, time_daemon_servers, udp_servers},
};
use std::collections::BTreeSet;

const TIME: &str = "time server (NTP)";
const DHCP: &str = "DHCP server";
const API: &str = "Kubernetes API server";

/// UDP ports of servers whose addresses no file tells: a daemon's connected socket does.
const SOCKETS: [(u16, &str); 2] = [(123, TIME), (67, DHCP)];

/// Of chrony, ntpd, ntpsec and OpenNTPD.
const TIME_DAEMONS: [&str; 5] = [
    "/etc/chrony/chrony.conf",
    "/etc/chrony.conf",
    "/etc/ntp.conf",
    "/etc/ntpsec/ntp.conf",
    "/etc/openntpd/ntpd.conf",
];
const TIME_DAEMONS_PARTS: [(&str, &str); 5] = [
    ("/etc/chrony/conf.d", ".conf"),
    ("/etc/chrony/sources.d", ".sources"),
    ("/etc/chrony.d", ".conf"),
    ("/run/chrony-dhcp", ".sources"),
    ("/etc/ntpsec/ntp.d", ".conf"),
];

/// There while systemd-timesyncd runs.
const TIMESYNCD_RUNS: &str = "/run/systemd/timesync";
const TIMESYNCD: &str = "/etc/systemd/timesyncd.conf";
const TIMESYNCD_PARTS: [&str; 3] =
    ["/etc/systemd/timesyncd.conf.d", "/run/systemd/timesyncd.conf.d", "/usr/lib/systemd/timesyncd.conf.d"];

/// Leases of systemd-networkd, and of NetworkManager where it writes the server down.
const NETWORKD_LEASES: &str = "/run/systemd/netif/leases";
const NETWORKD_STATE: &str = "/run/systemd/netif/state";
const NETWORK_MANAGER_LEASES: &str = "/var/lib/NetworkManager";
/// Of dhclient.
const DHCLIENT_LEASES: [(&str, &str); 4] = [
    ("/var/lib/dhcp", ".leases"),
    ("/var/lib/dhclient", ".leases"),
    ("/var/lib/dhclient", ".lease"),
    (NETWORK_MANAGER_LEASES, ".lease"),
];

/// How a kubelet reaches its API server.
const KUBELET: [&str; 2] = ["/etc/kubernetes/kubelet.conf", "/var/lib/kubelet/kubeconfig"];

/// All of them, each with the reason. `kubernetes_host` is the API server as pods are told.
pub(super) fn servers(files: &Files, kubernetes_host: Option<&str>) -> BTreeSet<(Server, &'static str)> {
    let mut found = BTreeSet::new();
    let mut add = |servers: Vec<Server>, why| found.extend(servers.into_iter().map(|server| (server, why)));

    for text in TIME_DAEMONS.iter().map(|path| files.text(path)) {
        add(time_daemon_servers(&text), TIME);
    }
    for text in TIME_DAEMONS_PARTS.iter().flat_map(|(directory, ending)| files.texts(directory, ending)) {
        add(time_daemon_servers(&text), TIME);
    }
    let timesyncd = [files.text(TIMESYNCD)].into_iter();
    for text in timesyncd.chain(TIMESYNCD_PARTS.iter().flat_map(|directory| files.texts(directory, ".conf")))
    {
        add(assigned(&text, "NTP"), TIME);
        add(assigned(&text, "FallbackNTP"), TIME);
        if files.path(TIMESYNCD_RUNS).is_dir() {
            // The file as it comes tells in comments what it does without being told.
            add(assigned(&text, "#FallbackNTP"), TIME);
        }
    }

    let leases = files.texts(NETWORKD_LEASES, "").into_iter();
    for text in leases.chain(files.texts(NETWORK_MANAGER_LEASES, ".lease")) {
        add(assigned(&text, "SERVER_ADDRESS"), DHCP);
        add(assigned(&text, "NTP"), TIME);
    }
    add(assigned(&files.text(NETWORKD_STATE), "NTP"), TIME);
    for text in DHCLIENT_LEASES.iter().flat_map(|(directory, ending)| files.texts(directory, ending)) {
        add(dhclient_servers(&text), DHCP);
    }

    add(kubernetes_host.and_then(server).into_iter().collect(), API);
    for text in KUBELET.iter().map(|path| files.text(path)) {
        add(api_servers(&text), API);
    }

    for table in ["udp", "udp6"].map(|name| files.network_table(name)) {
        for (port, why) in SOCKETS {
            add(udp_servers(&table, port), why);
        }
    }
    found
}
