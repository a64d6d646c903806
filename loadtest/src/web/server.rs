//! `netguard-lab serve-http`: one page, a new connection for each request.

use anyhow::Context;
use clap::Args;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
};

/// Where to serve.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Address and port to listen on.
    #[arg(long, default_value = "0.0.0.0:80")]
    pub listen: SocketAddr,
    /// Connections the kernel may hold for us, half-open ones included: a usual server's number (nginx: 511).
    #[arg(long, default_value_t = 511)]
    pub backlog: u32,
}

/// Connections served at once; more wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 1024;
/// A request is one short line and a few headers.
const MAX_REQUEST_BYTES: usize = 8 * 1024;
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

/// Serves until the process is ended.
pub async fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let socket = if args.listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    let listener = socket.listen(args.backlog)?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await?;
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(async move {
                    // A client that sends no request, or hangs up, is its own loss.
                    let _ = tokio::time::timeout(REQUEST_DEADLINE, answer(stream)).await;
                    drop(place);
                });
            }
            // The connection is gone already, or descriptors are short: neither ends the server.
            Err(error) => {
                eprintln!("accept: {error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(512);
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(PAGE).await?;
    stream.shutdown().await
}
