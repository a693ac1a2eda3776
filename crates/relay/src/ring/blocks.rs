//! A byte queue that grows in blocks and gives them back: what the ring keeps its audio in.

use std::collections::VecDeque;

/// Size of a block: a stream whose app keeps up lives in one or two.
pub(crate) const BLOCK_BYTES: usize = 1024;

type Block = Box<[u8; BLOCK_BYTES]>;

/// A queue of bytes: appended behind, discarded in front, read anywhere.
#[derive(Debug)]
pub(crate) struct Blocks {
    filled: VecDeque<Block>,
    /// Emptied blocks, kept so that steady audio does not allocate.
    spare: Vec<Block>,
    spare_max: usize,
    /// Bytes of the first block that were discarded already.
    front: usize,
    len: usize,
}

impl Blocks {
    /// An empty queue without a block, which will keep up to `spare_bytes` of emptied blocks.
    pub(crate) const fn new(spare_bytes: usize) -> Self {
        Self {
            filled: VecDeque::new(),
            spare: Vec::new(),
            spare_max: spare_bytes.div_ceil(BLOCK_BYTES) + 1,
            front: 0,
            len: 0,
        }
    }

    /// Bytes held.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Blocks allocated, spare ones included.
    #[cfg(test)]
    pub(crate) fn allocated(&self) -> usize {
        self.filled.len() + self.spare.len()
    }

    /// Puts bytes behind the last one. Allocates only when neither the last block nor a spare one has room.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = self.front + self.len;
            let (index, offset) = (end / BLOCK_BYTES, end % BLOCK_BYTES);
            if index == self.filled.len() {
                self.filled.push_back(self.spare.pop().unwrap_or_else(|| Box::new([0; BLOCK_BYTES])));
            }
            let (fitting, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - offset));
            self.filled[index][offset..offset + fitting.len()].copy_from_slice(fitting);
            self.len += fitting.len();
            bytes = rest;
        }
    }

    /// Drops the first `count` bytes (all, when there are fewer) and takes back the blocks they filled.
    pub(crate) fn discard(&mut self, count: usize) {
        let count = count.min(self.len);
        self.len -= count;
        self.front += count;
        while self.front >= BLOCK_BYTES {
            self.front -= BLOCK_BYTES;
            self.retire();
        }
        if self.len == 0 {
            // Start again at a block's beginning, so that what follows needs as few blocks as can be.
            self.front = 0;
            while self.filled.len() > 1 {
                self.retire();
            }
        }
    }

    fn retire(&mut self) {
        if let Some(block) = self.filled.pop_front()
            && self.spare.len() < self.spare_max
        {
            self.spare.push(block);
        }
    }

    /// Gives back every block that holds nothing.
    pub(crate) fn release(&mut self) {
        self.spare = Vec::new();
        if self.len == 0 {
            self.filled = VecDeque::new();
            self.front = 0;
        }
    }

    /// Calls `sink` with the `count` bytes from `from` on, in order, in as many pieces as there are blocks.
    pub(crate) fn read(&self, from: usize, count: usize, mut sink: impl FnMut(&[u8])) {
        let end = self.front + (from + count).min(self.len);
        let mut at = self.front + from;
        while at < end {
            let (index, offset) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
            let piece = (end - at).min(BLOCK_BYTES - offset);
            sink(&self.filled[index][offset..offset + piece]);
            at += piece;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn all(blocks: &Blocks) -> Vec<u8> {
        let mut bytes = Vec::new();
        blocks.read(0, blocks.len(), |piece| bytes.extend_from_slice(piece));
        bytes
    }

    proptest! {
        #[test]
        fn it_holds_what_a_queue_of_bytes_would(steps in prop::collection::vec((0_usize..3_000, 0_usize..3_000), 1..60)) {
            let mut blocks = Blocks::new(2 * BLOCK_BYTES);
            let mut model = VecDeque::new();
            let mut next = 0_u8;
            for (append, discard) in steps {
                let bytes: Vec<u8> = (0..append).map(|_| { next = next.wrapping_add(1); next }).collect();
                blocks.append(&bytes);
                model.extend(bytes);
                prop_assert_eq!(all(&blocks), model.make_contiguous().to_vec());
                blocks.discard(discard);
                model.drain(..discard.min(model.len()));
                prop_assert_eq!(all(&blocks), model.make_contiguous().to_vec());
                prop_assert!(blocks.allocated() <= model.len() / BLOCK_BYTES + 2 + 3, "blocks are given back");
            }
        }
    }

    #[test]
    fn steady_audio_reuses_its_blocks() {
        let mut blocks = Blocks::new(0);
        blocks.append(&[7; 800]);
        blocks.append(&[7; 800]);
        for _ in 0..1_000 {
            blocks.discard(800);
            blocks.append(&[7; 800]);
            assert!(blocks.allocated() <= 3, "{}", blocks.allocated());
        }
        blocks.discard(1_600);
        blocks.release();
        assert_eq!(blocks.allocated(), 0);
    }
}
