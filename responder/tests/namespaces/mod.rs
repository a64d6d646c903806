//! Hosts in network namespaces of their own: an outside, a host that enforces, and a service behind it.
//!
//! ```text
//! outside 10.77.1.2–200 ── 10.77.1.1 host 10.77.2.1 ── 10.77.2.2 inside
//! outside fd77:1::2–c8  ──  fd77:1::1 host fd77:2::1 ── fd77:2::2 inside
//! ```

#![allow(unreachable_pub, dead_code, clippy::unwrap_used, reason = "shared by several test programs")]

use rustix::{
    net::{
        AddressFamily, SocketType,
        sockopt::{Timeout, set_socket_timeout},
    },
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use std::{
    fs::File,
    future::Future,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Network namespaces take root. A test that cannot run says so, and fails where all tests have to run.
pub fn possible() -> bool {
    possible_with(&[])
}

/// The same with more tools.
pub fn possible_with(more: &[&str]) -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    let missing: Vec<_> = [&["ip", "nft", "hping3", "nmap"], more]
        .concat()
        .into_iter()
        .filter(|tool| !Command::new("which").arg(tool).output().is_ok_and(|output| output.status.success()))
        .collect();
    if output.stdout.trim_ascii() == b"0" && missing.is_empty() {
        return true;
    }
    let why =
        format!("NOT RUN: needs root, and lacks {missing:?} (scripts/install-tools.sh installs all of them)");
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("{why}");
    false
}

#[derive(Debug)]
pub struct Namespaces {
    pub outside: String,
    pub host: String,
    pub inside: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Namespaces {
    pub fn new() -> Self {
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let name = |what: &str| format!("ng-resp-{id}-{what}");
        let made = Self { outside: name("out"), host: name("host"), inside: name("in") };
        for namespace in made.all() {
            ip(&["netns", "add", namespace]);
            // Addresses are usable at once: nobody else is here to ask whether they are taken.
            for setting in ["net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"] {
                run(&["ip", "netns", "exec", namespace, "sysctl", "-qw", setting]);
            }
            ip(&["-n", namespace, "link", "set", "dev", "lo", "up"]);
        }
        for (number, (namespace, host_side)) in
            [(&made.outside, "outer"), (&made.inside, "inner")].into_iter().enumerate()
        {
            let number = number + 1;
            ip(&[
                "-n", namespace, "link", "add", "up0", "type", "veth", "peer", "name", host_side, "netns",
                &made.host,
            ]);
            for (namespace, device, host) in [(&made.host, host_side, 1), (namespace, "up0", 2)] {
                ip(&["-n", namespace, "addr", "add", &format!("10.77.{number}.{host}/24"), "dev", device]);
                ip(&[
                    "-n",
                    namespace,
                    "addr",
                    "add",
                    &format!("fd77:{number}::{host}/64"),
                    "dev",
                    device,
                    "nodad",
                ]);
                ip(&["-n", namespace, "link", "set", "dev", device, "up"]);
            }
            ip(&["-n", namespace, "route", "add", "default", "via", &format!("10.77.{number}.1")]);
            ip(&["-n", namespace, "route", "add", "default", "via", &format!("fd77:{number}::1")]);
        }
        // Answers to spoofed sources have to leave somewhere.
        ip(&["-n", &made.host, "route", "add", "default", "via", "10.77.1.2"]);
        ip(&["-n", &made.host, "route", "add", "default", "via", "fd77:1::2"]);
        for setting in [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.outer.rp_filter=0",
            "net.ipv4.conf.inner.rp_filter=0",
        ] {
            run(&["ip", "netns", "exec", &made.host, "sysctl", "-qw", setting]);
        }
        made
    }

    fn all(&self) -> [&String; 3] {
        [&self.outside, &self.host, &self.inside]
    }

    /// More addresses for the outside, so that each client can be a new one.
    pub fn more_outside(&self, hosts: std::ops::RangeInclusive<u8>) {
        for host in hosts {
            ip(&["-n", &self.outside, "addr", "add", &format!("10.77.1.{host}/24"), "dev", "up0"]);
            ip(&["-n", &self.outside, "addr", "add", &format!("fd77:1::{host:x}/64"), "dev", "up0", "nodad"]);
        }
    }

    /// A bounded flood of SYNs from random sources.
    pub fn flood(&self, target: &str, port: u16) -> Flood {
        self.hping(&["--flood", "--rand-source", "-S", "-p", &port.to_string(), target])
    }

    /// The same of UDP datagrams.
    pub fn flood_with_datagrams(&self, target: &str, port: u16) -> Flood {
        self.hping(&["--flood", "--rand-source", "--udp", "-d", "32", "-p", &port.to_string(), target])
    }

    /// SYNs from the outside's own address to one port after the other, 500 a second.
    pub fn scan(&self, target: &str) -> Flood {
        self.hping(&["-S", "-i", "u2000", "-q", "-p", "++1", target])
    }

    fn hping(&self, arguments: &[&str]) -> Flood {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.outside, "timeout", "20", "hping3"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Flood(child)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in self.all() {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
        }
    }
}

/// Ends with the test.
#[derive(Debug)]
pub struct Flood(Child);

impl Drop for Flood {
    fn drop(&mut self) {
        // `timeout` hands the signal on to hping3.
        let _ = Command::new("kill").arg(self.0.id().to_string()).output();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &[&str]) {
    run(&[&["ip"], arguments].concat());
}

pub fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `task` on a thread that lives in the namespace; whatever it starts lives there too.
pub fn inside<T: Send + 'static>(
    namespace: &str,
    task: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        task()
    })
}

