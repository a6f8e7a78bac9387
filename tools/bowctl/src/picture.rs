// SPDX-License-Identifier: GPL-2.0

//! A device as a picture: cells of the same size, in rows, for a terminal or as SVG.

use std::fmt::Write as _;

use crate::survey::{Extent, Kind};
use crate::words::{bytes, to_bytes};

/// Largest number of rows in a terminal.
const ROWS: u64 = 16;
/// Cells in a row of an SVG file, and rows of one.
const SVG_COLUMNS: u64 = 128;
const SVG_ROWS: u64 = 48;
/// Width and height of a cell in an SVG file.
const CELL: u64 = 8;

/// Cell of a picture: a part of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Kind that the cell is drawn as.
    pub kind: Kind,
    /// Set if at least half of the cell is of this kind.
    pub half: bool,
}

/// Returns whether a kind is background: a cell is drawn as it only if there is nothing else in it,
/// so that little that has changed on a large device is seen.
const fn is_background(kind: Kind) -> bool {
    matches!(kind, Kind::Unchanged | Kind::Free | Kind::Unknown)
}

/// Returns the number of sectors that a cell stands for if there are at most `cells`: a power of
/// two, and at least a page.
fn cell_sectors(sectors: u64, cells: u64) -> u64 {
    sectors.div_ceil(cells.max(1)).next_power_of_two().max(8)
}

/// Returns the cells of a device, of `size` sectors each. The last may stand for fewer.
pub fn cells(extents: &[Extent], size: u64) -> Vec<Cell> {
    let sectors = extents.last().map_or(0, |extent| extent.sectors.end);
    let mut rest = extents;

    (0..sectors.div_ceil(size))
        .map(|index| {
            let start = index * size;
            let end = (start + size).min(sectors);
            let mut shares = [0; Kind::ALL.len()];

            while let Some((extent, others)) = rest.split_first() {
                let part = start.max(extent.sectors.start)..end.min(extent.sectors.end);

                shares[extent.kind as usize] += part.end - part.start;
                // The next cell begins with what is left of this extent.
                if extent.sectors.end > end {
                    break;
                }
                rest = others;
                if extent.sectors.end == end {
                    break;
                }
            }
            cell(&shares, end - start)
        })
        .collect()
}

/// Returns the cell of `size` sectors that has a number of sectors of each kind.
fn cell(shares: &[u64; Kind::ALL.len()], size: u64) -> Cell {
    let largest = |background| {
        Kind::ALL
            .into_iter()
            .filter(|kind| is_background(*kind) == background && shares[*kind as usize] > 0)
            .max_by_key(|kind| shares[*kind as usize])
    };
    let kind = largest(false).or(largest(true)).unwrap_or(Kind::Unknown);

    Cell {
        kind,
        half: is_background(kind) || shares[kind as usize] * 2 >= size,
    }
}

/// Returns the letter of a kind.
const fn letter(kind: Kind) -> char {
    match kind {
        Kind::Unchanged => '.',
        Kind::Changed => 'C',
        Kind::Free => '_',
        Kind::Granted => 'G',
        Kind::Backup => 'B',
        Kind::Log => 'L',
        Kind::Unknown => '?',
    }
}

/// Returns the code of a colour of the terminal's own palette; none for the background.
const fn terminal_colour(kind: Kind) -> Option<u8> {
    match kind {
        Kind::Unchanged | Kind::Unknown => None,
        Kind::Changed => Some(31),
        Kind::Free => Some(90),
        Kind::Granted => Some(32),
        Kind::Backup => Some(34),
        Kind::Log => Some(35),
    }
}

/// Returns the meaning of a kind.
pub const fn meaning(kind: Kind) -> &'static str {
    match kind {
        Kind::Unchanged => "as at the checkpoint",
        Kind::Changed => "backed up: written since, or next to what was",
        Kind::Free => "was free, and still takes backups",
        Kind::Granted => "was free, and may hold new data",
        Kind::Backup => "holds backups",
        Kind::Log => "holds the log",
        Kind::Unknown => "not in the log: unchanged, or was free",
    }
}

