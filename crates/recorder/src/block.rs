//! The memory that audio waits in: blocks of half a second, which go to the store without being copied and come back.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;

use crate::counter::Counters;

/// Bytes of a block: 500 ms. Small enough that a stream wastes little in its last one, large enough that a segment has
/// few.
pub(crate) const BLOCK_BYTES: usize = 4_000;

/// Blocks that are kept for the next stream that needs one; what comes back beyond that is freed (2 MB).
const SPARE_BLOCKS_MAX: usize = 500;

type Memory = Box<[u8; BLOCK_BYTES]>;

/// Where blocks come from and go back to: one per recorder, shared by all streams.
#[derive(Debug)]
pub(crate) struct Pool {
    spare: ArrayQueue<Memory>,
    counters: Arc<Counters>,
}

impl Pool {
    pub(crate) fn new(counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self { spare: ArrayQueue::new(SPARE_BLOCKS_MAX), counters })
    }

    /// An empty block.
    pub(crate) fn take(self: &Arc<Self>) -> Block {
        let memory = self.spare.pop().unwrap_or_else(|| Box::new([0; BLOCK_BYTES]));
        Block { memory: Some(memory), filled: 0, pool: Arc::clone(self) }
    }
}

/// A block that is being filled.
#[derive(Debug)]
pub(crate) struct Block {
    /// Gone only while the block is dropped.
    memory: Option<Memory>,
    filled: usize,
    pool: Arc<Pool>,
}

impl Block {
    /// Copies as many bytes as there is room for, and gives back the rest.
    pub(crate) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let room = self.memory.as_mut().map_or(&mut [][..], |memory| &mut memory[self.filled..]);
        let (now, rest) = bytes.split_at(bytes.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        self.filled += now.len();
        rest
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.filled == BLOCK_BYTES
    }

    /// What was filled in, as bytes that can be shared. The memory goes back to the pool with the last of them.
    pub(crate) fn seal(self) -> Bytes {
        self.pool.counters.holds(self.filled as u64);
        Bytes::from_owner(Sealed(self))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            // A full pool frees it.
            let _ = self.pool.spare.push(memory);
        }
    }
}

struct Sealed(Block);

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        self.0.memory.as_ref().map_or(&[], |memory| &memory[..self.0.filled])
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.0.pool.counters.releases(self.0.filled as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_takes_what_fits_and_comes_back_when_the_last_reader_is_done() {
        let pool = Pool::new(Arc::default());
        let mut block = pool.take();
        let rest = block.fill(&[7; BLOCK_BYTES + 3]);
        assert_eq!((rest.len(), block.is_full()), (3, true));
        let bytes = block.seal();
        let again = bytes.clone();
        assert_eq!(pool.counters.ring_samples(), BLOCK_BYTES as u64);
        drop(bytes);
        assert_eq!((again.len(), pool.spare.len()), (BLOCK_BYTES, 0));
        drop(again);
        assert_eq!((pool.counters.ring_samples(), pool.spare.len()), (0, 1));
    }

    #[test]
    fn a_block_used_again_shows_nothing_of_its_former_content() {
        let pool = Pool::new(Arc::default());
        let mut block = pool.take();
        block.fill(b"something said before");
        drop(block);
        let mut block = pool.take();
        block.fill(b"now");
        assert_eq!(&block.seal()[..], b"now");
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_limit() {
        let pool = Pool::new(Arc::default());
        let blocks: Vec<_> = (0..SPARE_BLOCKS_MAX + 10).map(|_| pool.take()).collect();
        drop(blocks);
        assert_eq!(pool.spare.len(), SPARE_BLOCKS_MAX);
    }
}