/// The same for something asynchronous.
pub fn async_inside<T: Send + 'static, F: Future<Output = T>>(
    namespace: &str,
    task: impl FnOnce() -> F + Send + 'static,
) -> T {
    let done = inside(namespace, move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(task())
    });
    done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A TCP and UDP echo service on every address of the namespace; TCP greets with a banner.
pub fn echo(namespace: &str, port: u16) {
    let (ready, wait) = std::sync::mpsc::channel();
    inside(namespace, move || {
        let tcp = TcpListener::bind(("::", port)).unwrap();
        for any in ["::", "0.0.0.0"] {
            // "::" takes IPv4 as well, where the second bind is refused.
            let Ok(udp) = UdpSocket::bind((any, port)) else { continue };
            std::thread::spawn(move || {
                let mut buffer = [0; 1500];
                while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                    let _ = udp.send_to(&buffer[..length], from);
                }
            });
        }
        ready.send(()).unwrap();
        for stream in tcp.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    wait.recv().unwrap();
}

fn serve(mut stream: TcpStream) {
    let _ = stream.write_all(b"hello");
    let mut buffer = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// Both ways to the enforcing host and through it, in both families.
pub const SERVICES: [&str; 4] = ["10.77.1.1", "fd77:1::1", "10.77.2.2", "fd77:2::2"];

/// Asks [`SERVICES`] all the time while `task` runs; how often it asked, and how often one answered.
pub fn asked_meanwhile(client: &Client, port: u16, task: impl FnOnce()) -> (usize, usize) {
    let exchanges: Vec<_> = SERVICES.iter().map(|service| client.udp(service, port)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let asking = std::thread::spawn(move || {
        let (mut asked, mut answered) = (0, 0);
        while !stopped.load(Ordering::Acquire) {
            for exchange in &exchanges {
                asked += 1;
                answered += usize::from(exchange.works());
            }
        }
        (asked, answered)
    });
    task();
    stop.store(true, Ordering::Release);
    asking.join().unwrap()
}

/// A client in a namespace; each call runs there.
#[derive(Debug, Clone)]
pub struct Client {
    pub namespace: String,
    pub patience: Duration,
}

impl Client {
    pub fn tcp(&self, to: &str, port: u16) -> Option<Conversation> {
        let (to, patience) = (SocketAddr::new(to.parse().unwrap(), port), self.patience);
        inside(&self.namespace, move || converse(TcpStream::connect_timeout(&to, patience).ok()?, patience))
            .join()
            .unwrap()
    }

    /// From a certain address of the namespace.
    pub fn tcp_from(&self, from: &str, to: &str, port: u16) -> bool {
        let from = SocketAddr::new(from.parse().unwrap(), 0);
        let (to, patience) = (SocketAddr::new(to.parse().unwrap(), port), self.patience);
        inside(&self.namespace, move || {
            let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
            rustix::net::bind(&socket, &from).unwrap();
            // It limits connect(2) too.
            set_socket_timeout(&socket, Timeout::Send, Some(patience)).unwrap();
            rustix::net::connect(&socket, &to).is_ok()
                && converse(TcpStream::from(socket), patience).is_some_and(|mut open| open.works())
        })
        .join()
        .unwrap()
    }

    /// One question from a certain address, asked again after each [`Self::patience`] without an answer.
    pub fn udp_from(&self, from: &str, to: &str, port: u16, tries: usize) -> bool {
        let from = SocketAddr::new(from.parse().unwrap(), 0);
        let (to, patience) = (SocketAddr::new(to.parse().unwrap(), port), self.patience);
        inside(&self.namespace, move || {
            let socket = UdpSocket::bind(from).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(patience)).unwrap();
            let exchange = Exchange(socket);
            (0..tries).any(|_| exchange.works())
        })
        .join()
        .unwrap()
    }

    pub fn udp(&self, to: &str, port: u16) -> Exchange {
        self.exchange_from(if to.contains(':') { "::" } else { "0.0.0.0" }, to, port)
    }

    /// From a certain address of the namespace.
    pub fn exchange_from(&self, from: &str, to: &str, port: u16) -> Exchange {
        let from: IpAddr = from.parse().unwrap();
        let to = SocketAddr::new(to.parse().unwrap(), port);
        let patience = self.patience;
        inside(&self.namespace, move || {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            socket.connect(to).unwrap();
            socket.set_read_timeout(Some(patience)).unwrap();
            Exchange(socket)
        })
        .join()
        .unwrap()
    }
}

fn converse(stream: TcpStream, patience: Duration) -> Option<Conversation> {
    stream.set_read_timeout(Some(patience)).ok()?;
    let mut conversation = Conversation(stream);
    let mut banner = [0; 5];
    conversation.0.read_exact(&mut banner).ok()?;
    (&banner == b"hello").then_some(conversation)
}

/// An open TCP connection.
#[derive(Debug)]
pub struct Conversation(TcpStream);

impl Conversation {
    pub fn works(&mut self) -> bool {
        let mut answer = [0; 4];
        self.0.write_all(b"ping").is_ok() && self.0.read_exact(&mut answer).is_ok() && &answer == b"ping"
    }
}

/// A UDP socket that talks to one service.
#[derive(Debug)]
pub struct Exchange(UdpSocket);

impl Exchange {
    pub fn works(&self) -> bool {
        let mut answer = [0; 4];
        self.0.send(b"ping").is_ok()
            && self.0.recv(&mut answer).is_ok_and(|length| &answer[..length] == b"ping")
    }
}
