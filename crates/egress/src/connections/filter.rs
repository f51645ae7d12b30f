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
//!  4  JUMP_SET 0x1fff          no bit of the offset is set: go on; else to 31 (drop)
//!  5  LOAD_HEADER_LENGTH 0     X = 4 * (0x45 & 0xf) = 20
//!  6  LOAD_BYTE 9              A = 6, the protocol
//!  7  JUMP_EQUAL UDP (17)      no: go on; yes: to 30 (pass)
//!  8  JUMP_EQUAL TCP (6)       yes: go on; no: over 3 instructions to 12, which looks for ICMP
//!  9  LOAD_BYTE_INDEXED 13     A = packet[20 + 13] = 0x02, TCP's flags
//! 10  AND SYN_AND_ACK (0x12)   A = 0x02
//! 11  JUMP_EQUAL SYN (0x02)    yes: to 30 (pass)
//! 30  RETURN 512               the packet is handed over, all 40 bytes of it
//! ```
//!
//! The answer of the other side has the flags 0x12 (SYN, ACK): at 10 A = 0x12, at 11 it is not equal to
//! SYN, and the jump leads to 31, `RETURN 0`. All later packets of the connection have the flag ACK
//! without SYN, and are dropped in the same way.
//!
//! A second example, of the other half: a DNS question over IPv6. At 2, A = 0x60 is not 0x40, so the
//! jump leads to 15: equal to 0x60, go on. 16 loads byte 6, the protocol: 17. At 17 it is equal to UDP,
//! which leads to 30: handed over.
//!
//! A packet with an extension header of IPv6 is handed over whatever is behind it: the program has no
//! loop to follow a chain of headers, and such packets are rare. [`super::packet`] follows it.
//!
//! In the tables below, jumps to `HIT` (30), `MISS` (31) and `V6` (15) are written by name, since their
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
/// The extension headers of IPv6 that packets of programs may have (RFC 8200): hop-by-hop options,
/// routing, fragment, authentication, destination options.
const IPV6_EXTENSIONS: [u32; 5] = [0, 43, 44, 51, 60];
// TCP's flags (RFC 9293).
const SYN: u32 = 0x02;
const SYN_AND_ACK: u32 = 0x12;

/// How many bytes of a packet are handed over: enough for the headers and a DNS question (RFC 1035 has
/// 512 bytes for it without the headers, but a question is never near that).
pub(super) const LENGTH: usize = 512;

/// One instruction: code, jump if yes, jump if no, k.
type BpfInstruction = (u16, u8, u8, u32);

/// The program, as the kernel takes it. The module's documentation follows a packet through it.
pub(super) fn build_program() -> Vec<SockFilter> {
    let instructions = list_instructions().into_iter();
    instructions.map(|(code, yes, no, k)| SockFilter::new(code, yes, no, k)).collect()
}