/// Kinds that a device has, with their sectors.
fn totals(extents: &[Extent]) -> impl Iterator<Item = (Kind, u64)> + '_ {
    Kind::ALL.into_iter().filter_map(|kind| {
        let total = extents
            .iter()
            .filter(|extent| extent.kind == kind)
            .map(|extent| extent.sectors.end - extent.sectors.start)
            .sum();

        (total > 0).then_some((kind, total))
    })
}

/// Draws a device for a terminal that is `width` characters wide. A small letter stands for a cell
/// of which less than half is of its kind.
pub fn terminal(extents: &[Extent], width: usize, colours: bool) -> String {
    let sectors = extents.last().map_or(0, |extent| extent.sectors.end);
    let columns = width.max(16) - 1;
    let size = cell_sectors(sectors, columns as u64 * ROWS);
    let mut text = String::new();
    let paint = |text: &mut String, kind, letters: &str| match terminal_colour(kind) {
        Some(colour) if colours => {
            let _ = write!(text, "\x1b[{colour}m{letters}\x1b[0m");
        }
        _ => text.push_str(letters),
    };

    for row in cells(extents, size).chunks(columns) {
        for run in row.chunk_by(|a, b| a.kind == b.kind) {
            let letters: String = run
                .iter()
                .map(|cell| match cell.half {
                    true => letter(cell.kind),
                    false => letter(cell.kind).to_ascii_lowercase(),
                })
                .collect();

            paint(&mut text, run[0].kind, &letters);
        }
        text.push('\n');
    }
    for (kind, total) in totals(extents) {
        text.push_str("  ");
        paint(&mut text, kind, &letter(kind).to_string());
        let _ = writeln!(
            text,
            " {:<10} {:>12}  {}",
            kind.word(),
            bytes(to_bytes(total)),
            meaning(kind)
        );
    }
    let _ = writeln!(
        text,
        "  A letter is {}; a small one if less than half of it is of that kind.",
        bytes(to_bytes(size))
    );
    text
}

