// SPDX-License-Identifier: GPL-2.0

//! The contents that a power cut may leave on a disk: all that was written before the last flush,
//! and of what was written after it any part, in units of a sector.

use crate::disk::{Request, SECTOR};
use bow_random::Random;

/// Share of what was written since the last flush that is there after a power cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrived {
    /// Nothing.
    Nothing,
    /// All.
    All,
    /// Any of the writes, each as a whole.
    Writes,
    /// Any of the sectors.
    Sectors,
}

/// Returns what a disk that held `base` holds if power fails after `prefix`.
pub fn after(base: &[u8], prefix: &[Request], arrived: Arrived, random: &mut Random) -> Vec<u8> {
    let mut data = base.to_vec();
    let flushed = prefix
        .iter()
        .rposition(|request| *request == Request::Flush)
        .unwrap_or(0);

    for (index, request) in prefix.iter().enumerate() {
        let Request::Write { sector, data: new } = request else {
            continue;
        };
        let all = match arrived {
            _ if index < flushed => true,
            Arrived::All => true,
            Arrived::Nothing => continue,
            Arrived::Writes if random.once_in(2) => true,
            Arrived::Writes => continue,
            Arrived::Sectors => false,
        };

        for (offset, new) in new.chunks(SECTOR).enumerate() {
            if all || random.once_in(2) {
                let start = (*sector as usize + offset) * SECTOR;

                data[start..start + new.len()].copy_from_slice(new);
            }
        }
    }
    data
}

/// Calls `state` with what a power cut may leave: for each number of requests that have reached
/// the disk, with nothing and all of what was written since the last flush, and with
/// `subsets` random parts of it. Also passes the number of requests and what arrived, to tell
/// which state failed. Returns how many states there were.
pub fn states(
    base: &[u8],
    requests: &[Request],
    subsets: usize,
    random: &mut Random,
    mut state: impl FnMut(Vec<u8>, &str),
) -> usize {
    let mut count = 0;

    for end in 0..=requests.len() {
        let mut arrived = vec![Arrived::Nothing];

        if matches!(requests[..end].last(), Some(Request::Write { .. })) {
            arrived.push(Arrived::All);
            for index in 0..subsets {
                arrived.push(if index % 2 == 0 {
                    Arrived::Sectors
                } else {
                    Arrived::Writes
                });
            }
        }
        for arrived in arrived {
            let seed = random.clone();
            let data = after(base, &requests[..end], arrived, random);

            state(data, &format!("{end} requests, {arrived:?}, {seed:?}"));
            count += 1;
        }
    }
    count
}
