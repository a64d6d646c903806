use super::address_entry;
use netguard_core::net::{NeverBlockEntry, parse_address};
use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

/// Set in a route's flags when it goes over a gateway: RTF_GATEWAY, linux/route.h.
const ROUTE_OVER_GATEWAY: u32 = 0x0002;
/// There on every host that has `/proc`.
const IPV4_ROUTES: &str = "proc/net/route";
/// Most bytes read of any of these files: a full Internet table would be more, and has no place here.
const MAX_FILE_BYTES: usize = 4 << 20;

/// Gateways, resolvers and own interface addresses of this host, in this order.
///
/// `root` is `/`, or another place in tests. What cannot be read is named in the second part.
#[must_use]
pub fn host_entries(root: &Path) -> (Vec<NeverBlockEntry>, Vec<String>) {
    type Source = (&'static str, &'static str, fn(&str) -> Vec<IpAddr>);
    // systemd-resolved stands in resolv.conf as 127.0.0.53; its own file names the real servers.
    const SOURCES: [Source; 6] = [
        (IPV4_ROUTES, "gateway", gateways_v4),
        ("proc/net/ipv6_route", "gateway", gateways_v6),
        ("etc/resolv.conf", "resolver", resolvers),
        ("run/systemd/resolve/resolv.conf", "resolver", resolvers),
        ("proc/net/fib_trie", "address of a coordinator", own_v4),
        ("proc/net/if_inet6", "address of a coordinator", own_v6),
    ];
    let (mut entries, mut unread) = (Vec::new(), Vec::new());
    for (file, why, parse) in SOURCES {
        match read(&root.join(file)) {
            Ok(text) => entries.extend(parse(&text).into_iter().map(|address| address_entry(address, why))),
            // Without IPv6, or without systemd-resolved, there is no such file; without IPv4 routes there is no /proc.
            Err(error) if error.kind() == io::ErrorKind::NotFound && file != IPV4_ROUTES => {}
            Err(error) => unread.push(format!("/{file}: {error}")),
        }
    }
    (entries, unread)
}

fn read(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `/proc/net/route`: `Iface Destination Gateway Flags …`, addresses as they lie in memory, in hex.
fn gateways_v4(text: &str) -> Vec<IpAddr> {
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(2);
            let gateway = u32::from_str_radix(fields.next()?, 16).ok()?;
            let flags = u32::from_str_radix(fields.next()?, 16).ok()?;
            let over_gateway = flags & ROUTE_OVER_GATEWAY != 0 && gateway != 0;
            over_gateway.then(|| IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes())))
        })
        .collect()
}

/// `/proc/net/ipv6_route`: destination, its length, source, its length, next hop, metric, two counters, flags, device.
fn gateways_v6(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(4);
            let next_hop = hex_v6(fields.next()?)?;
            let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
            let over_gateway = flags & ROUTE_OVER_GATEWAY != 0 && !next_hop.is_unspecified();
            over_gateway.then_some(IpAddr::V6(next_hop))
        })
        .collect()
}

/// `nameserver <address>`; a zone id after it means this host's interface only and is cut off.
fn resolvers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            if words.next()? != "nameserver" {
                return None;
            }
            parse_address(words.next()?.split('%').next()?).ok()
        })
        .collect()
}

/// `/proc/net/fib_trie`: an address line `|-- 10.0.0.1`, then what it is; own addresses are `/32 host LOCAL`.
fn own_v4(text: &str) -> Vec<IpAddr> {
    let mut own = Vec::new();
    let mut last = None;
    for line in text.lines() {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.trim_end() == "/32 host LOCAL"
            && let Some(address) = last
            && !own.contains(&IpAddr::V4(address))
        {
            own.push(IpAddr::V4(address));
        }
    }
    own
}

/// `/proc/net/if_inet6`: the address as 32 hex digits first.
fn own_v6(text: &str) -> Vec<IpAddr> {
    text.lines().filter_map(|line| hex_v6(line.split_ascii_whitespace().next()?).map(IpAddr::V6)).collect()
}

fn hex_v6(text: &str) -> Option<Ipv6Addr> {
    if text.len() != 32 || text.starts_with('+') {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(Ipv6Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_from_its_own_files() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let gateway = format!("{:08X}", u32::from_ne_bytes([192, 0, 2, 1]));
        write(
            "proc/net/route",
            &format!(
                "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\n\
                 eth0\t00000000\t{gateway}\t0003\t0\t0\n\
                 eth0\t0002000A\t00000000\t0001\t0\t0\n\
                 short\n"
            ),
        );
        write(
            "proc/net/ipv6_route",
            "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
             20010db8000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
             20010db8000000000000000000000000 40 00000000000000000000000000000000 00 \
             00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n",
        );
        write(
            "etc/resolv.conf",
            "# nameserver 203.0.113.9\nsearch example.org\nnameserver 198.51.100.53\nnameserver fe80::1%eth0\n\
             nameserver 010.0.0.1\n",
        );
        write(
            "proc/net/fib_trie",
            "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.7\n        \
             /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\nLocal:\n     |-- 192.0.2.7\n        \
             /32 host LOCAL\n",
        );
        write("proc/net/if_inet6", "20010db8000000000000000000000007 02 40 00 80     eth0\n");

        let (entries, unread) = host_entries(root.path());
        let shown: Vec<_> = entries.iter().map(|entry| format!("{} {}", entry.prefix, entry.why)).collect();
        assert_eq!(
            shown,
            [
                "192.0.2.1 gateway",
                "2001:db8::1 gateway",
                "198.51.100.53 resolver",
                "fe80::1 resolver",
                "192.0.2.7 address of a coordinator",
                "2001:db8::7 address of a coordinator",
            ]
        );
        assert_eq!(unread, Vec::<String>::new());
    }

    #[test]
    fn a_host_without_proc_is_told_of() {
        let (entries, unread) = host_entries(tempfile::tempdir().unwrap().path());
        assert!(entries.is_empty());
        assert!(unread.len() == 1 && unread[0].starts_with("/proc/net/route: "), "{unread:?}");
    }

    #[test]
    fn this_host_has_its_loopback() {
        let (entries, _) = host_entries(Path::new("/"));
        assert!(entries.iter().any(|entry| entry.prefix.to_string() == "127.0.0.1"), "{entries:?}");
    }
}
