// SPDX-License-Identifier: GPL-2.0

//! A model of the contents of every sector of a window of the device.
//!
//! A sector is named by a generation: 0 when its content is unknown (never
//! written by us, or discarded), 1 for zeroes, and a number of its own for each
//! write. Content is made from sector, generation and the model's salt, so that
//! a wrong sector tells where its content came from.
//!
//! The file is one line of JSON and then the generations as little-endian
//! `u32`, so a snapshot of the model is a plain copy of the file.

use crate::range::Range;
use crate::range::SECTOR;
use crate::Failure;
use bow_random::mix;
use serde::Deserialize;
use serde::Serialize;
use std::fs;
use std::io::BufRead;
use std::io::Read;
use std::io::Write;
use std::path::Path;

/// Identifies one writing of a sector.
pub(crate) type Generation = u32;

/// Nothing is known about the content.
pub(crate) const UNKNOWN: Generation = 0;
/// The sector reads as zeroes.
pub(crate) const ZEROES: Generation = 1;

const MAGIC: &[u8; 8] = b"bowstamp";

#[derive(Deserialize, Serialize)]
struct Header {
    format: u32,
    window: Range,
    salt: u64,
    last: Generation,
}

const FORMAT: u32 = 1;

pub(crate) struct Model {
    window: Range,
    salt: u64,
    last: Generation,
    sectors: Vec<Generation>,
}

/// Makes and checks the content of stamped sectors.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    salt: u64,
}

impl Model {
    /// Starts with every sector of `window` unknown.
    pub(crate) fn new(window: Range, salt: u64) -> Self {
        Self {
            window,
            salt,
            last: ZEROES,
            sectors: vec![UNKNOWN; window.len as usize],
        }
    }

    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::usage(format!("{}: {what}", path.display()));
        let file = fs::File::open(path).map_err(|e| wrong(&e.to_string()))?;
        let mut file = std::io::BufReader::new(file);
        let mut line = String::new();
        file.read_line(&mut line)
            .map_err(|e| wrong(&e.to_string()))?;
        let header: Header = serde_json::from_str(&line).map_err(|e| wrong(&e.to_string()))?;
        let mut raw = Vec::new();
        file.read_to_end(&mut raw)
            .map_err(|e| wrong(&e.to_string()))?;
        if header.format != FORMAT || raw.len() as u64 != header.window.len * 4 {
            return Err(wrong("not a model, or cut short"));
        }
        let sectors = raw
            .chunks_exact(4)
            .map(|b| Generation::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        Ok(Self {
            window: header.window,
            salt: header.salt,
            last: header.last,
            sectors,
        })
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), Failure> {
        let header = Header {
            format: FORMAT,
            window: self.window,
            salt: self.salt,
            last: self.last,
        };
        let mut out = serde_json::to_vec(&header).expect("a header is plain data");
        out.push(b'\n');
        out.extend(self.sectors.iter().flat_map(|g| g.to_le_bytes()));
        fs::File::create(path)
            .and_then(|mut file| file.write_all(&out))
            .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))
    }

    pub(crate) fn window(&self) -> Range {
        self.window
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { salt: self.salt }
    }

    /// Returns the generation for the next write.
    pub(crate) fn next_generation(&mut self) -> Generation {
        self.last += 1;
        self.last
    }

    fn slot(&self, range: Range) -> std::ops::Range<usize> {
        let start = (range.start - self.window.start) as usize;
        start..start + range.len as usize
    }

    pub(crate) fn set(&mut self, range: Range, generation: Generation) {
        let slot = self.slot(range);
        self.sectors[slot].fill(generation);
    }

    /// Puts back what [`Model::get`] gave before.
    pub(crate) fn restore(&mut self, range: Range, before: &[Generation]) {
        let slot = self.slot(range);
        self.sectors[slot].copy_from_slice(before);
    }

    pub(crate) fn get(&self, range: Range) -> &[Generation] {
        &self.sectors[self.slot(range)]
    }

    /// Returns the bytes in whole blocks of `block_size` bytes of which no sector is known.
    pub(crate) fn unknown_bytes(&self, block_size: u64) -> u64 {
        let per_block = block_size / SECTOR as u64;
        // Blocks count from the start of the device, not of the window.
        let skip = (per_block - self.window.start % per_block) % per_block;
        let tail = self.sectors.get(skip as usize..).unwrap_or(&[]);
        let blocks = tail
            .chunks_exact(per_block as usize)
            .filter(|block| block.iter().all(|&g| g == UNKNOWN))
            .count();
        blocks as u64 * block_size
    }
}

impl Stamp {
    /// Fills `data` with what the sectors of `range` hold in `generation`.
    pub(crate) fn fill(&self, range: Range, generation: Generation, data: &mut [u8]) {
        for (sector, content) in (range.start..).zip(data.chunks_exact_mut(SECTOR)) {
            self.fill_sector(sector, generation, content);
        }
    }

