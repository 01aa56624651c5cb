//! The Huffman code of header strings (RFC 7541 appendix B).
//!
//! The code is canonical: the lengths alone define it. Codes of one length are consecutive numbers in the order of their
//! symbols. Nearly all text has codes of up to [`FAST_BITS`] bits, which one look-up tells.

/// Length of the code of each symbol in bits; the last is the end of the string.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30, //
];

const SYMBOLS: usize = 257;
const END: u16 = 256;
const MAX_BITS: usize = 30;
const FAST_BITS: u32 = 10;

/// The code in the order of its lengths.
struct Code {
    /// Symbols ordered by length, then by value.
    symbols: [u16; SYMBOLS],
    /// Of each length: the first code, how many there are, and where their symbols begin.
    first: [u32; MAX_BITS + 1],
    count: [u32; MAX_BITS + 1],
    start: [u16; MAX_BITS + 1],
    /// For the next [`FAST_BITS`] bits the symbol and, in the low four bits, the length of its code; 0 if it is longer.
    fast: [u16; 1 << FAST_BITS],
}

static CODE: Code = Code::new();

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            symbols: [0; SYMBOLS],
            first: [0; MAX_BITS + 1],
            count: [0; MAX_BITS + 1],
            start: [0; MAX_BITS + 1],
            fast: [0; 1 << FAST_BITS],
        };
        let mut next = 0;
        let mut placed = 0;
        let mut bits = 1;
        while bits <= MAX_BITS {
            next <<= 1;
            code.first[bits] = next;
            code.start[bits] = placed;
            let mut symbol = 0;
            while symbol < SYMBOLS {
                if LENGTHS[symbol] as usize == bits {
                    code.symbols[placed as usize] = symbol as u16;
                    if bits <= FAST_BITS as usize {
                        let free = FAST_BITS as usize - bits;
                        let mut low = 0;
                        while low < 1 << free {
                            code.fast[((next as usize) << free) + low] = (symbol as u16) << 4 | bits as u16;
                            low += 1;
                        }
                    }
                    next += 1;
                    placed += 1;
                    code.count[bits] += 1;
                }
                symbol += 1;
            }
            bits += 1;
        }
        code
    }

    /// Symbol and length of the code that `window` begins with, if it is longer than [`FAST_BITS`].
    fn long(&self, window: u32) -> Option<(u16, u32)> {
        for bits in FAST_BITS as usize + 1..=MAX_BITS {
            let offset = (window >> (32 - bits)).wrapping_sub(self.first[bits]);
            if offset < self.count[bits] {
                let at = usize::from(self.start[bits]) + offset as usize;
                return Some((*self.symbols.get(at)?, bits as u32));
            }
        }
        None
    }
}

/// Appends the text of `coded` to `out`. `None` if the end symbol stands in it, or its padding is not the beginning of
/// the end symbol or is a byte or longer (section 5.2).
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    // No code is shorter than 5 bits.
    out.reserve(coded.len() * 8 / 5);
    let mut input = coded.iter();
    // The low `have` bits of `held` are still to be read.
    let (mut held, mut have) = (0u64, 0u32);
    loop {
        while have <= 56
            && let Some(&byte) = input.next()
        {
            held = held << 8 | u64::from(byte);
            have += 8;
        }
        // The next 32 bits, with ones behind the end.
        let window = if have >= 32 {
            (held >> (have - 32)) as u32
        } else {
            ((held << (32 - have)) as u32) | u32::MAX.checked_shr(have).unwrap_or(0)
        };
        if have < 8 && window == u32::MAX {
            return Some(());
        }
        let fast = CODE.fast[(window >> (32 - FAST_BITS)) as usize];
        let (symbol, bits) = match fast {
            0 => CODE.long(window)?,
            _ => (fast >> 4, u32::from(fast & 0xf)),
        };
        if symbol == END || bits > have {
            return None;
        }
        out.push(symbol as u8);
        have -= bits;
    }
}

/// Appends the code of `text` to `out`.
#[cfg(test)]
pub(in crate::http::h2) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut held, mut have) = (0u64, 0u32);
    let mut put = |code: u32, bits: u32, out: &mut Vec<u8>| {
        held = held << bits | u64::from(code);
        have += bits;
        while have >= 8 {
            have -= 8;
            out.push((held >> have) as u8);
        }
        have
    };
    let mut left = 0;
    for &byte in text {
        let bits = usize::from(LENGTHS[usize::from(byte)]);
        let start = usize::from(CODE.start[bits]);
        let place = CODE.symbols[start..].iter().position(|&symbol| symbol == u16::from(byte)).unwrap();
        left = put(CODE.first[bits] + place as u32, bits as u32, out);
    }
    if left > 0 {
        put((1 << (8 - left)) - 1, 8 - left, out);
    }
}
