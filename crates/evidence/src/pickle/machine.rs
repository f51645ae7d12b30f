//! A model of the unpickler's stack and memo, just detailed enough to know which two strings
//! `STACK_GLOBAL` takes from the stack. Strings are kept; every other value (numbers, tuples,
//! results of calls) becomes [`StackValue::Other`], since a name that is computed cannot be known
//! without running the program.
//!
//! # Worked example
//!
//! A pickle of protocol 4 that hides the import of `os.popen` behind the memo. Its 22 bytes, and
//! what [`PickleMachine::apply_opcode`] does with each opcode (the top of the stack is on the
//! right):
//!
//! ```text
//! 80 04 | 8c 02 "os" | 94 | 8c 05 "popen" | 94 | 30 | 68 00 | 68 01 | 93 | 2e
//!
//! bytes          opcode             stack afterwards       memo afterwards
//! 80 04          PROTO 4            (empty)                (empty)
//! 8c 02 "os"     SHORT_BINUNICODE   os                     (empty)
//! 94             MEMOIZE            os                     0: os
//! 8c 05 "popen"  SHORT_BINUNICODE   os popen               0: os
//! 94             MEMOIZE            os popen               0: os, 1: popen
//! 30             POP                os                     0: os, 1: popen
//! 68 00          BINGET 0           os os                  0: os, 1: popen
//! 68 01          BINGET 1           os os popen            0: os, 1: popen
//! 93             STACK_GLOBAL       os Other               0: os, 1: popen
//! 2e             STOP               (not applied: the caller ends here)
//! ```
//!
//! Before it applies `STACK_GLOBAL`, the caller asks [`PickleMachine::global_name`]. The two
//! topmost values are `os` and `popen`, so the answer is `os.popen`, which `names` judges as
//! dangerous. The opcode then replaces both by one `Other`, the imported function.
//!
//! With a computed name the answer stays honest. In `8c 02 "os" | 28 | 4b 01 | 6c | 93`:
//!
//! ```text
//! bytes          opcode             stack afterwards
//! 8c 02 "os"     SHORT_BINUNICODE   os
//! 28             MARK               os Mark
//! 4b 01          BININT1 1          os Mark Other
//! 6c             LIST               os Other              (all down to the mark became one value)
//! 93             STACK_GLOBAL       Other                 global_name() was "os.(unknown)"
//! ```

use std::collections::HashMap;

use super::opcode::OpcodeArgument;

/// The most values on the stack, and in the memo. Python is limited by its memory only; this bound
/// keeps a hostile file from using up ours.
const MOST_VALUES: usize = 1 << 20;

/// Stands in a name for a value that is not a known string. No such module exists, so it is never
/// judged as harmless.
const UNKNOWN: &str = "(unknown)";

/// A value on the stack, as far as its content matters.
#[derive(Debug, Clone, PartialEq, Eq)]
enum StackValue {
    /// The marker of `MARK`, down to which some opcodes clear the stack.
    Mark,
    /// A string, which may become part of a name.
    Text(String),
    /// Anything else.
    Other,
}

/// The stack and the memo (numbered slots, for values that are used again) of the unpickler.
#[derive(Debug, Default)]
pub(super) struct PickleMachine {
    stack: Vec<StackValue>,
    memo: HashMap<u64, StackValue>,
}

impl PickleMachine {
    /// The name that `STACK_GLOBAL` would import, `module.name`. The stack stays as it is.
    pub(super) fn global_name(&self) -> String {
        let text = |from_top: usize| {
            let index = self.stack.len().checked_sub(from_top);
            match index.and_then(|index| self.stack.get(index)) {
                Some(StackValue::Text(text)) => text.as_str(),
                _ => UNKNOWN,
            }
        };
        format!("{}.{}", text(2), text(1))
    }

