// SPDX-License-Identifier: GPL-2.0

//! The state that a power cut leaves, of those that it may leave.
//!
//! Of a hundred sectors in flight each random choice sector by sector leaves about half. What goes
//! wrong when one write is missing, or one alone has arrived, would never be seen. So a choice is
//! made write by write, in one of several [`Manner`]s, and only then are writes torn.

use crate::contents::Id;
use crate::device::Request;
use crate::timeline::Level;
use crate::trace::Time;
use bow_random::Random;
use std::collections::HashMap;

/// Manner in which the writes in flight arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Nothing,
    Everything,
    /// Each with this chance in 16, as a whole.
    Writes(usize),
    /// All but one, which is torn or missing.
    AllButOne,
    /// One, whole or torn.
    OnlyOne,
    /// Some, one of which is torn.
    OneTorn,
    /// Every sector for itself.
    Sectors,
}

impl Manner {
    fn random(random: &mut Random) -> Self {
        match random.index(16) {
            0 => Manner::Nothing,
            1 => Manner::Everything,
            2 | 3 => Manner::Writes(8),
            4 => Manner::Writes(2),
            5 => Manner::Writes(14),
            6..=8 => Manner::AllButOne,
            9..=11 => Manner::OnlyOne,
            12 | 13 => Manner::OneTorn,
            _ => Manner::Sectors,
        }
    }
}

/// Fate of a write in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Missing,
    Whole,
    Torn,
}

/// Draws lots for `writes` writes in flight.
fn fates(manner: Manner, writes: usize, random: &mut Random) -> Vec<Fate> {
    let uniform = |fate| vec![fate; writes];
    let chosen = random.index(writes);
    let torn = random.chance(1, 2);
    let with_one = |mut fates: Vec<Fate>, fate| {
        if let Some(slot) = fates.get_mut(chosen) {
            *slot = fate;
        }
        fates
    };
    let mut each = |part| -> Vec<Fate> {
        (0..writes)
            .map(|_| match random.chance(part, 16) {
                true => Fate::Whole,
                false => Fate::Missing,
            })
            .collect()
    };
    match manner {
        Manner::Nothing => uniform(Fate::Missing),
        Manner::Everything => uniform(Fate::Whole),
        Manner::Writes(part) => each(part),
        Manner::AllButOne if torn => with_one(uniform(Fate::Whole), Fate::Torn),
        Manner::AllButOne => with_one(uniform(Fate::Whole), Fate::Missing),
        Manner::OnlyOne if torn => with_one(uniform(Fate::Missing), Fate::Torn),
        Manner::OnlyOne => with_one(uniform(Fate::Missing), Fate::Whole),
        Manner::OneTorn => with_one(each(8), Fate::Torn),
        Manner::Sectors => uniform(Fate::Torn),
    }
}

/// State that was drawn, and a description in words.
pub(crate) struct Drawn {
    /// Contents of each sector of the device.
    pub(crate) sectors: Vec<Id>,
    /// Writes that arrived in part.
    pub(crate) torn: usize,
    /// For people.
    pub(crate) words: String,
}

/// Fate of the sectors of one write.
#[derive(Clone, Copy, Default)]
struct Parts {
    arrived: bool,
    missing: bool,
}

impl Parts {
    fn note(&mut self, arrives: bool) {
        self.arrived |= arrives;
        self.missing |= !arrives;
    }

    fn is_torn(&self) -> bool {
        self.arrived && self.missing
    }
}

/// Returns what a device holds if power fails after the first `cut` events, drawn by `random`.
pub(crate) fn draw(level: &Level, sectors: u64, cut: Time, random: &mut Random) -> Drawn {
    let mut ids = vec![crate::contents::ZEROES; sectors as usize];
    let mut open = Vec::new();
    let mut writes: HashMap<u32, usize> = HashMap::new();
    let mut in_flight = Vec::new();
    for &sector in &level.touched {
        let mut possible = level.possible(sector, cut);
        let Some(first) = possible.next() else {
            continue;
        };
        ids[sector as usize] = first.id;
        let mut is_open = false;
        for later in possible {
            is_open = true;
            writes.entry(later.bio).or_insert_with(|| {
                in_flight.push(later.bio);
                in_flight.len() - 1
            });
        }
        if is_open {
            open.push(sector);
        }
    }
    let manner = Manner::random(random);
    let fates = fates(manner, in_flight.len(), random);
    let mut parts = vec![Parts::default(); in_flight.len()];
    for sector in open {
        for version in level.possible(sector, cut).skip(1) {
            let write = writes[&version.bio];
            let arrives = match fates[write] {
                Fate::Missing => false,
                Fate::Whole => true,
                Fate::Torn => random.chance(1, 2),
            };
            parts[write].note(arrives);
            if arrives {
                ids[sector as usize] = version.id;
            }
        }
    }
    let bios: Vec<_> = in_flight
        .iter()
        .zip(&fates)
        .take(SHOWN)
        .map(|(bio, fate)| {
            let bio = &level.bios[*bio as usize];
            format!("{:?} {}+{} {fate:?}", bio.kind, bio.sector, bio.sectors)
        })
        .collect();
    Drawn {
        sectors: ids,
        torn: parts.iter().filter(|parts| parts.is_torn()).count(),
        words: format!(
            "{} writes in flight, {manner:?}: {}",
            in_flight.len(),
            bios.join(", ")
        ),
    }
}

/// Writes in flight that are told one by one.
const SHOWN: usize = 12;

/// Returns what a device that held `before` holds if power fails when `requests` have reached it.
pub(crate) fn draw_requests(before: &[Id], requests: &[Request], random: &mut Random) -> Drawn {
    let flushed = requests
        .iter()
        .rposition(|request| matches!(request, Request::Flush))
        .unwrap_or(0);
    let manner = Manner::random(random);
    let in_flight = requests.len() - flushed;
    let fates = fates(manner, in_flight, random);
    let mut ids = before.to_vec();
    let mut torn = 0;
    for (number, request) in requests.iter().enumerate() {
        let Request::Write { sector, ids: new } = request else {
            continue;
        };
        let fate = match number.checked_sub(flushed) {
            Some(number) => fates[number],
            None => Fate::Whole,
        };
        let mut parts = Parts::default();
        for (slot, id) in ids[*sector as usize..].iter_mut().zip(new) {
            let arrives = match fate {
                Fate::Missing => false,
                Fate::Whole => true,
                Fate::Torn => random.chance(1, 2),
            };
            parts.note(arrives);
            if arrives {
                *slot = *id;
            }
        }
        torn += usize::from(parts.is_torn());
    }
    Drawn {
        sectors: ids,
        torn,
        words: format!("{in_flight} requests since the last flush, {manner:?}"),
    }
}
