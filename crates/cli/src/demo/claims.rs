//! Claims, checked on what was observed: pure functions from observations to a verdict.
//!
//! A verdict is what was seen, or why the claim does not hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_client::Replica;
use flotilla_types::StoreId;

/// What was seen, or why the claim does not hold.
pub type Verdict = Result<String, String>;

/// Rows by key.
pub type Rows = BTreeMap<Bytes, Bytes>;

/// Each row that was acknowledged is there, with the value that was acknowledged.
pub fn nothing_lost(acknowledged: &Rows, found: &BTreeMap<Bytes, Option<Bytes>>) -> Verdict {
    for (key, value) in acknowledged {
        match found.get(key) {
            Some(Some(found)) if found == value => {}
            Some(Some(found)) => {
                return Err(format!("{} is {}, not {}", text(key), text(found), text(value)));
            }
            Some(None) | None => return Err(format!("{} is gone", text(key))),
        }
    }
    Ok(format!("{} acknowledged rows, all there", acknowledged.len()))
}

/// The replicas have applied one index, and hold the same rows.
pub fn equal_at_one_index(replicas: &[(StoreId, Replica)]) -> Verdict {
    let Some((_, first)) = replicas.first() else { return Err("there is no replica".into()) };
    for (store, replica) in replicas {
        if replica.applied_index != first.applied_index {
            let (one, other) = (first.applied_index, replica.applied_index);
            return Err(format!("store {store} has applied {other}, another one {one}"));
        }
        if replica.digest != first.digest {
            return Err(format!("store {store} holds other rows at index {}", first.applied_index));
        }
    }
    let digest = hex::encode(first.digest.get(..8).unwrap_or(&first.digest));
    let (count, index) = (replicas.len(), first.applied_index);
    Ok(format!("{count} replicas, {} rows, digest {digest} at index {index}", first.rows))
}

/// Every replica holds the value.
pub fn visible_on_each(replicas: &[(StoreId, Option<Bytes>)], value: &Bytes) -> Verdict {
    match replicas.iter().find(|(_, found)| found.as_ref() != Some(value)) {
        None => Ok(format!("{} of {} replicas", replicas.len(), replicas.len())),
        Some((store, found)) => {
            let found = found.as_ref().map_or("nothing".into(), text);
            Err(format!("store {store} has applied {found}"))
        }
    }
}

/// A read that was answered has the last acknowledged value.
pub fn not_stale(side: &str, answers: &[Option<Bytes>], last: &Bytes) -> Verdict {
    match answers.iter().find(|answer| answer.as_ref() != Some(last)) {
        None if answers.is_empty() => Ok(format!("no read was answered on the {side}")),
        None => Ok(format!("{} reads on the {side}, all of {}", answers.len(), text(last))),
        Some(answer) => {
            let found = answer.as_ref().map_or("nothing".into(), text);
            Err(format!("a read on the {side} found {found} after {} was written", text(last)))
        }
    }
}

/// The stores hold the same number of regions, but for one.
pub fn even(regions: &[(StoreId, u64)]) -> Verdict {
    let counts = || regions.iter().map(|(_, count)| *count);
    let (Some(least), Some(most)) = (counts().min(), counts().max()) else {
        return Err("there is no store".into());
    };
    let shown: Vec<String> = counts().map(|count| count.to_string()).collect();
    let shown = format!("{} regions", shown.join(", "));
    if most - least > 1 { Err(shown) } else { Ok(shown) }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::Region;

    fn replica(index: u64, digest: &'static str) -> Replica {
        Replica {
            applied_index: index,
            applied_term: 1,
            leader: None,
            region: Region::default(),
            rows: 1,
            bytes: 2,
            digest: digest.into(),
            values: vec![],
        }
    }

    #[test]
    fn a_lost_row_and_another_value_are_found() {
        let acknowledged = Rows::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let mut found: BTreeMap<Bytes, Option<Bytes>> =
            acknowledged.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        assert!(nothing_lost(&acknowledged, &found).is_ok());
        found.insert("a".into(), Some("9".into()));
        assert!(nothing_lost(&acknowledged, &found).is_err());
        found.insert("a".into(), None);
        assert!(nothing_lost(&acknowledged, &found).is_err());
        found.remove(&Bytes::from("a"));
        assert!(nothing_lost(&acknowledged, &found).is_err());
    }

    #[test]
    fn replicas_differ_by_index_or_by_rows() {
        let pair = |one, other| [(StoreId(1), one), (StoreId(2), other)];
        assert!(equal_at_one_index(&pair(replica(7, "x"), replica(7, "x"))).is_ok());
        assert!(equal_at_one_index(&pair(replica(7, "x"), replica(8, "x"))).is_err());
        assert!(equal_at_one_index(&pair(replica(7, "x"), replica(7, "y"))).is_err());
        assert!(equal_at_one_index(&[]).is_err());
    }

    #[test]
    fn a_value_is_visible_only_if_each_replica_has_it() {
        let value = Bytes::from("red");
        let one = (StoreId(1), Some(value.clone()));
        assert!(visible_on_each(std::slice::from_ref(&one), &value).is_ok());
        assert!(visible_on_each(&[one, (StoreId(2), None)], &value).is_err());
    }

    #[test]
    fn a_read_of_an_earlier_value_is_stale() {
        let (old, new) = (Bytes::from("1"), Bytes::from("2"));
        assert!(not_stale("side", &[], &new).is_ok());
        assert!(not_stale("side", &[Some(new.clone())], &new).is_ok());
        assert!(not_stale("side", &[Some(new.clone()), Some(old)], &new).is_err());
        assert!(not_stale("side", &[None], &new).is_err());
    }

    #[test]
    fn stores_are_even_up_to_one_region() {
        let of = |counts: &[u64]| -> Vec<(StoreId, u64)> {
            counts.iter().map(|count| (StoreId(*count), *count)).collect()
        };
        assert!(even(&of(&[3, 4, 4])).is_ok());
        assert!(even(&of(&[2, 4, 4])).is_err());
    }
}