    fn fill_sector(&self, sector: u64, generation: Generation, content: &mut [u8]) {
        if generation == ZEROES {
            content.fill(0);
            return;
        }
        let (head, body) = content.split_at_mut(32);
        head[..8].copy_from_slice(MAGIC);
        head[8..16].copy_from_slice(&sector.to_le_bytes());
        head[16..24].copy_from_slice(&u64::from(generation).to_le_bytes());
        head[24..].copy_from_slice(&self.salt.to_le_bytes());
        let mut word = mix(self.salt ^ mix(sector ^ (u64::from(generation) << 40)));
        for place in body.chunks_exact_mut(8) {
            word = word
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            place.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Compares `data`, read from `start` on, with the generations expected.
    /// Returns a sentence for each sector that is wrong.
    pub(crate) fn check(&self, start: u64, expected: &[Generation], data: &[u8]) -> Vec<String> {
        let mut right = [0; SECTOR];
        let mut wrong = Vec::new();
        for ((sector, &generation), content) in
            (start..).zip(expected).zip(data.chunks_exact(SECTOR))
        {
            if generation == UNKNOWN {
                continue;
            }
            self.fill_sector(sector, generation, &mut right);
            if content != right {
                wrong.push(format!(
                    "sector {sector}: expected {}, found {}",
                    name(generation),
                    self.recognise(sector, content)
                ));
            }
        }
        wrong
    }

    /// Says in words what an unexpected sector holds.
    fn recognise(&self, sector: u64, content: &[u8]) -> String {
        let number =
            |at: usize| u64::from_le_bytes(content[at..at + 8].try_into().expect("8 bytes"));
        if content.iter().all(|&b| b == 0) {
            return "zeroes".into();
        }
        if content.starts_with(b"BOW\0") || content.starts_with(b"WOB\0") {
            return "a log block of bow".into();
        }
        if &content[..8] != MAGIC {
            return format!("foreign data {:02x?}", &content[..16]);
        }
        let (from, generation, salt) = (number(8), number(16), number(24));
        let mut whole = [0; SECTOR];
        Stamp { salt }.fill_sector(from, generation as Generation, &mut whole);
        let mut text = format!("generation {generation}");
        if from != sector {
            text += &format!(" of sector {from}");
        }
        if salt != self.salt {
            text += " of another model";
        }
        if whole != content {
            text += ", torn";
        }
        text
    }
}

fn name(generation: Generation) -> String {
    match generation {
        ZEROES => "zeroes".into(),
        _ => format!("generation {generation}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> (Model, Vec<u8>) {
        let mut model = Model::new(Range::new(4, 12), 99);
        let generation = model.next_generation();
        model.set(Range::new(4, 12), generation);
        model.set(Range::new(6, 1), ZEROES);
        model.set(Range::new(8, 8), UNKNOWN);
        let mut data = vec![0x5a; 12 * SECTOR];
        model
            .stamp()
            .fill(Range::new(4, 2), generation, &mut data[..2 * SECTOR]);
        data[2 * SECTOR..3 * SECTOR].fill(0);
        model.stamp().fill(
            Range::new(7, 1),
            generation,
            &mut data[3 * SECTOR..4 * SECTOR],
        );
        (model, data)
    }

    #[test]
    fn right_content_passes_and_each_wrong_byte_is_found() {
        let (model, mut data) = filled();
        let expected = model.get(model.window()).to_vec();
        assert!(model.stamp().check(4, &expected, &data).is_empty());
        for at in [0, 31, 511, 512, 2 * SECTOR + 7, 4 * SECTOR - 1] {
            data[at] ^= 1;
            let wrong = model.stamp().check(4, &expected, &data);
            assert_eq!(wrong.len(), 1, "byte {at}");
            let sector = 4 + at / SECTOR;
            assert!(wrong[0].starts_with(&format!("sector {sector}:")));
            data[at] ^= 1;
        }
        data[5 * SECTOR] ^= 1;
        assert!(model.stamp().check(4, &expected, &data).is_empty());
    }

    #[test]
    fn a_misplaced_sector_is_named() {
        let (model, mut data) = filled();
        data.copy_within(0..SECTOR, SECTOR);
        let wrong = model.stamp().check(4, model.get(model.window()), &data);
        assert!(wrong[0].contains("generation 2 of sector 4"));
    }

    #[test]
    fn unknown_blocks_count_from_the_start_of_the_device() {
        let (model, _) = filled();
        assert_eq!(model.unknown_bytes(4096), 4096);
        assert_eq!(model.unknown_bytes(512), 8 * 512);
    }

    #[test]
    fn a_saved_model_loads_again() {
        let (model, _) = filled();
        let path = std::env::temp_dir().join(format!("bow-exercise-model-{}", std::process::id()));
        model.save(&path).unwrap();
        let again = Model::load(&path).unwrap();
        assert_eq!(again.sectors, model.sectors);
        assert_eq!((again.last, again.salt), (model.last, model.salt));
        fs::write(&path, b"{}\n").unwrap();
        assert!(Model::load(&path).is_err());
        fs::remove_file(&path).unwrap();
    }
}
