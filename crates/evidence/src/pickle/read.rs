//! Reads the pickles of a stream, and collects their imports and calls.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::machine::PickleMachine;
use super::names::ImportDanger;
use super::opcode::{self, OpcodeArgument, OpcodeReader};

/// The most opcodes of one file that are read. A model with a thousand layers has some hundred
/// thousand.
const MOST_OPCODES: u64 = 20_000_000;
/// The most pickles in one file. Old versions of `torch.save` wrote five, one after the other.
const MOST_PICKLES: u32 = 64;
/// The most different imports of one file; a real model has some tens.
const MOST_IMPORTS: usize = 1000;

/// A function or class that a pickle imports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PickleImport {
    /// Its full name, `module.name`.
    pub name: String,
    /// What importing and calling it can do.
    pub danger: ImportDanger,
    /// How often it is imported.
    pub times: u64,
}

/// What was found in a pickle, or in several of them in one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PickleContents {
    /// The imports, the most dangerous ones first, then by name.
    pub imports: Vec<PickleImport>,
    /// The number of pickles, one after the other.
    pub pickles: u32,
    /// How often it calls something (`REDUCE`, `NEWOBJ`, `OBJ`, `INST`, `BUILD`).
    pub calls: u64,
    /// Why it was not read to its end. Python would still run everything before that position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

impl PickleContents {
    /// The danger of the worst import. A pickle that was not read to its end is at least
    /// [`ImportDanger::Unknown`].
    pub fn worst_danger(&self) -> ImportDanger {
        let worst = self.imports.iter().map(|import| import.danger).max();
        let unread = self.broken.as_ref().map(|_| ImportDanger::Unknown);
        worst.max(unread).unwrap_or(ImportDanger::Usual)
    }
}

/// Reads pickles from a stream up to the end of the last one. Never fails: an error becomes
/// [`PickleContents::broken`], beside everything that was found before it.
pub fn read_pickles(input: impl Read) -> PickleContents {
    let mut reader = OpcodeReader::new(input);
    let mut names: BTreeMap<String, u64> = BTreeMap::new();
    let mut found = PickleContents::default();
    let mut opcodes = 0;
    while found.pickles < MOST_PICKLES && found.broken.is_none() {
        // Anything may follow a pickle, mostly raw tensors. It is another pickle if it begins with
        // PROTO.
        if found.pickles > 0 && reader.peek() != Some(opcode::PROTO) {
            break;
        }
        found.pickles += 1;
        if let Err(reason) = read_pickle(&mut reader, &mut opcodes, &mut names, &mut found.calls) {
            found.broken = Some(format!("byte {}: {reason}", reader.position()));
        }
    }
    if found.pickles == MOST_PICKLES && reader.peek() == Some(opcode::PROTO) {
        found.broken = Some(format!("there are more than {MOST_PICKLES} pickles in one file"));
    }
    found.imports = names
        .into_iter()
        .map(|(name, times)| PickleImport { danger: ImportDanger::of_import(&name), name, times })
        .collect();
    found.imports.sort_by(|a, b| (b.danger, &a.name).cmp(&(a.danger, &b.name)));
    found
}

