// SPDX-License-Identifier: GPL-2.0

//! Marks in sectors.

use proptest::prelude::*;

use crate::decisions::low_water::LowWater;

proptest! {
    #[test]
    fn a_share_is_within_a_hundred_sectors(free in any::<u64>(), share in 0..=100_u8) {
        let exact = u128::from(free) * u128::from(share) / 100;
        let sectors = u128::from(LowWater::PerCent(share).sectors(free));

        prop_assert!(sectors <= exact && exact - sectors < 100);
    }

    #[test]
    fn bytes_are_rounded_up(bytes in 0..u64::MAX / 2, free in any::<u64>()) {
        let sectors = LowWater::Bytes(bytes).sectors(free);

        prop_assert!(u128::from(sectors) * 512 >= u128::from(bytes));
        prop_assert!(sectors == 0 || (sectors - 1) * 512 < bytes);
    }

    #[test]
    fn a_mark_is_read_as_it_is_written(raw in any::<u64>()) {
        let mark = LowWater::from_raw(raw);
        let is_share = matches!(mark, LowWater::PerCent(share) if share > 100);

        prop_assert_eq!(
            LowWater::from_word(mark.to_string().as_bytes()),
            (!is_share).then_some(mark)
        );
    }
}
