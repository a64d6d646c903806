//! Values as they are written: addresses, networks, ports and numbers.

use super::{
    Family, Mistake, Network, What,
    grammar::{Parser, Qualifiers},
    names::{Named, Sort, protocol_named},
    words::Word,
};
use std::net::{IpAddr, Ipv4Addr};

impl Parser {
    pub(super) fn value(&mut self, word: &Word, qualifiers: Qualifiers) -> Result<What, Mistake> {
        let Qualifiers { protocol, direction, kind } = qualifiers;
        match kind {
            Sort::Host | Sort::Net => {
                let family = match protocol {
                    None => None,
                    Some(Named::Family(family)) => Some(family),
                    Some(Named::Transport(_)) => {
                        return Err(word.mistake(
                            "a transport protocol has no address such as {}",
                            "write `tcp and host …`",
                        ));
                    }
                };
                let network = if kind == Sort::Host { host(word)? } else { self.net(word)? };
                let is_v6 = family.map(|family| family == Family::Ip6);
                if is_v6.is_some_and(|is_v6| is_v6 != network.address.is_ipv6()) {
                    return Err(word.mistake("{} is an address of another protocol", ""));
                }
                Ok(What::Network { family, direction, network })
            }
            Sort::Port | Sort::PortRange => {
                let protocol = match protocol {
                    None => None,
                    Some(Named::Transport(number @ (6 | 17 | 132))) => Some(number),
                    Some(_) => {
                        return Err(word.mistake("only `tcp`, `udp` and `sctp` have ports such as {}", ""));
                    }
                };
                let (from, to) = if kind == Sort::Port {
                    let port = port(word, word.text())?;
                    (port, port)
                } else {
                    let parts = word.text().split_once('-').unwrap_or((word.text(), word.text()));
                    (port(word, parts.0)?, port(word, parts.1)?)
                };
                // As libpcap has it: either order.
                Ok(What::Ports { protocol, direction, from: from.min(to), to: from.max(to) })
            }
        }
    }

    /// `ADDRESS/LENGTH`, `ADDRESS mask MASK`, or the first numbers of an IPv4 address.
    fn net(&mut self, word: &Word) -> Result<Network, Mistake> {
        const HINT: &str = "write a network as 192.0.2.0/24 or 2001:db8::/32";
        let wrong = || word.mistake("{} is no network", HINT);
        let (address, length) = match word.text().split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (word.text(), None),
        };
        let (address, known) = match address.parse::<IpAddr>() {
            Ok(address) => (address, if address.is_ipv4() { 32 } else { 128 }),
            Err(_) => partial(address).ok_or_else(wrong)?,
        };
        let mut length = match length {
            Some(length) => length.parse::<u8>().map_err(|_| wrong())?,
            None => known,
        };
        if length > if address.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        if self.words.peek().is_some_and(|next| next.text() == "mask") {
            self.words.next();
            let given = self.words.expect("a mask")?;
            let mask: Ipv4Addr = given.text().parse().map_err(|_| given.mistake("{} is no mask", HINT))?;
            length = u8::try_from(u32::from(mask).leading_ones()).unwrap_or(32);
            if u32::from(mask).count_ones() != u32::from(length) || !address.is_ipv4() {
                return Err(given.mistake("{} is no mask of a network", HINT));
            }
        }
        let network = Network { address, length };
        if network.has_host_bits() {
            return Err(word.mistake("{} has bits set behind its length", HINT));
        }
        Ok(network)
    }

    pub(super) fn number(&mut self, most: u32, what: &str) -> Result<u32, Mistake> {
        let word = self.words.expect(what)?;
        word.number()
            .filter(|number| *number <= most)
            .ok_or_else(|| word.mistake(&format!("{{}} is not {what}: a number up to {most}"), ""))
    }

    pub(super) fn protocol(&mut self) -> Result<u8, Mistake> {
        if let Some(Named::Transport(number)) =
            self.words.peek().and_then(|word| protocol_named(word.unescaped()))
        {
            self.words.next();
            return Ok(number);
        }
        Ok(u8::try_from(self.number(255, "a protocol")?).unwrap_or(u8::MAX))
    }

    pub(super) fn ether_type(&mut self) -> Result<u16, Mistake> {
        if let Some(Named::Family(family)) =
            self.words.peek().and_then(|word| protocol_named(word.unescaped()))
        {
            self.words.next();
            return Ok(family.ether_type());
        }
        Ok(u16::try_from(self.number(0xffff, "an Ethernet type")?).unwrap_or(u16::MAX))
    }
}

impl Network {
    fn has_host_bits(self) -> bool {
        match self.address {
            IpAddr::V4(address) => {
                u32::from(address) & u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0) != 0
            }
            IpAddr::V6(address) => {
                u128::from(address) & u128::MAX.checked_shr(u32::from(self.length)).unwrap_or(0) != 0
            }
        }
    }
}

fn host(word: &Word) -> Result<Network, Mistake> {
    let address: IpAddr = word.text().parse().map_err(|_| {
        word.mistake("{} is no address", "names are not looked up; `net` takes networks, `port` takes ports")
    })?;
    Ok(Network { address, length: if address.is_ipv4() { 32 } else { 128 } })
}

/// `192.168` is 192.168.0.0/16.
fn partial(text: &str) -> Option<(IpAddr, u8)> {
    let mut octets = [0; 4];
    let mut length = 0;
    for (octet, text) in octets.iter_mut().zip(text.split('.')) {
        *octet = text.parse().ok()?;
        length += 8;
    }
    (text.split('.').count() <= 3).then_some((IpAddr::V4(octets.into()), length))
}

fn port(word: &Word, text: &str) -> Result<u16, Mistake> {
    text.parse()
        .map_err(|_| word.mistake("{} is no port", "write ports as numbers from 0 to 65535, ranges as 20-25"))
}
