//! As much of the unpickler's stack and memo as it takes to know which texts `STACK_GLOBAL` gets.

use std::collections::HashMap;

use super::opcode::Argument;

/// Values on the stack, and in the memo. Python's own limit is its memory.
const MOST_VALUES: usize = 1 << 20;

/// What `STACK_GLOBAL` is told that is no text.
const UNKNOWN: &str = "(unknown)";

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Mark,
    Text(String),
    Other,
}

/// A stack and a memo.
#[derive(Debug, Default)]
pub(super) struct Machine {
    stack: Vec<Value>,
    memo: HashMap<u64, Value>,
}

impl Machine {
    /// What `STACK_GLOBAL` would import; it stays on the stack.
    pub(super) fn global(&self) -> String {
        let text = |from_top: usize| {
            let index = self.stack.len().checked_sub(from_top);
            match index.and_then(|index| self.stack.get(index)) {
                Some(Value::Text(text)) => text.as_str(),
                _ => UNKNOWN,
            }
        };
        format!("{}.{}", text(2), text(1))
    }

    /// Does to the stack what an opcode does to it.
    pub(super) fn step(&mut self, code: u8, argument: Argument) -> Result<(), String> {
        match code {
            b'(' => self.push(Value::Mark)?,
            // POP, APPEND, BUILD, REDUCE, NEWOBJ and BINPERSID take the top and leave what is below
            // or one thing in its place.
            b'0' => self.pop(1)?,
            b'a' | b'b' => self.pop(1)?,
            b'R' | 0x81 | 0x86 | 0x93 => self.replace(2)?,
            b's' => self.pop(2)?,
            b'Q' | 0x85 => self.replace(1)?,
            0x87 | 0x92 => self.replace(3)?,
            // To the mark, which goes as well.
            b'1' | b'e' | b'u' | 0x90 => self.drop_to_mark()?,
            b'd' | b'l' | b't' | b'o' | b'i' | 0x91 => {
                self.drop_to_mark()?;
                self.push(Value::Other)?;
            }
            b'2' => {
                let top = self.stack.last().cloned().ok_or_else(empty)?;
                self.push(top)?;
            }
            b'g' | b'h' | b'j' => {
                let Argument::Number(place) = argument else { return Err(empty()) };
                let held = self.memo.get(&place).cloned().unwrap_or(Value::Other);
                self.push(held)?;
            }
            b'p' | b'q' | b'r' => {
                let Argument::Number(place) = argument else { return Err(empty()) };
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            // PROTO, FRAME and READONLY_BUFFER leave the stack as it is.
            0x80 | 0x95 | 0x98 => {}
            // Everything else pushes one value.
            _ => self.push(match argument {
                Argument::Text(text) => Value::Text(text),
                _ => Value::Other,
            })?,
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.stack.len() >= MOST_VALUES {
            return Err(format!("its stack is deeper than {MOST_VALUES}"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self, count: usize) -> Result<(), String> {
        let left = self.stack.len().checked_sub(count).ok_or_else(empty)?;
        self.stack.truncate(left);
        Ok(())
    }

    fn replace(&mut self, count: usize) -> Result<(), String> {
        self.pop(count)?;
        self.push(Value::Other)
    }

    fn drop_to_mark(&mut self) -> Result<(), String> {
        let mark = self.stack.iter().rposition(|value| *value == Value::Mark);
        self.stack.truncate(mark.ok_or_else(|| "there is no mark on its stack".to_owned())?);
        Ok(())
    }

    fn remember(&mut self, place: u64) -> Result<(), String> {
        if self.memo.len() >= MOST_VALUES {
            return Err(format!("its memo is larger than {MOST_VALUES}"));
        }
        let top = self.stack.last().cloned().ok_or_else(empty)?;
        self.memo.insert(place, top);
        Ok(())
    }
}

fn empty() -> String {
    "its stack is empty".to_owned()
}
