//! The buffer in which a value's JSON is written before it goes to its column whole.
//!
//! All of it is initialised, so that a word is stored with one check and without a call.

use super::word;

/// The first `len` bytes count; those behind them are room.
#[derive(Default)]
pub(crate) struct Scratch {
    bytes: Vec<u8>,
    len: usize,
}

/// Room behind what is asked for, so that a short text is stored as a whole word.
const SLACK: usize = 8;

impl Scratch {
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn written(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// At least `more + SLACK` bytes behind what is written.
    #[inline]
    fn room(&mut self, more: usize) -> &mut [u8] {
        if self.bytes.len() - self.len < more + SLACK {
            self.grow(more + SLACK);
        }
        &mut self.bytes[self.len..]
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, more: usize) {
        let len = (self.len + more).max(2 * self.bytes.len()).max(1 << 10);
        self.bytes.resize(len, 0);
    }

    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        self.room(1)[0] = byte;
        self.len += 1;
    }

    #[inline]
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Bytes of a known number are stored without a call.
    #[inline]
    pub(super) fn literal<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.room(N)[..N].copy_from_slice(bytes);
        self.len += N;
    }

    /// Text between quotes.
    #[inline]
    pub(super) fn text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let room = self.room(bytes.len() + 2);
        room[0] = b'"';
        let plain = copy_plain(bytes, &mut room[1..]);
        if plain < bytes.len() {
            return self.text_with_escapes(bytes, plain);
        }
        room[bytes.len() + 1] = b'"';
        self.len += bytes.len() + 2;
    }

    /// A field's name and a colon. The name is known when this is compiled: inlined, a few words are stored and that is all.
    #[inline(always)]
    pub(super) fn name(&mut self, name: &'static str) {
        let bytes = name.as_bytes();
        let room = self.room(bytes.len() + 3);
        room[0] = b'"';
        let plain = copy_plain(bytes, &mut room[1..]);
        if plain < bytes.len() {
            self.text_with_escapes(bytes, plain);
            return self.push(b':');
        }
        room[bytes.len() + 1..][..2].copy_from_slice(b"\":");
        self.len += bytes.len() + 3;
    }

    /// Behind an open quote and so many bytes of plain text, not counted yet.
    #[inline(never)]
    pub(super) fn text_with_escapes(&mut self, bytes: &[u8], plain: usize) {
        self.len += 1 + plain;
        self.escaped(&bytes[plain..]);
        self.push(b'"');
    }

    pub(super) fn escaped(&mut self, mut bytes: &[u8]) {
        const ESCAPE_MAX: usize = 6;
        loop {
            let room = self.room(bytes.len() + ESCAPE_MAX);
            let plain = copy_plain(bytes, room);
            let Some(&byte) = bytes.get(plain) else {
                self.len += plain;
                return;
            };
            let (escape, len) = escape_of(byte);
            room[plain..plain + 8].copy_from_slice(&escape);
            self.len += plain + len;
            bytes = &bytes[plain + 1..];
        }
    }

    #[inline]
    pub(super) fn number(&mut self, number: u64) {
        const EIGHT: u64 = 100_000_000;
        let (first, rest) = if number < EIGHT { (number, None) } else { (number / EIGHT, Some(number % EIGHT)) };
        if first >= EIGHT {
            // Not less than 10^16: at most four digits before two times eight.
            return self.long_number(first / EIGHT, [(first % EIGHT) as u32, rest.unwrap_or_default() as u32]);
        }
        let (digits, mut len) = word::few_digits(first as u32);
        let room = self.room(16);
        room[..8].copy_from_slice(&digits.to_le_bytes());
        if let Some(rest) = rest {
            room[len..len + 8].copy_from_slice(&word::eight_digits(rest as u32).to_le_bytes());
            len += 8;
        }
        self.len += len;
    }

    #[cold]
    fn long_number(&mut self, first: u64, eights: [u32; 2]) {
        self.number(first);
        eights.into_iter().for_each(|eight| self.literal(&word::eight_digits(eight).to_le_bytes()));
    }

    #[inline]
    pub(super) fn signed(&mut self, number: i64) {
        if number < 0 {
            self.push(b'-');
        }
        self.number(number.unsigned_abs());
    }
}

/// Copies text word by word, until something in it does not stand for itself, and tells how much does. There must be room
/// for one word more.
#[inline(always)]
fn copy_plain(bytes: &[u8], room: &mut [u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(word::of) {
        room[at..at + 8].copy_from_slice(&word.to_le_bytes());
        let special = word::special(word);
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = &bytes[at..];
    let word = word::of_few(rest);
    room[at..at + 8].copy_from_slice(&word.to_le_bytes());
    let special = word::special_of_few(word, rest.len());
    if special == 0 { bytes.len() } else { at + special.trailing_zeros() as usize / 8 }
}

/// What stands for a byte that does not stand for itself, and its length.
fn escape_of(byte: u8) -> ([u8; 8], usize) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0C => b'f',
        b'\r' => b'r',
        _ => {
            let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
            return ([b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15), 0, 0], 6);
        }
    };
    ([b'\\', short, 0, 0, 0, 0, 0, 0], 2)
}
