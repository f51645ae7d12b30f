//! Finds out what a pickle would import if it were loaded. A pickle is a program for Python's
//! unpickler. `read` goes through it, opcode by opcode, and never runs it: `opcode` parses the
//! stream and `escape` the strings in it, `machine` follows the stack as far as is needed to learn the names that `STACK_GLOBAL` takes
//! from it, and `names` judges them. Time and memory are bounded, and what cannot be followed is
//! reported as unknown.
//!
//! The opcodes are those of CPython, `Lib/pickletools.py`, protocols 0 to 5.

mod escape;
mod machine;
mod names;
mod opcode;
mod read;

pub use names::ImportDanger;
pub use read::{PickleContents, PickleImport, read_pickles};
