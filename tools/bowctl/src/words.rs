// SPDX-License-Identifier: GPL-2.0

//! Figures in words, and as a bar.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use bow_decisions::log::SECTOR_SIZE;
use indicatif::HumanBytes;

/// Width of a bar in characters, without its brackets.
const BAR: usize = 40;

/// Formats a UUID as it is usually written.
pub fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::new();

    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Formats a number of seconds by its two largest units.
pub fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);

    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Returns the seconds from `time`, in seconds since the epoch, to now; `None` if that is yet to
/// come, since a clock has been wrong then.
pub fn age(time: u64) -> Option<u64> {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()?
        .as_secs()
        .checked_sub(time)
}

/// Formats a number of bytes.
pub fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Converts sectors to bytes.
pub fn to_bytes(sectors: u64) -> u64 {
    sectors.saturating_mul(SECTOR_SIZE as u64)
}

/// Draws a bar of parts, a character for each. A part that is not 0 is seen, and together they fill
/// the bar.
pub fn bar(parts: &[(char, u64)]) -> String {
    let total = parts
        .iter()
        .map(|(_, part)| u128::from(*part))
        .sum::<u128>()
        .max(1);
    let mut cells: Vec<usize> = parts
        .iter()
        .map(|(_, part)| {
            let cells = (u128::from(*part) * BAR as u128 / total) as usize;

            cells.max(usize::from(*part > 0))
        })
        .collect();

    // What rounding has left over or taken too much is the largest part's.
    let largest = (0..cells.len()).max_by_key(|index| cells[*index]);
    if let Some(largest) = largest {
        let others = cells.iter().sum::<usize>() - cells[largest];

        cells[largest] = BAR.saturating_sub(others);
    }
    let line: String = parts
        .iter()
        .zip(cells)
        .flat_map(|((mark, _), cells)| std::iter::repeat_n(*mark, cells))
        .collect();
    format!("[{line}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (7980, "2 h 13 min"),
            (86_400, "1 d 0 h"),
            (100_000, "1 d 3 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn bars() {
        let count = |bar: &str, mark| bar.chars().filter(|found| *found == mark).count();

        for parts in [
            [0, 0, 0],
            [0, 0, 7],
            [1, 1, 1_000_000],
            [u64::MAX, u64::MAX, 1],
            [3, 5, 7],
        ] {
            let bar = bar(&[('#', parts[0]), ('=', parts[1]), ('.', parts[2])]);

            assert_eq!(bar.len(), BAR + 2, "{bar}");
            for (mark, part) in ['#', '=', '.'].into_iter().zip(parts) {
                assert!(part == 0 || count(&bar, mark) > 0, "{bar}");
            }
        }
        let half = bar(&[('#', 500), ('.', 500)]);
        assert_eq!(count(&half, '#'), BAR / 2);
    }
}
