//! The two ends of the cable: a sender that sends as fast as it can, and a bare reader that takes frame by frame.

use super::threads;
use crate::bench::engine::image::Image;
use anyhow::Context;
use netguard_core::packet::LinkType;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrV4, SocketType, eth, ipproto, recv, sendto, socket,
    sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout},
};
use std::{
    hint::black_box,
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How long a reader waits on a silent cable before it looks whether it should stop.
const READ_TIMEOUT: Duration = Duration::from_millis(20);
/// What a reader's socket holds: as much as the sensor's ring.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Packets between two looks at the clock.
const BURST: usize = 256;

/// Sends the IPv4 packets of the image over and over, one call a packet, until the time is over. How many were sent,
/// and in which time.
///
/// Errors: the kernel takes no packets of ours: this needs root.
pub(super) fn send(image: &Image, lasting: Duration) -> anyhow::Result<(u64, Duration)> {
    let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW))
        .context("cannot make packets of our own: run as root")?;
    let packets: Vec<(&[u8], SocketAddrV4)> = image
        .walk(Duration::ZERO)
        .filter(|frame| frame.link == LinkType::Ethernet)
        .filter_map(|frame| {
            let packet = frame.bytes.get(14..).filter(|packet| packet.first() == Some(&0x45))?;
            let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some((packet, SocketAddrV4::new(Ipv4Addr::from(destination), 0)))
        })
        .collect();
    let (began, mut sent) = (Instant::now(), 0);
    loop {
        for burst in packets.chunks(BURST) {
            for (packet, to) in burst {
                sendto(&socket, packet, SendFlags::empty(), to).context("cannot send")?;
            }
            sent += u64::try_from(burst.len()).unwrap_or(0);
            if began.elapsed() >= lasting {
                return Ok((sent, began.elapsed()));
            }
        }
        anyhow::ensure!(sent > 0, "no IPv4 packets to send");
    }
}

/// Takes frames with one `recv` each and looks at nothing, until told to stop and nothing comes any more. How many came,
/// and the processor time it took.
///
/// Errors: the kernel gives no frames: this needs root.
pub(super) fn read(stop: &AtomicBool) -> anyhow::Result<(u64, Duration)> {
    let socket = socket(AddressFamily::PACKET, SocketType::RAW, Some(eth::ALL))
        .context("cannot read frames: run as root")?;
    set_socket_timeout(&socket, Timeout::Recv, Some(READ_TIMEOUT))?;
    set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)?;
    let mut buffer = vec![0_u8; 64 << 10];
    let (mut frames, before) = (0, threads::used());
    loop {
        match recv(&socket, &mut buffer, RecvFlags::empty()) {
            Ok((length, _)) => {
                black_box(buffer.get(..length));
                frames += 1;
            }
            Err(rustix::io::Errno::AGAIN) if stop.load(Ordering::Relaxed) => break,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("reading frames failed"),
        }
    }
    Ok((frames, threads::used().saturating_sub(before)))
}
