//! Parses pickle opcodes and their arguments from a stream. Long arguments are skipped instead of
//! being kept in memory; only those matter that may be part of a name.

use std::io::{BufReader, Read};

use super::escape;

pub(super) const PROTO: u8 = 0x80;
pub(super) const STOP: u8 = b'.';
pub(super) const GLOBAL: u8 = b'c';
pub(super) const INST: u8 = b'i';
pub(super) const STACK_GLOBAL: u8 = 0x93;
pub(super) const EXT1: u8 = 0x82;
pub(super) const EXT2: u8 = 0x83;
pub(super) const EXT4: u8 = 0x84;

/// The most bytes of a string that are kept: names in Python are shorter. A longer one is skipped,
/// and counts as unknown.
const LONGEST_TEXT: u64 = 1024;
/// The most bytes of a line, the form of numbers and strings in protocol 0.
const LONGEST_LINE: usize = 1 << 20;

/// The argument of an opcode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OpcodeArgument {
    /// The opcode has none.
    None,
    /// A small number: a slot of the memo, the code of an extension, the protocol.
    Number(u64),
    /// A string that may be a name.
    Text(String),
    /// A module and a name in it.
    ModuleAndName(String, String),
    /// Something that cannot be a name.
    Other,
}

/// Reads opcodes from a stream.
pub(super) struct OpcodeReader<R> {
    inner: BufReader<R>,
    /// The next byte, if [`Self::peek`] has read it already.
    ahead: Option<u8>,
    position: u64,
}

impl<R: Read> OpcodeReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { inner: BufReader::new(input), ahead: None, position: 0 }
    }

    /// The number of bytes that were consumed.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next byte without consuming it; `None` at the end.
    pub(super) fn peek(&mut self) -> Option<u8> {
        if self.ahead.is_none() {
            let mut byte = [0];
            self.inner.read_exact(&mut byte).ok()?;
            self.ahead = Some(byte[0]);
        }
        self.ahead
    }

    /// Reads the next opcode with its argument.
    pub(super) fn next_opcode(&mut self) -> Result<(u8, OpcodeArgument), String> {
        let code = self.read_byte()?;
        let argument = match code {
            b'('
            | b'.'
            | b'0'
            | b'1'
            | b'2'
            | b'Q'
            | b'R'
            | b'N'
            | b'a'
            | b'b'
            | b'd'
            | b'}'
            | b'e'
            | b'l'
            | b']'
            | b'o'
            | b's'
            | b't'
            | b')'
            | b'u'
            | 0x81
            | 0x85..=0x89
            | 0x8f..=0x94
            | 0x97
            | 0x98 => OpcodeArgument::None,
            // FLOAT, INT, LONG and PERSID of protocol 0: text up to the end of the line.
            b'F' | b'I' | b'L' | b'P' => {
                self.read_line()?;
                OpcodeArgument::Other
            }
            // STRING is quoted, UNICODE is not; both have escapes.
            b'S' => keep_text(escape::decode_quoted(&self.read_line_bytes()?)?),
            b'V' => keep_text(escape::decode_unicode(&self.read_line_bytes()?)?),
            b'g' | b'p' => {
                let line = self.read_line()?;
                OpcodeArgument::Number(
                    line.trim()
                        .parse()
                        .map_err(|_| format!("{line:?} is not the number of a memo slot"))?,
                )
            }
            GLOBAL | INST => OpcodeArgument::ModuleAndName(self.read_line()?, self.read_line()?),
            PROTO | b'h' | b'q' | EXT1 => OpcodeArgument::Number(self.read_number(1)?),
            EXT2 => OpcodeArgument::Number(self.read_number(2)?),
            b'j' | b'r' | EXT4 => OpcodeArgument::Number(self.read_number(4)?),
            // Numbers of a fixed size, and FRAME with the length of what follows.
            b'K' => self.skip_bytes(1)?,
            b'M' => self.skip_bytes(2)?,
            b'J' => self.skip_bytes(4)?,
            b'G' | 0x95 => self.skip_bytes(8)?,
            // Strings with their length in 1, 4 or 8 bytes.
            b'U' | 0x8c => self.read_text(1)?,
            b'T' | b'X' => self.read_text(4)?,
            0x8d => self.read_text(8)?,
            // Bytes and long integers with their length in 1, 4 or 8 bytes.
            b'C' | 0x8a => self.skip_sized(1)?,
            b'B' | 0x8b => self.skip_sized(4)?,
            0x8e | 0x96 => self.skip_sized(8)?,
            code => return Err(format!("{code:#04x} is not an opcode")),
        };
        Ok((code, argument))
    }

    fn read_byte(&mut self) -> Result<u8, String> {
        let byte = self.peek().ok_or_else(|| "the file is truncated".to_owned())?;
        self.ahead = None;
        self.position += 1;
        Ok(byte)
    }

    /// Reads a little-endian number of that many bytes.
    fn read_number(&mut self, bytes: u32) -> Result<u64, String> {
        (0..bytes)
            .try_fold(0, |number, place| Ok(number | u64::from(self.read_byte()?) << (8 * place)))
    }

    /// Reads up to the end of the line, as text.
    fn read_line(&mut self) -> Result<String, String> {
        Ok(String::from_utf8_lossy(&self.read_line_bytes()?).into_owned())
    }

    /// Reads up to the end of the line.
    fn read_line_bytes(&mut self) -> Result<Vec<u8>, String> {
        let mut line = Vec::new();
        loop {
            match self.read_byte()? {
                b'\n' => return Ok(line),
                byte if line.len() < LONGEST_LINE => line.push(byte),
                _ => return Err(format!("a line is longer than {LONGEST_LINE} bytes")),
            }
        }
    }

    /// Reads a string whose length is in that many bytes.
    fn read_text(&mut self, bytes: u32) -> Result<OpcodeArgument, String> {
        let length = self.read_number(bytes)?;
        if length > LONGEST_TEXT {
            return self.skip_bytes(length);
        }
        let text: Vec<u8> = (0..length).map(|_| self.read_byte()).collect::<Result<_, _>>()?;
        Ok(OpcodeArgument::Text(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Skips a value whose length is in that many bytes.
    fn skip_sized(&mut self, bytes: u32) -> Result<OpcodeArgument, String> {
        let length = self.read_number(bytes)?;
        self.skip_bytes(length)
    }

    /// Skips that many bytes.
    fn skip_bytes(&mut self, length: u64) -> Result<OpcodeArgument, String> {
        // A byte that was peeked at is one of them.
        let mut left = length;
        if left > 0 && self.ahead.take().is_some() {
            left -= 1;
        }
        let skipped = std::io::copy(&mut (&mut self.inner).take(left), &mut std::io::sink());
        match skipped {
            Ok(skipped) if skipped == left => {
                self.position += length;
                Ok(OpcodeArgument::Other)
            }
            Ok(_) => Err("the file is truncated".to_owned()),
            Err(cause) => Err(cause.to_string()),
        }
    }
}

/// Whether an opcode calls a function or a method: REDUCE, BUILD (`__setstate__`), OBJ, INST,
/// NEWOBJ and NEWOBJ_EX.
pub(super) fn is_call(code: u8) -> bool {
    matches!(code, b'R' | b'b' | b'o' | INST | 0x81 | 0x92)
}

/// A string as an argument, unless it is longer than any name.
fn keep_text(text: String) -> OpcodeArgument {
    match text.len() as u64 > LONGEST_TEXT {
        true => OpcodeArgument::Other,
        false => OpcodeArgument::Text(text),
    }
}
