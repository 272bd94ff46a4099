//! The bounds of the cores, as a seed draws them.
//!
//! The usual bounds are far above what a small world reaches, so that what happens at a bound would
//! never be seen. In a third of the seeds each bound is drawn down with a probability of one half,
//! most of them to 1 to 8 of what they count (FoundationDB's knobs). A core must make progress at
//! any value.
//!
//! Not here: that the bounds are kept ([`crate::check::memory`]).

use std::collections::BTreeMap;

use flotilla_client::core::limits::ClientLimits;
use flotilla_pd::core::limits::{ID_BLOCK_MIN, PdLimits};
use flotilla_store::core::limits::StoreLimits;
use flotilla_types::dice::Dice;
use flotilla_types::{Answer, RegionError};
use serde::{Deserialize, Serialize};

/// Bounds of bytes are drawn in multiples of so many; one write has 30 to 300.
const BYTES_UNIT: u64 = 64;

/// The bounds that a seed draws.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitScenario {
    /// The bounds that are not as usual, by the names of their fields.
    pub drawn: BTreeMap<String, u64>,
}

/// The bounds of all cores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Those of a store.
    pub store: StoreLimits,
    /// Those of the placement driver.
    pub pd: PdLimits,
    /// Those of a client.
    pub client: ClientLimits,
}

/// What a bound counts, and so the values that it may have.
#[derive(Clone, Copy)]
enum Kind {
    /// Things: 1 to 8.
    Things,
    /// Bytes: 1 to 8 units.
    Bytes,
    /// Ids: 1 to 8 of the shortest blocks.
    Ids,
    /// Milliseconds within a range.
    Ms(u64, u64),
}

struct Knob {
    name: &'static str,
    kind: Kind,
    set: fn(&mut Bounds, u64),
}

macro_rules! knobs {
    ($($name:ident $kind:expr, $($field:ident).+;)*) => {
        /// All bounds that may be drawn. Their order is a part of what a seed means.
        const KNOBS: &[Knob] = &[$(Knob {
            name: stringify!($name),
            kind: $kind,
            set: |bounds, to| bounds.$($field).+ = to as _,
        },)*];
    };
}

knobs! {
    append_bytes_max Kind::Bytes, store.group.append_bytes_max;
    inflight_max Kind::Things, store.group.inflight_max;
    uncommitted_bytes_max Kind::Bytes, store.group.uncommitted_bytes_max;
    committed_bytes_max Kind::Bytes, store.group.committed_bytes_max;
    cache_bytes_max Kind::Bytes, store.group.cache_bytes_max;
    tickets_max Kind::Things, store.group.tickets_max;
    entry_ops_max Kind::Things, store.entry_ops_max;
    entry_bytes_target Kind::Bytes, store.entry_bytes_target;
    queued_bytes_max Kind::Bytes, store.queued_bytes_max;
    reads_waiting_max Kind::Things, store.reads_waiting_max;
    reply_bytes_max Kind::Bytes, store.reply_bytes_max;
    count_step_bytes_max Kind::Bytes, store.count_step_bytes_max;
    count_samples_max Kind::Things, store.count_samples_max;
    reports_max Kind::Things, store.reports.reports_max;
    kept_votes_max Kind::Things, store.kept_votes_max;
    non_members_max Kind::Things, store.non_members_max;
    orphaned_ms_max Kind::Ms(300, 5_000), store.orphaned_ms_max;
    export_ms_max Kind::Ms(500, 60_000), store.export_ms_max;
    checkpoint_ms_max Kind::Ms(200, 20_000), store.checkpoint_ms_max;
    unreachable_ms Kind::Ms(1_000, 6_000), store.unreachable_ms;
    id_block Kind::Ids, pd.id_block;
    waiting_max Kind::Things, pd.waiting_max;
    read_ms_max Kind::Ms(200, 5_000), pd.read_ms_max;
    regions_per_entry_max Kind::Things, pd.regions_per_entry_max;
    route_bytes_max Kind::Bytes, pd.route_bytes_max;
    operators_max Kind::Things, pd.operators_max;
    admin_operators_max Kind::Things, pd.admin_operators_max;
    balance_transfers_max Kind::Things, pd.balance_transfers_max;
    additions_per_store_max Kind::Things, pd.additions_per_store_max;
    operator_ms_max Kind::Ms(10_000, 600_000), pd.operator_ms_max;
    quick_operator_ms_max Kind::Ms(2_000, 20_000), pd.quick_operator_ms_max;
    regions_cached_max Kind::Things, client.regions_cached_max;
    lookup_regions_max Kind::Things, client.lookup_regions_max;
    refreshes_max Kind::Things, client.refreshes_max;
    parts_out_max Kind::Things, client.parts_out_max;
    budget_tokens_max Kind::Things, client.budget_tokens_max;
    reports_bytes_max Kind::Bytes, store.reports.reports_bytes_max;
    regions_per_entry_bytes_max Kind::Bytes, pd.regions_per_entry_bytes_max;
}

