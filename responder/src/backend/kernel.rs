//! What else the kernel has to offer for a shield: SYN cookies for services of this host, forwarding for others.

use std::{fs, io, net::IpAddr};

const SYN_COOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";
const FORWARDING_IPV4: &str = "/proc/sys/net/ipv4/ip_forward";
const FORWARDING_IPV6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Makes sure that SYN cookies answer once a listener's queue is full (`tcp_syncookies` 1; 2, always, is left as it
/// is). The one switch serves IPv4 and IPv6.
///
/// Errors: in words, with what to do.
pub(crate) fn ensure_syn_cookies() -> Result<(), String> {
    if syn_cookies()? {
        return Ok(());
    }
    fs::write(SYN_COOKIES, "1").map_err(|error| {
        format!(
            "SYN cookies are off and could not be switched on ({error}): \
             run `sysctl -w net.ipv4.tcp_syncookies=1` on the host"
        )
    })?;
    tracing::info!("SYN cookies were off: switched on (net.ipv4.tcp_syncookies=1)");
    Ok(())
}

/// Whether SYN cookies are on.
///
/// Errors: in words, when the kernel has none.
pub(crate) fn syn_cookies() -> Result<bool, String> {
    fs::read_to_string(SYN_COOKIES).map(|value| value.trim() != "0").map_err(|error| {
        format!("this kernel shows no SYN cookies ({SYN_COOKIES}: {error}): it needs CONFIG_SYN_COOKIES")
    })
}

/// Whether this host passes packets of the address' family on.
pub(crate) fn forwards(address: IpAddr) -> bool {
    let path = if address.is_ipv4() { FORWARDING_IPV4 } else { FORWARDING_IPV6 };
    fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
}

/// Whether `address` is one of this host's own.
pub(crate) fn is_local(address: IpAddr) -> bool {
    address.is_loopback()
        || pnet_datalink::interfaces()
            .iter()
            .flat_map(|interface| &interface.ips)
            .any(|net| net.ip() == address)
}

/// Whether this process may change the firewall: bit 12 of its effective capabilities, CAP_NET_ADMIN.
///
/// Errors: when `/proc` does not tell.
pub(crate) fn may_administer() -> io::Result<bool> {
    const CAP_NET_ADMIN: u32 = 12;
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no CapEff in /proc/thread-self/status"))?;
    Ok(effective >> CAP_NET_ADMIN & 1 == 1)
}
