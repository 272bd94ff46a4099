//! A log entry's bytes, and the rules of appending that both logs share.
//!
//! Layout, all numbers big-endian: index (8), term (8), kind (1), length of data (4), data,
//! context. On disk it is the `value` field of a protobuf `BytesValue`, for raft-engine takes only
//! protobuf messages.

use bytes::Bytes;

use crate::log::{LogBounds, LogEntry};

const HEADER_BYTES: usize = 8 + 8 + 1 + 4;

/// The entry's bytes.
pub(crate) fn encode(entry: &LogEntry) -> Vec<u8> {
    let data_bytes = u32::try_from(entry.data.len()).expect("a payload is far below 4 GiB");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + entry.data.len() + entry.context.len());
    bytes.extend_from_slice(&entry.index.to_be_bytes());
    bytes.extend_from_slice(&entry.term.to_be_bytes());
    bytes.push(entry.kind);
    bytes.extend_from_slice(&data_bytes.to_be_bytes());
    bytes.extend_from_slice(&entry.data);
    bytes.extend_from_slice(&entry.context);
    bytes
}

/// The entry whose encoding these bytes are; None for other bytes. Copies no payload.
pub(crate) fn decode(bytes: Bytes) -> Option<LogEntry> {
    let index = peek_index(&bytes)?;
    let term = u64::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    let kind = *bytes.get(16)?;
    let data_bytes = u32::from_be_bytes(*bytes.get(17..)?.first_chunk()?);
    let data_end = HEADER_BYTES.checked_add(usize::try_from(data_bytes).ok()?)?;
    if data_end > bytes.len() {
        return None;
    }
    let (data, context) = (bytes.slice(HEADER_BYTES..data_end), bytes.slice(data_end..));
    Some(LogEntry { index, term, kind, data, context })
}

/// The index of an encoded entry.
pub(crate) fn peek_index(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|index| u64::from_be_bytes(*index))
}

/// Bytes that the entry takes in raft-engine: its own and the protobuf tag and length. Limits on
/// bytes count these, in both logs alike.
pub(crate) fn stored_bytes(entry: &LogEntry) -> usize {
    let bytes = HEADER_BYTES + entry.data.len() + entry.context.len();
    let length_bits = usize::BITS - bytes.leading_zeros();
    1 + length_bits.div_ceil(7) as usize + bytes
}

/// What a group's log holds after `entries` are appended to `held`. Panics, before anything is
/// written, on a caller's mistake: no entries, entries out of sequence, a hole, or
/// entries from below the first held.
pub(crate) fn bounds_after_append(
    group: u64,
    held: Option<LogBounds>,
    entries: &[LogEntry],
) -> LogBounds {
    let (Some(head), Some(tail)) = (entries.first(), entries.last()) else {
        panic!("append of no entries to group {group}");
    };
    for (entry, index) in entries.iter().zip(head.index..) {
        assert!(
            entry.index == index,
            "append to group {group}: entry {} stands where {index} belongs",
            entry.index
        );
    }
    let Some(held) = held else {
        return LogBounds { first: head.index, last: tail.index };
    };
    assert!(
        head.index <= held.last + 1,
        "append to group {group} leaves a hole: {} after {}",
        head.index,
        held.last
    );
    assert!(
        head.index >= held.first,
        "append to group {group} at {}, below the first entry {}: clear it instead",
        head.index,
        held.first
    );
    LogBounds { first: held.first, last: tail.index }
}

/// Panics if `low..high` is not within what is held.
pub(crate) fn assert_held(group: u64, held: Option<LogBounds>, low: u64, high: u64) {
    let held = held.unwrap_or_else(|| panic!("entries {low}..{high} of empty group {group}"));
    assert!(
        held.first <= low && high <= held.last + 1,
        "entries {low}..{high} of group {group}, which holds {}..={}",
        held.first,
        held.last
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, data: &'static str) -> LogEntry {
        LogEntry { index, term: 7, kind: 2, data: data.into(), context: "ctx".into() }
    }

    #[test]
    fn an_entry_survives_the_round_trip_and_no_cut_one_does() {
        let entry = entry(u64::MAX - 1, "payload");
        let bytes = Bytes::from(encode(&entry));
        assert_eq!(decode(bytes.clone()), Some(entry));
        for cut in 0..HEADER_BYTES + "payload".len() {
            assert_eq!(decode(bytes.slice(..cut)), None, "cut at {cut}");
        }
    }

    #[test]
    fn the_stored_size_is_what_protobuf_makes_of_it() {
        use protobuf::Message;
        for payload in [0, 80, 81, 82, 103, 104, 105, 16_359, 16_360, 16_361, 3_000_000] {
            let entry = LogEntry { data: vec![b'x'; payload].into(), ..LogEntry::default() };
            let mut message = protobuf::well_known_types::BytesValue::new();
            message.set_value(encode(&entry));
            assert_eq!(stored_bytes(&entry), message.compute_size() as usize, "{payload}");
        }
    }

    #[test]
    #[should_panic(expected = "append to group 3 leaves a hole: 9 after 7")]
    fn a_hole_is_refused_with_its_indexes() {
        bounds_after_append(3, Some(LogBounds { first: 1, last: 7 }), &[entry(9, "")]);
    }

    #[test]
    #[should_panic(expected = "entry 6 stands where 5 belongs")]
    fn entries_out_of_sequence_are_refused() {
        bounds_after_append(3, None, &[entry(4, ""), entry(6, "")]);
    }

    #[test]
    #[should_panic(expected = "below the first entry 5")]
    fn an_append_below_the_first_entry_is_refused() {
        bounds_after_append(3, Some(LogBounds { first: 5, last: 7 }), &[entry(4, "")]);
    }
}
