/// Values in places that stay: growing moves none, so that one insertion among a million costs what the first did.
#[derive(Debug, Clone)]
pub(super) struct Arena<T> {
    blocks: Vec<Vec<T>>,
    /// Places whose value is of no use any more.
    free: Vec<u32>,
}

/// No place.
pub(super) const NOWHERE: u32 = u32::MAX;

const BLOCK_BITS: u32 = 12;
const BLOCK: usize = 1 << BLOCK_BITS;

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), free: Vec::new() }
    }
}

impl<T: Copy> Arena<T> {
    /// Past 2³²-1 values the last place is used again; a ledger has no thousandth of that.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(place) = self.free.pop() {
            *self.at_mut(place) = value;
            return place;
        }
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let block = self.blocks.len() - 1;
        self.blocks[block].push(value);
        u32::try_from((block << BLOCK_BITS) + self.blocks[block].len() - 1).unwrap_or(NOWHERE - 1)
    }

    pub(super) fn remove(&mut self, place: u32) -> T {
        self.free.push(place);
        *self.at(place)
    }

    pub(super) fn at(&self, place: u32) -> &T {
        &self.blocks[(place >> BLOCK_BITS) as usize][place as usize & (BLOCK - 1)]
    }

    pub(super) fn at_mut(&mut self, place: u32) -> &mut T {
        &mut self.blocks[(place >> BLOCK_BITS) as usize][place as usize & (BLOCK - 1)]
    }

    /// What it takes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * BLOCK * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }

    /// Values in use.
    pub(super) fn len(&self) -> usize {
        let made = self.blocks.last().map_or(0, |last| (self.blocks.len() - 1) * BLOCK + last.len());
        made - self.free.len()
    }
}