/// The instructions of the program.
fn list_instructions() -> Vec<BpfInstruction> {
    const MISS: u8 = u8::MAX;
    const HIT: u8 = u8::MAX - 1;
    const V6: u8 = u8::MAX - 2;
    // Names instead of distances are resolved below.
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
    let [hop_by_hop, routing, fragment, authentication, destination] = IPV6_EXTENSIONS;
    let v6 = [
        // A still has the version. The header is always 40 bytes.
        (JUMP_EQUAL, 0, MISS, 0x60),
        (LOAD_BYTE, 0, 0, 6),
        (JUMP_EQUAL, HIT, 0, UDP),
        (JUMP_EQUAL, HIT, 0, hop_by_hop),
        (JUMP_EQUAL, HIT, 0, routing),
        (JUMP_EQUAL, HIT, 0, fragment),
        (JUMP_EQUAL, HIT, 0, authentication),
        (JUMP_EQUAL, HIT, 0, destination),
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
    all.map(|(at, (code, yes, no, k))| (*code, far(at, *yes), far(at, *no), *k))
        .chain([(RETURN, 0, 0, LENGTH as u32), (RETURN, 0, 0, 0)])
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Runs the program over a packet as the kernel does: how many bytes are handed over.
    fn run_program(packet: &[u8]) -> u32 {
        let program = list_instructions();
        let load = |at: u32| packet.get(at as usize).copied().map(u32::from);
        let (mut accumulator, mut index, mut next) = (0, 0, 0);
        loop {
            let (code, yes, no, k) = program[next];
            next += 1;
            let loaded = match code {
                LOAD_BYTE => load(k),
                LOAD_HALF => load(k).zip(load(k + 1)).map(|(high, low)| high << 8 | low),
                LOAD_BYTE_INDEXED => load(index + k),
                LOAD_HEADER_LENGTH => {
                    let Some(byte) = load(k) else { return 0 };
                    index = 4 * (byte & 0xf);
                    Some(accumulator)
                }
                AND => Some(accumulator & k),
                JUMP_EQUAL | JUMP_SET => {
                    let is_true =
                        if code == JUMP_EQUAL { accumulator == k } else { accumulator & k != 0 };
                    next += usize::from(if is_true { yes } else { no });
                    Some(accumulator)
                }
                RETURN => return k,
                other => unreachable!("unknown code {other}"),
            };
            // A load behind the end of the packet drops it.
            let Some(loaded) = loaded else { return 0 };
            accumulator = loaded;
        }
    }

    /// An IPv4 packet with options of this many words, of this protocol.
    fn make_ipv4(words: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45 + words, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        bytes.resize(20 + usize::from(words) * 4, 0);
        bytes.extend(payload);
        bytes
    }

    fn make_ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        (bytes[0], bytes[6]) = (0x60, next_header);
        bytes.extend(payload);
        bytes
    }

    fn make_tcp(flags: u8) -> [u8; 20] {
        let mut header = [0; 20];
        header[13] = flags;
        header
    }

    #[test]
    fn what_begins_something_is_handed_over_and_nothing_else() {
        let is_passed = |packet: &[u8]| match run_program(packet) {
            0 => false,
            bytes => bytes as usize == LENGTH,
        };
        for words in [0, 5] {
            assert!(is_passed(&make_ipv4(words, 6, &make_tcp(0x02))), "SYN");
            // With the flags of ECN (RFC 3168) as well.
            assert!(is_passed(&make_ipv4(words, 6, &make_tcp(0xc2))), "SYN, ECE, CWR");
            for flags in [0x12, 0x10, 0x18, 0x11, 0x04] {
                assert!(!is_passed(&make_ipv4(words, 6, &make_tcp(flags))), "{flags}");
            }
            assert!(is_passed(&make_ipv4(words, 17, &[0; 8])), "UDP");
            assert!(is_passed(&make_ipv4(words, 1, &[8; 8])), "echo request");
            assert!(!is_passed(&make_ipv4(words, 1, &[0; 8])), "echo reply");
            assert!(!is_passed(&make_ipv4(words, 47, &[8; 8])), "GRE");
        }
        let mut fragment = make_ipv4(0, 17, &[0; 8]);
        fragment[7] = 1;
        assert!(!is_passed(&fragment), "a later fragment");
        assert!(is_passed(&make_ipv6(6, &make_tcp(0x02))), "SYN");
        assert!(!is_passed(&make_ipv6(6, &make_tcp(0x12))), "SYN, ACK");
        assert!(is_passed(&make_ipv6(17, &[0; 8])), "UDP");
        assert!(is_passed(&make_ipv6(58, &[128; 8])), "echo request");
        assert!(!is_passed(&make_ipv6(58, &[135; 8])), "neighbour solicitation");
        assert!(!is_passed(&make_ipv6(59, &[])), "no next header");
        for extension in IPV6_EXTENSIONS {
            assert!(is_passed(&make_ipv6(extension.try_into().unwrap(), &[0; 8])), "{extension}");
        }
    }

    #[test]
    fn short_and_foreign_packets_are_dropped() {
        let whole = make_ipv4(0, 6, &make_tcp(0x02));
        // The flags are the last byte that the program reads.
        for length in 0..=33 {
            assert_eq!(run_program(&whole[..length]), 0, "{length}");
        }
        for version in [0x00, 0x10, 0x50, 0xf0] {
            assert_eq!(run_program(&[version; 64]), 0, "{version}");
        }
    }

    #[test]
    fn jumps_stay_in_the_program() {
        let program = list_instructions();
        for (at, (code, yes, no, _)) in program.iter().enumerate() {
            if matches!(*code, JUMP_EQUAL | JUMP_SET) {
                assert!(at + 1 + usize::from(*yes.max(no)) < program.len(), "{at}");
            }
        }
        assert_eq!(program[30], (RETURN, 0, 0, LENGTH as u32), "as the module's example says");
    }
}
