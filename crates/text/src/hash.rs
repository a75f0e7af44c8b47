//! A hash of bytes that is the same on every machine and in every process.

/// The 64-bit FNV-1a hash of Fowler, Noll and Vo (offset basis and prime of the published parameters).
///
/// ```
/// assert_eq!(eas_text::hash::fnv1a(b""), 0xcbf2_9ce4_8422_2325);
/// assert_eq!(eas_text::hash::fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
/// ```
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::fnv1a;

    #[test]
    fn published_test_vectors() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