    /// Applies the effect of an opcode to the stack and the memo.
    ///
    /// # Errors
    /// What Python would fail at, too (an empty stack, a missing mark), and more values than
    /// allowed.
    pub(super) fn apply_opcode(
        &mut self,
        code: u8,
        argument: OpcodeArgument,
    ) -> Result<(), String> {
        match code {
            b'(' => self.push(StackValue::Mark)?,
            // POP.
            b'0' => self.pop(1)?,
            // APPEND and BUILD take the top, and change the object below it, which stays.
            b'a' | b'b' => self.pop(1)?,
            // REDUCE, NEWOBJ, TUPLE2 and STACK_GLOBAL turn two values into one.
            b'R' | 0x81 | 0x86 | 0x93 => self.replace_top(2)?,
            // SETITEM takes a key and a value; the dictionary below stays.
            b's' => self.pop(2)?,
            // BINPERSID and TUPLE1.
            b'Q' | 0x85 => self.replace_top(1)?,
            // TUPLE3 and NEWOBJ_EX.
            0x87 | 0x92 => self.replace_top(3)?,
            // POP_MARK, APPENDS, SETITEMS and ADDITEMS clear the stack down to the mark, and the
            // mark.
            b'1' | b'e' | b'u' | 0x90 => self.drop_to_mark()?,
            // DICT, LIST, TUPLE, OBJ, INST and FROZENSET do the same and push what they made of it.
            b'd' | b'l' | b't' | b'o' | b'i' | 0x91 => {
                self.drop_to_mark()?;
                self.push(StackValue::Other)?;
            }
            // DUP.
            b'2' => {
                let top = self.stack.last().cloned().ok_or_else(empty_stack_error)?;
                self.push(top)?;
            }
            // GET, BINGET and LONG_BINGET. Python fails for an empty slot; an unknown value is
            // enough here, as it can only make the result more cautious.
            b'g' | b'h' | b'j' => {
                let OpcodeArgument::Number(place) = argument else {
                    return Err(empty_stack_error());
                };
                let held = self.memo.get(&place).cloned().unwrap_or(StackValue::Other);
                self.push(held)?;
            }
            // PUT, BINPUT and LONG_BINPUT.
            b'p' | b'q' | b'r' => {
                let OpcodeArgument::Number(place) = argument else {
                    return Err(empty_stack_error());
                };
                self.store_in_memo(place)?;
            }
            // MEMOIZE takes the next free number, which is the size of the memo in CPython, too.
            0x94 => self.store_in_memo(self.memo.len() as u64)?,
            // PROTO, FRAME and READONLY_BUFFER do not change the stack.
            0x80 | 0x95 | 0x98 => {}
            // Every other opcode pushes one value: constants, strings, GLOBAL, EXT1, PERSID, …
            _ => self.push(match argument {
                OpcodeArgument::Text(text) => StackValue::Text(text),
                _ => StackValue::Other,
            })?,
        }
        Ok(())
    }

    fn push(&mut self, value: StackValue) -> Result<(), String> {
        if self.stack.len() >= MOST_VALUES {
            return Err(format!("the stack has more than {MOST_VALUES} values"));
        }
        self.stack.push(value);
        Ok(())
    }

    /// Removes the topmost values.
    fn pop(&mut self, count: usize) -> Result<(), String> {
        let left = self.stack.len().checked_sub(count).ok_or_else(empty_stack_error)?;
        self.stack.truncate(left);
        Ok(())
    }

    /// Replaces the topmost values by one that is not a string.
    fn replace_top(&mut self, count: usize) -> Result<(), String> {
        self.pop(count)?;
        self.push(StackValue::Other)
    }

    /// Removes everything down to the topmost mark, and the mark.
    fn drop_to_mark(&mut self) -> Result<(), String> {
        let mark = self.stack.iter().rposition(|value| *value == StackValue::Mark);
        self.stack.truncate(mark.ok_or_else(|| "the stack has no mark".to_owned())?);
        Ok(())
    }

    /// Copies the topmost value into a slot of the memo.
    fn store_in_memo(&mut self, place: u64) -> Result<(), String> {
        if self.memo.len() >= MOST_VALUES {
            return Err(format!("the memo has more than {MOST_VALUES} values"));
        }
        let top = self.stack.last().cloned().ok_or_else(empty_stack_error)?;
        self.memo.insert(place, top);
        Ok(())
    }
}

fn empty_stack_error() -> String {
    "the stack has too few values".to_owned()
}
