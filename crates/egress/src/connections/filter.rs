//! The filter that runs in the kernel: of all packets of a node it passes the first of each TCP
//! connection, UDP, and echo requests, so that the data of a busy node is never copied to us.
//!
//! It is a classic BPF program (linux, Documentation/networking/filter.rst) over packets that begin
//! with their IP header. The machine has an accumulator A, an index register X, and the packet. An
//! instruction is `(code, yes, no, k)`: a load puts a byte or two of the packet into A, a jump compares
//! A with `k` and skips `yes` or `no` instructions, counted from the next one. `RETURN k` ends the
//! program: `k` is how many bytes of the packet are handed over, 0 drops it. A load behind the packet's
//! end drops it as well, so that short packets need no checks.
//!
//! # A worked example
//!
//! A pod begins a TCP connection. Its packet has 40 bytes: an IPv4 header of 20, a TCP header of 20.
//!
//! ```text
//! offset  0   1    2 3    4 5    6 7    8   9   10 11   12 13 14 15   16 17 18 19
//!        45  00   00 28  00 00  40 00  40  06   00 00   0a f4 01 07   c0 00 02 01    IPv4
//! offset 20 21   22 23   24 25 26 27   28 29 30 31   32  33   34 35 ...
//!        c0 00   01 bb   01 02 03 04   00 00 00 00   50  02   00 00 ...              TCP
//! ```
//!
//! The program runs over it like this (the number is the instruction's place in the program):
//!
//! ```text
//!  0  LOAD_BYTE 0              A = 0x45
//!  1  AND 0xf0                 A = 0x40
//!  2  JUMP_EQUAL 0x40          yes: go on; no: to 15, where 0x60 (IPv6) is looked for
//!  3  LOAD_HALF 6              A = 0x4000, the flag "don't fragment" and the fragment's offset
//!  4  JUMP_SET 0x1fff          no bit of the offset is set: go on; else to 26 (drop)
//!  5  LOAD_HEADER_LENGTH 0     X = 4 * (0x45 & 0xf) = 20
//!  6  LOAD_BYTE 9              A = 6, the protocol
//!  7  JUMP_EQUAL UDP (17)      no: go on; yes: to 25 (pass)
//!  8  JUMP_EQUAL TCP (6)       yes: go on; no: over 3 instructions to 12, which looks for ICMP
//!  9  LOAD_BYTE_INDEXED 13     A = packet[20 + 13] = 0x02, TCP's flags
//! 10  AND SYN_AND_ACK (0x12)   A = 0x02
//! 11  JUMP_EQUAL SYN (0x02)    yes: to 25 (pass)
//! 25  RETURN 512               the packet is handed over, all 40 bytes of it
//! ```
//!
//! The answer of the other side has the flags 0x12 (SYN, ACK): at 10 A = 0x12, at 11 it is not equal to
//! SYN, and the jump leads to 26, `RETURN 0`. All later packets of the connection have the flag ACK
//! without SYN, and are dropped in the same way.
//!
//! A second example, of the other half: a DNS question over IPv6. At 2, A = 0x60 is not 0x40, so the
//! jump leads to 15: equal to 0x60, go on. 16 loads byte 6, the protocol: 17. At 17 it is equal to UDP,
//! which leads to 25: handed over.
//!
//! In the tables below, jumps to `HIT` (25), `MISS` (26) and `V6` (15) are written by name, since their
//! distances change with each instruction that is added; `build_program` computes them. The 3 at 8 is a
//! plain distance. Distances are bytes in BPF, so a program can jump over at most 255 instructions,
//! which leaves the names' own values (253 to 255) free here.

use socket2::SockFilter;

// The codes, from linux/bpf_common.h: loads are class | size | mode, the others class | operation |
// source.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
/// The byte at X + k.
const LOAD_BYTE_INDEXED: u16 = 0x50;
/// X = 4 × (byte & 0xf): the length of an IPv4 header.
const LOAD_HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
/// Whether A has any of the bits of k.
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMP: u32 = 1;
const ICMP6: u32 = 58;
// TCP's flags (RFC 9293).
const SYN: u32 = 0x02;
const SYN_AND_ACK: u32 = 0x12;

/// How many bytes of a packet are handed over: enough for the headers and a DNS question (RFC 1035 has
/// 512 bytes for it without the headers, but a question is never near that).
pub(super) const LENGTH: usize = 512;

/// The program, as the kernel takes it. The module's documentation follows a packet through it.
pub(super) fn build_program() -> Vec<SockFilter> {
    const MISS: u8 = u8::MAX;
    const HIT: u8 = u8::MAX - 1;
    const V6: u8 = u8::MAX - 2;
    // (code, jump if yes, jump if no, k). Names instead of distances are resolved below.
    let v4 = [
        (LOAD_BYTE, 0, 0, 0),
        (AND, 0, 0, 0xf0),
        (JUMP_EQUAL, 0, V6, 0x40),
        // Only the first fragment of a packet has the ports; its offset is 0.
        (LOAD_HALF, 0, 0, 6),
        (JUMP_SET, MISS, 0, 0x1fff),
        // The header may have options: what follows it is found by its length, in X.
        (LOAD_HEADER_LENGTH, 0, 0, 0),
        (LOAD_BYTE, 0, 0, 9),
        (JUMP_EQUAL, HIT, 0, UDP),
        (JUMP_EQUAL, 0, 3, TCP),
        // TCP: only SYN without ACK begins a connection.
        (LOAD_BYTE_INDEXED, 0, 0, 13),
        (AND, 0, 0, SYN_AND_ACK),
        (JUMP_EQUAL, HIT, MISS, SYN),
        (JUMP_EQUAL, 0, MISS, ICMP),
        (LOAD_BYTE_INDEXED, 0, 0, 0),
        // ICMP: type 8 is an echo request.
        (JUMP_EQUAL, HIT, MISS, 8),
    ];
    let v6 = [
        // A still has the version. The header is always 40 bytes; extension headers are not followed, so
        // that a packet with one is dropped.
        (JUMP_EQUAL, 0, MISS, 0x60),
        (LOAD_BYTE, 0, 0, 6),
        (JUMP_EQUAL, HIT, 0, UDP),
        (JUMP_EQUAL, 0, 3, TCP),
        (LOAD_BYTE, 0, 0, 40 + 13),
        (AND, 0, 0, SYN_AND_ACK),
        (JUMP_EQUAL, HIT, MISS, SYN),
        (JUMP_EQUAL, 0, MISS, ICMP6),
        (LOAD_BYTE, 0, 0, 40),
        // ICMPv6: type 128 is an echo request.
        (JUMP_EQUAL, HIT, MISS, 128),
    ];
    // Behind both tables there are two instructions: RETURN LENGTH (a hit), RETURN 0 (a miss). A jump
    // counts from the instruction after it, so `to - at - 1`.
    let hit = v4.len() + v6.len();
    let far = |at: usize, to: u8| match to {
        HIT => (hit - at - 1) as u8,
        MISS => (hit - at) as u8,
        V6 => (v4.len() - at - 1) as u8,
        // A plain distance within the table.
        near => near,
    };
    let all = v4.iter().chain(&v6).enumerate();
    all.map(|(at, (code, yes, no, k))| SockFilter::new(*code, far(at, *yes), far(at, *no), *k))
        .chain([SockFilter::new(RETURN, 0, 0, LENGTH as u32), SockFilter::new(RETURN, 0, 0, 0)])
        .collect()
}