/// Reads one pickle up to its `STOP`.
fn read_pickle(
    reader: &mut OpcodeReader<impl Read>,
    opcodes: &mut u64,
    names: &mut BTreeMap<String, u64>,
    calls: &mut u64,
) -> Result<(), String> {
    let mut machine = PickleMachine::default();
    loop {
        *opcodes += 1;
        if *opcodes > MOST_OPCODES {
            return Err(format!("it has more than {MOST_OPCODES} opcodes"));
        }
        let (code, argument) = reader.next_opcode()?;
        if opcode::is_call(code) {
            *calls += 1;
        }
        // Before the opcode is applied: STACK_GLOBAL takes its names off the stack.
        let imported = match (code, &argument) {
            (opcode::GLOBAL | opcode::INST, OpcodeArgument::ModuleAndName(module, name)) => {
                Some(format!("{module}.{name}"))
            }
            (opcode::STACK_GLOBAL, _) => Some(machine.global_name()),
            // A number for an import, registered with `copyreg.add_extension` in the program that
            // loads the pickle; which one is not in the file.
            (opcode::EXT1 | opcode::EXT2 | opcode::EXT4, OpcodeArgument::Number(code)) => {
                Some(format!("copyreg.extension.{code}"))
            }
            _ => None,
        };
        if let Some(name) = imported {
            if !names.contains_key(&name) && names.len() >= MOST_IMPORTS {
                return Err(format!("it imports more than {MOST_IMPORTS} names"));
            }
            *names.entry(name).or_default() += 1;
        }
        if code == opcode::STOP {
            return Ok(());
        }
        machine.apply_opcode(code, argument)?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn list_imports(bytes: &[u8]) -> Vec<String> {
        let found = read_pickles(bytes);
        assert_eq!(found.broken, None);
        found.imports.into_iter().map(|import| import.name).collect()
    }

    #[test]
    fn every_way_to_import_is_seen() {
        // The classic exploit in protocol 0: GLOBAL os.system, MARK, STRING 'id', TUPLE, REDUCE,
        // STOP.
        assert_eq!(list_imports(b"cos\nsystem\n(S'id'\ntR."), ["os.system"]);
        // Protocol 4: SHORT_BINUNICODE twice, STACK_GLOBAL.
        assert_eq!(list_imports(b"\x80\x04\x8c\x05posix\x8c\x06system\x93."), ["posix.system"]);
        // The names come from the memo.
        let memo = b"\x80\x04\x8c\x02os\x94\x8c\x05popen\x940h\x00h\x01\x93.";
        assert_eq!(list_imports(memo), ["os.popen"]);
        assert_eq!(list_imports(b"(S'id'\nios\nsystem\n."), ["os.system"]);
        assert_eq!(list_imports(b"\x80\x02\x82\x07."), ["copyreg.extension.7"]);
        // Two pickles and raw data, as old versions of `torch.save` wrote them.
        assert_eq!(
            list_imports(b"\x80\x02K\x01.\x80\x02cbuiltins\neval\n.tensors"),
            ["builtins.eval"]
        );
    }

    #[test]
    fn a_name_in_escapes_is_the_name_that_python_loads() {
        // Protocol 0 strings may be mixed with the opcodes of protocol 4.
        for stream in
            [br"S'\x6fs'*S'syst\145m'*".as_slice(), br"V\u006fs*Vsyst\U00000065m*".as_slice()]
        {
            let mut bytes: Vec<u8> =
                stream.iter().map(|b| if *b == b'*' { b'\n' } else { *b }).collect();
            bytes.extend(b"\x93.");
            let found = read_pickles(bytes.as_slice());
            assert_eq!(found.imports[0].name, "os.system");
            assert_eq!(found.worst_danger(), ImportDanger::Dangerous);
        }
        // Python refuses the string; nothing is known of what follows.
        let found = read_pickles(b"S'\\x6'\n.".as_slice());
        assert!(found.broken.is_some() && found.worst_danger() == ImportDanger::Unknown);
    }

    #[test]
    fn a_name_that_is_made_up_on_the_way_is_unknown_and_not_harmless() {
        // STACK_GLOBAL with a list in the place of the name.
        let found = read_pickles(b"\x80\x04\x8c\x02os(K\x01l\x93.".as_slice());
        assert_eq!(found.imports[0].name, "os.(unknown)");
        assert!(found.worst_danger() >= ImportDanger::Unknown);
    }

    #[test]
    fn what_breaks_off_is_said_with_what_came_before() {
        let found = read_pickles(b"\x80\x04cos\nsystem\n(S'id'\ntR\xff".as_slice());
        assert_eq!(found.imports[0].name, "os.system");
        assert!(found.broken.as_deref().unwrap().contains("not an opcode"), "{found:?}");
        let endless = [b"\x80\x04\x8e".as_slice(), &[0xff; 8]].concat();
        assert!(read_pickles(endless.as_slice()).broken.is_some());
        assert!(read_pickles(b"".as_slice()).broken.is_some());
    }

    #[test]
    fn a_pickle_of_tensors_is_usual() {
        let text = b"\x80\x02ccollections\nOrderedDict\n)Rctorch._utils\n_rebuild_tensor_v2\n0ctorch\nFloatStorage\n0.";
        let found = read_pickles(text.as_slice());
        assert_eq!((found.worst_danger(), found.calls), (ImportDanger::Usual, 1));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let found = read_pickles(bytes.as_slice());
            prop_assert!(found.imports.len() <= MOST_IMPORTS);
        }

        #[test]
        fn any_program_ends(bytes in proptest::collection::vec(prop::sample::select(b"(0123]}lt)e2bgR.\x80\x04\x85\x86\x87\x94\x93qhK".to_vec()), 0..3000)) {
            let _ = read_pickles(bytes.as_slice());
        }
    }
}
