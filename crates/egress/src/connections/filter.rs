//! What the kernel hands over of all packets: the first of a TCP connection, UDP, and echo requests.
//! A classic BPF program (linux/Documentation/networking/filter.rst) over packets that start with
//! their IP header, so that a busy node's data never leaves the kernel.

use socket2::SockFilter;

// linux/bpf_common.h: class | size | mode, class | operation | source.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE_INDEXED: u16 = 0x50;
/// X = 4 × (byte & 0xf): the length of an IPv4 header.
const LOAD_HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMP: u32 = 1;
const ICMP6: u32 = 58;
const SYN: u32 = 0x02;
const SYN_AND_ACK: u32 = 0x12;

/// How much of a packet is handed over: headers, and a DNS question.
pub(super) const LENGTH: usize = 512;

/// The program.
pub(super) fn program() -> Vec<SockFilter> {
    const MISS: u8 = u8::MAX;
    const HIT: u8 = u8::MAX - 1;
    const V6: u8 = u8::MAX - 2;
    // Jumps name where they go; how far that is, is counted below.
    let v4 = [
        (LOAD_BYTE, 0, 0, 0),
        (AND, 0, 0, 0xf0),
        (JUMP_EQUAL, 0, V6, 0x40),
        // Behind the first fragment there are no ports.
        (LOAD_HALF, 0, 0, 6),
        (JUMP_SET, MISS, 0, 0x1fff),
        (LOAD_HEADER_LENGTH, 0, 0, 0),
        (LOAD_BYTE, 0, 0, 9),
        (JUMP_EQUAL, HIT, 0, UDP),
        (JUMP_EQUAL, 0, 3, TCP),
        (LOAD_BYTE_INDEXED, 0, 0, 13),
        (AND, 0, 0, SYN_AND_ACK),
        (JUMP_EQUAL, HIT, MISS, SYN),
        (JUMP_EQUAL, 0, MISS, ICMP),
        (LOAD_BYTE_INDEXED, 0, 0, 0),
        (JUMP_EQUAL, HIT, MISS, 8),
    ];
    let v6 = [
        (JUMP_EQUAL, 0, MISS, 0x60),
        (LOAD_BYTE, 0, 0, 6),
        (JUMP_EQUAL, HIT, 0, UDP),
        (JUMP_EQUAL, 0, 3, TCP),
        (LOAD_BYTE, 0, 0, 40 + 13),
        (AND, 0, 0, SYN_AND_ACK),
        (JUMP_EQUAL, HIT, MISS, SYN),
        (JUMP_EQUAL, 0, MISS, ICMP6),
        (LOAD_BYTE, 0, 0, 40),
        (JUMP_EQUAL, HIT, MISS, 128),
    ];
    let hit = v4.len() + v6.len();
    let far = |at: usize, to: u8| match to {
        HIT => (hit - at - 1) as u8,
        MISS => (hit - at) as u8,
        V6 => (v4.len() - at - 1) as u8,
        near => near,
    };
    let all = v4.iter().chain(&v6).enumerate();
    all.map(|(at, (code, yes, no, k))| SockFilter::new(*code, far(at, *yes), far(at, *no), *k))
        .chain([SockFilter::new(RETURN, 0, 0, LENGTH as u32), SockFilter::new(RETURN, 0, 0, 0)])
        .collect()
}
