// SPDX-License-Identifier: GPL-2.0

//! The log's checksum.

/// Returns the raw CRC-32 of `data` from `seed`, without inversion before or after, as the log has
/// it.
///
/// ```
/// // What other tools call the CRC-32 is this with both inversions.
/// assert_eq!(!bowctl::crc::crc32(!0, b"123456789"), 0xcbf4_3926);
/// ```
pub fn crc32(seed: u32, data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!seed);

    hasher.update(data);
    !hasher.finalize()
}
