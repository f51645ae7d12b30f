//! Interrupts uploads: a TCP proxy that breaks connections in the direction of the server.
//! (testkit's `Faults` do the same for responses.)

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// A TCP proxy that lets a connection send a number of bytes and then breaks it; only the first few
/// connections that get so far.
pub struct Cutter {
    pub address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    passed: Arc<AtomicU64>,
}

impl Cutter {
    pub fn before(server: &str, after: u64, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(times));
        let passed: Arc<AtomicU64> = Arc::default();
        let (server, left, all) = (server.to_owned(), Arc::clone(&cuts), Arc::clone(&passed));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&server).unwrap());
                let (left, all) = (Arc::clone(&left), Arc::clone(&all));
                let (to_client, from_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = pass(from_server, to_client, |_| false);
                });
                thread::spawn(move || {
                    let mut sent = 0;
                    let _ = pass(client, server, |bytes| {
                        sent += bytes;
                        all.fetch_add(bytes, Ordering::SeqCst);
                        sent > after
                            && left
                                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| {
                                    n.checked_sub(1)
                                })
                                .is_ok()
                    });
                });
            }
        });
        Self { address, cuts, passed }
    }

    /// Bytes that were sent to the server, or lost with a broken connection.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    /// Connections that are still to be broken.
    pub fn left(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    mut is_over: impl FnMut(u64) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        if read == 0 || is_over(read as u64) {
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
            return Ok(());
        }
        to.write_all(&buffer[..read])?;
    }
}
