//! Real attackers in the middle of it: they complete handshakes, so that they can be proven.

use crate::{
    bench::engine::mix::{
        SERVERS,
        connection::Connection,
        frame::{ACK, End, FIN, LINUX_OPTIONS, PSH, SYN},
        server,
    },
    schedules::dice::Dice,
};
use std::net::{IpAddr, Ipv4Addr};

/// What an attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attack {
    /// Connects to port after port of host after host and leaves without a word.
    Scan,
    /// Guesses passwords of MySQL, a connection each.
    MySql,
    /// Guesses passwords of an FTP server, a connection each.
    Ftp,
}

impl Attack {
    pub(super) const ALL: [Self; 3] = [Self::Scan, Self::MySql, Self::Ftp];
}

/// Connections of one attacker.
const CONNECTIONS: u16 = 16;
/// Between two packets of a connection, and between the beginnings of two connections, in microseconds.
const STEP: u64 = 12_000;
const CONNECTION_EVERY: u64 = 90_000;
/// From an attacker's first packet to its last, at most.
pub(super) const LASTS: u64 = CONNECTION_EVERY * CONNECTIONS as u64 + STEP * 16;
/// The scanner's ports, beside those that anybody uses.
const SCANNED: [u16; 8] = [21, 22, 23, 110, 143, 3_306, 5_432, 8_080];

/// What MySQL 8 sends first, as long as it is, and how it refuses (error 1045).
const MYSQL_GREETING: usize = 95;
const MYSQL_LOGIN: usize = 190;
const MYSQL_REFUSAL: usize = 78;

/// An attacker's address, no two in one /24.
pub(super) fn address(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(185, 100 + high, low, 66))
}

/// All packets of one attacker, with their times since it began, in microseconds.
pub(super) fn packets(attack: Attack, attacker: IpAddr, dice: &mut Dice) -> Vec<(u64, Vec<u8>)> {
    let mut packets = Vec::new();
    let home = u8::try_from(dice.below(usize::from(SERVERS))).unwrap_or(0);
    for number in 0..CONNECTIONS {
        let (host, port) = match attack {
            Attack::Scan => {
                let port = SCANNED.get(usize::from(number) % SCANNED.len()).copied().unwrap_or(22);
                (home.wrapping_add(number.to_le_bytes()[0]) % SERVERS, port)
            }
            Attack::MySql => (home, 3_306),
            Attack::Ftp => (home, 21),
        };
        let client = End { address: attacker, port: 40_000 + number };
        let numbers = [(); 2].map(|()| u32::try_from(dice.next() >> 32).unwrap_or(0));
        let mut connection = Connection::new(client, End { address: server(host, false), port }, numbers);
        let mut at = CONNECTION_EVERY * u64::from(number);
        for (from_client, flags, payload) in script(attack) {
            let mut bytes = Vec::new();
            let options: &[u8] = if flags & SYN == 0 { &[] } else { LINUX_OPTIONS };
            connection.send(from_client, flags, options, &payload, &mut bytes);
            packets.push((at, bytes));
            at += STEP;
        }
    }
    packets
}

type Line = (bool, u8, Vec<u8>);

/// One connection: from the client or not, flags, payload.
fn script(attack: Attack) -> Vec<Line> {
    let said = |from_client, text: &str| (from_client, PSH | ACK, text.as_bytes().to_vec());
    let sized = |from_client, length| (from_client, PSH | ACK, vec![0x20; length]);
    let bare = |from_client, flags| (from_client, flags, Vec::new());
    let open = [bare(true, SYN), bare(false, SYN | ACK), bare(true, ACK)];
    let client_ends = vec![bare(true, FIN | ACK), bare(false, FIN | ACK), bare(true, ACK)];
    let server_ends = vec![bare(false, FIN | ACK), bare(true, FIN | ACK), bare(false, ACK)];
    let (middle, end) = match attack {
        Attack::Scan => (Vec::new(), client_ends),
        Attack::MySql => (
            vec![sized(false, MYSQL_GREETING), sized(true, MYSQL_LOGIN), sized(false, MYSQL_REFUSAL)],
            server_ends,
        ),
        Attack::Ftp => (
            vec![
                said(false, "220 (vsFTPd 3.0.5)\r\n"),
                said(true, "USER admin\r\n"),
                said(false, "331 Please specify the password.\r\n"),
                said(true, "PASS 123456\r\n"),
                said(false, "530 Login incorrect.\r\n"),
            ],
            client_ends,
        ),
    };
    open.into_iter().chain(middle).chain(end).collect()
}