const STYLE: &str = "\
<style>
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .part { opacity: 0.55 }
  .unchanged { fill: #d0d7de }
  .unknown { fill: #d0d7de }
  .free { fill: #f0f3f6 }
  .changed { fill: #cf3f36 }
  .granted { fill: #3c9a4b }
  .backup { fill: #0f7bb5 }
  .log { fill: #8250df }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .unchanged { fill: #484f58 }
    .unknown { fill: #484f58 }
    .free { fill: #21262d }
    .changed { fill: #f0695f }
    .granted { fill: #57b866 }
    .backup { fill: #3fa7e0 }
    .log { fill: #a685f0 }
  }
</style>
";

/// Draws a device as an SVG file.
pub fn svg(extents: &[Extent], title: &str) -> String {
    let sectors = extents.last().map_or(0, |extent| extent.sectors.end);
    let size = cell_sectors(sectors, SVG_COLUMNS * SVG_ROWS);
    let cells = cells(extents, size);
    let totals: Vec<_> = totals(extents).collect();
    let top = 32;
    let rows = cells.len().div_ceil(SVG_COLUMNS as usize) as u64;
    let legend = top + rows * CELL + 12;
    let (width, height) = (
        SVG_COLUMNS * CELL + 16,
        legend + 20 * (totals.len() as u64 + 1),
    );
    let title = escape(title);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n{STYLE}\
         <text x=\"8\" y=\"20\">{title}</text>\n"
    );

    for (row, cells) in cells.chunks(SVG_COLUMNS as usize).enumerate() {
        let mut column = 0;

        for run in cells.chunk_by(|a, b| a == b) {
            let _ = writeln!(
                text,
                "<rect class=\"{}{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
                run[0].kind.word(),
                if run[0].half { "" } else { " part" },
                8 + column * CELL,
                top + row as u64 * CELL,
                run.len() as u64 * CELL,
                CELL - 1
            );
            column += run.len() as u64;
        }
    }
    for (line, (kind, total)) in totals.into_iter().enumerate() {
        let y = legend + 20 * line as u64;

        let _ = writeln!(
            text,
            "<rect class=\"{0}\" x=\"8\" y=\"{y}\" width=\"11\" height=\"11\"/>\
             <text x=\"26\" y=\"{1}\">{0}, {2}: {3}</text>",
            kind.word(),
            y + 10,
            bytes(to_bytes(total)),
            escape(meaning(kind))
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"8\" y=\"{}\">A cell is {}; pale if less than half of it is of that kind.</text>\n</svg>",
        height - 10,
        bytes(to_bytes(size))
    );
    text
}

/// Escapes text for XML. What is not allowed there, control characters, is left out.
fn escape(text: &str) -> String {
    let mut escaped = String::new();

    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            character if character.is_control() => {}
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes extents of lengths and kinds.
    fn device(parts: &[(u64, Kind)]) -> Vec<Extent> {
        let mut start = 0;

        parts
            .iter()
            .map(|&(length, kind)| {
                let sectors = start..start + length;

                start += length;
                Extent { sectors, kind }
            })
            .collect()
    }

    fn drawn(cells: &[Cell]) -> String {
        cells
            .iter()
            .map(|cell| match cell.half {
                true => letter(cell.kind),
                false => letter(cell.kind).to_ascii_lowercase(),
            })
            .collect()
    }

    #[test]
    fn cells_have_the_kind_that_says_most() {
        let extents = device(&[
            (8, Kind::Log),
            (24, Kind::Unchanged),
            (2, Kind::Changed),
            (13, Kind::Unchanged),
            (1, Kind::Backup),
            (16, Kind::Free),
            (4, Kind::Granted),
        ]);

        assert_eq!(drawn(&cells(&extents, 8)), "L...cb__G");
        assert_eq!(drawn(&cells(&extents, 16)), "L.c_G");
        assert_eq!(drawn(&cells(&extents, 1 << 20)), "l");
        assert_eq!(drawn(&cells(&[], 8)), "");
        // More background of one kind than of the other.
        let background = device(&[(3, Kind::Free), (5, Kind::Unchanged)]);
        assert_eq!(drawn(&cells(&background, 8)), ".");
    }

    #[test]
    fn each_sector_is_in_one_cell() {
        let extents = device(&[
            (1, Kind::Free),
            (1, Kind::Unchanged),
            (999_999, Kind::Backup),
        ]);

        for size in [1, 7, 8, 333, 1_000_001, 2_000_000] {
            let cells = cells(&extents, size);

            assert_eq!(cells.len() as u64, 1_000_001_u64.div_ceil(size));
            assert_eq!(cells.last().map(|cell| cell.kind), Some(Kind::Backup));
        }
    }

    #[test]
    fn a_terminal_has_its_width_and_no_colours_unasked() {
        for sectors in [8, 100, 4096, 1 << 21, u64::MAX >> 10] {
            let extents = device(&[(8, Kind::Log), (sectors, Kind::Unchanged)]);

            for width in [0, 20, 80, 200] {
                let text = terminal(&extents, width, false);
                let rows: Vec<_> = text
                    .lines()
                    .take_while(|line| !line.starts_with(' '))
                    .collect();

                assert!(!rows.is_empty() && rows.len() as u64 <= ROWS, "{text}");
                assert!(rows.iter().all(|row| row.len() < width.max(16)), "{text}");
                assert!(!text.contains('\x1b'));
            }
        }
        let extents = device(&[(64, Kind::Changed)]);
        assert!(terminal(&extents, 80, true).contains("\x1b[31mCCCCCCCC\x1b[0m"));
    }

    #[test]
    fn an_svg_is_well_formed() {
        let extents = device(&[
            (8, Kind::Log),
            (100_000, Kind::Unchanged),
            (3, Kind::Changed),
            (50_000, Kind::Free),
        ]);
        let text = svg(&extents, "/dev/<&\"x\u{1}");

        assert!(text.contains("/dev/&lt;&amp;&quot;x"));
        assert!(text
            .chars()
            .all(|character| character == '\n' || !character.is_control()));
        assert!(text.contains("class=\"changed part\""));
        // As many elements are opened as are closed.
        for element in ["svg", "title", "style", "text"] {
            assert_eq!(
                text.matches(&format!("<{element}")).count(),
                text.matches(&format!("</{element}>")).count()
            );
        }
        assert_eq!(text.matches("<rect").count(), text.matches("/>").count());
        assert!(text.ends_with("</svg>\n"));
    }
}
