//! Choices that are made of bytes: the input of a fuzzer, or those that a seed gives. The same bytes
//! make the same choices, so each failing case is found again by its seed and number.

/// A row of choices.
pub(crate) struct Choices<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Choices<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// A number below a limit. Behind the last byte it is always 0.
    pub(crate) fn pick_number(&mut self, limit: usize) -> usize {
        let mut next_byte = || {
            let byte = self.bytes.get(self.position).copied().unwrap_or_default();
            self.position += 1;
            usize::from(byte)
        };
        let number = next_byte() << 8 | next_byte();
        number % limit.max(1)
    }

    /// One of several things.
    pub(crate) fn pick_item<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.pick_number(items.len())]
    }

    /// Whether something that happens once in `times` times happens now.
    pub(crate) fn is_one_in(&mut self, times: usize) -> bool {
        self.pick_number(times) == times - 1
    }
}

/// The bytes of case `number` of a seed (splitmix64, Steele and others 2014).
pub(crate) fn derive_bytes(seed: u64, number: u64) -> Vec<u8> {
    const LENGTH: usize = 512;
    let mut state =
        seed.wrapping_mul(0xa076_1d64_78bd_642f) ^ number.wrapping_mul(0xe703_7ed1_a0b4_28db);
    let mut bytes = Vec::with_capacity(LENGTH);
    while bytes.len() < LENGTH {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(mixed ^ mixed >> 31).to_le_bytes());
    }
    bytes
}
