//! Bodies of pings are made smaller before they are sealed (what is sealed looks like noise to every disk and wire): the
//! ends of logs that jobs send are half as long afterwards, and a byte that is not written costs nothing to flush.
//!
//! One byte tells how the rest is to be read: [`AS_IT_CAME`], or [`LZ4`] with the length of the text (4 bytes, the lowest
//! first) and one block in the [LZ4 block format](https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md).

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};

const AS_IT_CAME: u8 = 0;
const LZ4: u8 = 1;

/// Bytes of the mark and the length before a block.
const HEAD: usize = 5;
/// Shorter bodies hardly get smaller, and are not tried.
const WORTH_TRYING: usize = 64;
/// No text can be longer than so many times its block (the block format gives at most 255 bytes for one), so a length
/// beyond it is never believed.
const LARGEST_GAIN: usize = 255;

/// How many bytes a body has at most when it is packed.
pub(crate) fn packed_bytes(body: usize) -> usize {
    1 + body
}

/// Packs bodies one after the other, in memory that it keeps.
#[derive(Default)]
pub(crate) struct Packer {
    table: Option<Box<CompressTable>>,
    packed: Vec<u8>,
}

impl Packer {
    /// The body as it is sealed; never longer than [`packed_bytes`].
    pub(crate) fn pack(&mut self, body: &[u8]) -> &[u8] {
        self.packed.clear();
        if let Some(block) = self.block(body) {
            self.packed.truncate(HEAD + block);
        } else {
            self.packed.clear();
            self.packed.push(AS_IT_CAME);
            self.packed.extend_from_slice(body);
        }
        &self.packed
    }

    /// Writes head and block, and gives the bytes of the block; `None` if that would not be shorter.
    fn block(&mut self, body: &[u8]) -> Option<usize> {
        let length = u32::try_from(body.len()).ok()?;
        if body.len() < WORTH_TRYING {
            return None;
        }
        self.packed.push(LZ4);
        self.packed.extend_from_slice(&length.to_le_bytes());
        self.packed.resize(HEAD + get_maximum_output_size(body.len()), 0);
        let table = self.table.get_or_insert_default();
        let block = compress_into_with_table(body, &mut self.packed[HEAD..], table).ok()?;
        (HEAD + block < packed_bytes(body.len())).then_some(block)
    }
}

/// The body that was packed; `None` if these bytes are none.
pub(crate) fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let (mark, rest) = packed.split_first()?;
    match *mark {
        AS_IT_CAME => Some(rest.to_vec()),
        LZ4 => {
            let (length, block) = rest.split_at_checked(HEAD - 1)?;
            let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
            if length / LARGEST_GAIN > block.len() {
                return None;
            }
            let mut body = vec![0; length];
            let written = decompress_into(block, &mut body).ok()?;
            (written == length).then_some(body)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use allswell_core::chance::Dice;

    use super::*;

    fn noise(bytes: usize) -> Vec<u8> {
        let mut dice = Dice::from_number(bytes as u64);
        (0..bytes).map(|_| dice.below(256) as u8).collect()
    }

    #[test]
    fn every_body_comes_back_and_none_grows_by_more_than_its_mark() {
        let mut packer = Packer::default();
        for bytes in [0, 1, 63, 64, 65, 1_000, 10_000, 70_000, 1_000_000] {
            for body in [
                noise(bytes),
                vec![b'a'; bytes],
                b"12:00 done\n".iter().copied().cycle().take(bytes).collect(),
            ] {
                let packed = packer.pack(&body);
                assert!(packed.len() <= packed_bytes(bytes), "{bytes}");
                assert_eq!(unpack(packed).as_deref(), Some(body.as_slice()), "{bytes}");
            }
        }
    }

    #[test]
    fn a_log_gets_shorter_and_what_is_short_or_noise_stays_as_it_came() {
        let mut packer = Packer::default();
        let log: String = (0..30)
            .map(|line| format!("2026-11-23T02:00:{line:02}Z INFO backup: chunk {line} is new\n"))
            .collect();
        assert!(packer.pack(log.as_bytes()).len() < log.len() / 2);
        for body in [b"ok".to_vec(), noise(500)] {
            assert_eq!(packer.pack(&body), [&[AS_IT_CAME], body.as_slice()].concat());
        }
    }

    #[test]
    fn what_is_no_packed_body_is_told_and_takes_no_memory() {
        let mut packer = Packer::default();
        let whole = packer.pack(&[b'a'; 500]).to_vec();
        let with_length = |length: u32| {
            let mut packed = whole.clone();
            packed[1..HEAD].copy_from_slice(&length.to_le_bytes());
            packed
        };
        for bad in [
            Vec::new(),
            vec![2, 1, 2, 3],
            whole[..3].to_vec(),
            whole[..whole.len() - 1].to_vec(),
            with_length(499),
            with_length(501),
            with_length(u32::MAX),
            vec![LZ4, 0xff, 0xff, 0xff, 0xff, 1, 2, 3],
        ] {
            assert_eq!(unpack(&bad), None, "{bad:?}");
        }
    }
}