impl LimitScenario {
    /// The bounds of a seed.
    pub fn draw(dice: &mut Dice) -> LimitScenario {
        let mut limits = LimitScenario::default();
        if !dice.chance(333) {
            return limits;
        }
        for knob in KNOBS {
            if dice.chance(500) {
                limits.drawn.insert(knob.name.to_string(), value(knob.kind, dice));
            }
        }
        limits
    }

    /// Leaves the bounds as usual by which a cluster of many regions would do one after another
    /// what it does at once: it would be repaired all the same, in a quarter of an hour.
    pub fn keep_pace(&mut self) {
        for name in ["operators_max", "additions_per_store_max", "reports_max", "reports_bytes_max"]
        {
            self.drawn.remove(name);
        }
    }

    /// The bounds, those that are as usual included, each at least at its least value.
    ///
    /// # Panics
    /// If a name is not that of a bound.
    pub fn bounds(&self) -> Bounds {
        let mut bounds = Bounds::default();
        for (name, to) in &self.drawn {
            let knob = KNOBS.iter().find(|knob| knob.name == name);
            let Some(knob) = knob else { panic!("'{name}' is no bound") };
            (knob.set)(&mut bounds, *to);
        }
        bounds.pd.group = bounds.store.group;
        Bounds {
            store: bounds.store.workable(),
            pd: bounds.pd.workable(),
            client: bounds.client.workable(),
        }
    }
}

fn value(kind: Kind, dice: &mut Dice) -> u64 {
    let some = if dice.chance(100) { dice.between(9, 100) } else { dice.between(1, 9) };
    match kind {
        Kind::Things => some,
        Kind::Bytes => some * BYTES_UNIT,
        Kind::Ids => some * ID_BLOCK_MIN,
        Kind::Ms(least, most) => dice.between_inclusive(least, most),
    }
}

/// The counter of the bound that an answer of a store tells of, if it tells of one.
pub fn met(result: &Result<Answer, RegionError>) -> Option<&'static str> {
    match result {
        Err(RegionError::LimitExceeded { .. }) => Some("gets refused for their bytes"),
        Err(RegionError::ServerBusy { reason, .. }) if reason.contains("too many writes") => {
            Some("writes refused by a full queue")
        }
        Err(RegionError::ServerBusy { reason, .. }) if reason.contains("too many reads") => {
            Some("reads refused by a full queue")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_seeds_draws_about_half_of_the_bounds() {
        let drawn: Vec<usize> =
            (0..300).map(|seed| LimitScenario::draw(&mut Dice::new(seed)).drawn.len()).collect();
        let some = drawn.iter().filter(|count| **count > 0).count();
        assert!((60..140).contains(&some), "{some} of 300");
        let all: usize = drawn.iter().sum();
        assert!((some * KNOBS.len() / 3..some * KNOBS.len() * 2 / 3).contains(&all), "{all}");
    }

    #[test]
    fn each_bound_is_set_by_its_own_name() {
        for knob in KNOBS {
            let drawn = BTreeMap::from([(knob.name.to_string(), 77)]);
            let bounds = LimitScenario { drawn }.bounds();
            assert_ne!(bounds, Bounds::default(), "{}", knob.name);
            let words = format!("{bounds:?}");
            assert!(words.contains(&format!(" {}: 77", knob.name)), "{}: {words}", knob.name);
        }
    }
}
