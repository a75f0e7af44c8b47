//! [`Buffer`]: a growing array of plain numbers for data that is read at random, like the vectors and links of a graph.
//!
//! Its first element starts a cache line, so that a row of 64 bytes is one line and not two. Above a few megabytes the memory comes in
//! huge pages where the system grants them: with pages of 4 KiB nearly every random read also misses the table of page addresses.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Numbers of which every bit pattern is a value.
pub trait Plain: Copy + Send + Sync + fmt::Debug + 'static + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! plain {
    ($($number:ty),*) => {
        $(impl sealed::Sealed for $number {}
        impl Plain for $number {})*
    };
}
plain!(u8, i8, u16, u32, u64, f32);

/// Bytes from which a buffer asks for pages of its own.
const HUGE_FROM: usize = 4 << 20;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

enum Memory {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

/// A growing array whose first element is aligned to 64 bytes; large ones live in huge pages.
///
/// ```
/// use eas_tensor::buffer::Buffer;
///
/// let mut buffer = Buffer::new();
/// buffer.extend_from_slice(&[1.0f32, 2.0]);
/// buffer.resize(4, 7.0);
/// assert_eq!(buffer[..], [1.0, 2.0, 7.0, 7.0]);
/// ```
pub struct Buffer<T> {
    memory: Memory,
    len: usize,
    numbers: PhantomData<T>,
}

impl<T: Plain> Buffer<T> {
    /// An empty buffer, which holds no memory.
    pub fn new() -> Self {
        Self { memory: Memory::Lines(Vec::new()), len: 0, numbers: PhantomData }
    }

    /// An empty buffer with room for `count` numbers.
    pub fn with_capacity(count: usize) -> Self {
        let mut buffer = Self::new();
        buffer.reserve(count);
        buffer
    }

    /// Makes room for `more` numbers beyond those that are there.
    pub fn reserve(&mut self, more: usize) {
        let needed = (self.len + more) * size_of::<T>();
        let room = self.memory.bytes();
        if needed <= room {
            return;
        }
        let mut memory = Memory::zeroed(needed.max(room + room / 2));
        let used = self.len * size_of::<T>();
        memory.as_bytes_mut()[..used].copy_from_slice(&self.memory.as_bytes()[..used]);
        self.memory = memory;
    }

    /// Appends `numbers`.
    pub fn extend_from_slice(&mut self, numbers: &[T]) {
        self.reserve(numbers.len());
        let from = self.len;
        self.len += numbers.len();
        self[from..].copy_from_slice(numbers);
    }

    /// Makes the buffer `len` numbers long, with `value` in the new places.
    pub fn resize(&mut self, len: usize, value: T) {
        if len > self.len {
            self.reserve(len - self.len);
        }
        let from = std::mem::replace(&mut self.len, len);
        if from < len {
            self[from..].fill(value);
        }
    }
}

impl Memory {
    fn zeroed(bytes: usize) -> Self {
        // Miri has no advice on pages.
        if bytes >= HUGE_FROM
            && !cfg!(miri)
            && let Ok(pages) = MmapMut::map_anon(bytes)
        {
            // Advice only: where it isn't taken the pages are small and everything else is the same.
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage);
            return Self::Pages(pages);
        }
        Self::Lines(vec![Line([0; 64]); bytes.div_ceil(64)])
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Lines(lines) => lines.len() * 64,
            Self::Pages(pages) => pages.len(),
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            // SAFETY: `Line` is 64 bytes without padding, all initialized.
            Self::Lines(lines) => unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 64) },
            Self::Pages(pages) => pages,
        }
    }

    fn as_bytes_mut(&mut self) -> &mut [u8] {
        match self {
            // SAFETY: as above, and the lines are borrowed for as long as the bytes.
            Self::Lines(lines) => unsafe {
                std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 64)
            },
            Self::Pages(pages) => pages,
        }
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        let bytes = self.memory.as_bytes();
        debug_assert!(self.len * size_of::<T>() <= bytes.len());
        // SAFETY: `len` numbers fit (`reserve` saw to it), they start on a cache line or a page, every byte is initialized, and any
        // bytes make a `Plain` number.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        let len = self.len;
        let bytes = self.memory.as_bytes_mut();
        debug_assert!(len * size_of::<T>() <= bytes.len());
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), len) }
    }
}

impl<T: Plain> Default for Buffer<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Plain> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.len);
        copy.extend_from_slice(self);
        copy
    }
}

impl<T: Plain> From<&[T]> for Buffer<T> {
    fn from(numbers: &[T]) -> Self {
        let mut buffer = Self::with_capacity(numbers.len());
        buffer.extend_from_slice(numbers);
        buffer
    }
}

impl<T: Plain> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_like_a_vector_across_the_border_to_pages() {
        let mut buffer = Buffer::<u32>::new();
        let mut vector = Vec::new();
        let (rounds, step) = if cfg!(miri) { (20, 53) } else { (400, 5_003) };
        for round in 0..rounds {
            let chunk: Vec<u32> = (0..step).map(|i| round * 7 + i).collect();
            buffer.extend_from_slice(&chunk);
            vector.extend_from_slice(&chunk);
        }
        assert!(cfg!(miri) || buffer.len() * 4 > HUGE_FROM);
        assert_eq!(buffer[..], vector[..]);
        buffer.resize(3, 0);
        buffer.resize(6, 9);
        assert_eq!(buffer[..], [0, 1, 2, 9, 9, 9]);
        assert_eq!(buffer.clone()[..], buffer[..]);
        buffer[5] = 1;
        assert_eq!(format!("{buffer:?}"), "[0, 1, 2, 9, 9, 1]");
    }

    #[test]
    fn starts_on_a_cache_line() {
        for count in [1usize, 100, if cfg!(miri) { 3_000 } else { 3_000_000 }] {
            let mut buffer = Buffer::<f32>::new();
            buffer.resize(count, 1.0);
            assert_eq!((buffer.as_ptr() as usize % 64, buffer.len()), (0, count));
        }
        assert!(Buffer::<u8>::default().is_empty());
    }
}
