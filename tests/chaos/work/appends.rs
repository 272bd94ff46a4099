//! Lists that grow by swaps: a client reads the list and swaps it for a longer one. Each element
//! is appended once.
//!
//! Every list that a client was told is a beginning of the last one; elements that were
//! acknowledged are in it, once, and in the order of their calls.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{End, Findings, Stamps, Wrong, spread};

/// Elements of one list; then the next list begins.
const ELEMENTS_MAX: u64 = 120;

/// Lists that grow at once.
pub const ACTIVE: u64 = 4;

/// All lists.
#[derive(Default)]
pub struct Appends(Mutex<Vec<List>>);

/// What was asked of one list and what it was told as.
#[derive(Clone, Debug, Default)]
pub struct List {
    appends: Vec<Append>,
    reads: Vec<Read>,
}

#[derive(Clone, Copy, Debug)]
struct Append {
    element: u64,
    invoked: u64,
    returned: u64,
    end: Option<End>,
}

#[derive(Clone, Debug)]
struct Read {
    invoked: u64,
    returned: u64,
    elements: Vec<u64>,
}

impl Appends {
    /// The list to append to now, of so many (`0..ACTIVE`), and a new element.
    pub fn begin(&self, lane: u64, stamps: &Stamps) -> (u64, u64) {
        let mut lists = self.lock();
        let mut list = lane;
        while lists.get(list as usize).is_some_and(|list| list.is_full()) {
            list += ACTIVE;
        }
        if lists.len() as u64 <= list {
            lists.resize(list as usize + 1, List::default());
        }
        let element = stamps.next();
        let append = Append { element, invoked: element, returned: u64::MAX, end: None };
        lists[list as usize].appends.push(append);
        (list, element)
    }

    /// An element was appended, or not.
    pub fn end(&self, list: u64, element: u64, end: End, stamps: &Stamps) {
        let returned = stamps.next();
        let mut lists = self.lock();
        let appends = &mut lists[list as usize].appends;
        if let Some(append) = appends.iter_mut().find(|append| append.element == element) {
            append.end = Some(end);
            append.returned = returned;
        }
    }

    /// A client that asked at this stamp was told these elements.
    pub fn told(&self, list: u64, invoked: u64, elements: Vec<u64>, stamps: &Stamps) {
        let returned = stamps.next();
        self.lock()[list as usize].reads.push(Read { invoked, returned, elements });
    }

    /// How many lists there are.
    pub fn len(&self) -> u64 {
        self.lock().len() as u64
    }

    /// Judges all lists, the last read of each being the last of all.
    pub fn judge(&self) -> Findings {
        let lists = self.lock();
        let judged = lists.iter().enumerate().flat_map(|(at, list)| {
            let findings = judge(list).into_iter();
            findings.map(move |(wrong, what)| (wrong, format!("list {at}: {what}")))
        });
        judged.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<List>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn is_full(&self) -> bool {
        self.appends.len() as u64 >= ELEMENTS_MAX
    }
}

/// The key of a list.
pub fn key(list: u64) -> String {
    spread("append", list)
}

/// A list as a value.
pub fn encode(elements: &[u64]) -> String {
    elements.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// A value as a list.
pub fn decode(value: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(value);
    text.split(',').filter_map(|number| number.parse().ok()).collect()
}

fn judge(list: &List) -> Findings {
    let Some(last) = list.reads.iter().max_by_key(|read| read.returned) else { return vec![] };
    let mut findings = vec![];
    for read in &list.reads {
        if !last.elements.starts_with(&read.elements) {
            let at = (read.invoked, read.returned);
            let what = format!("{:?}, told at {at:?}, is no beginning of it", read.elements);
            findings.push((Wrong::Lost, what));
        }
    }
    for append in &list.appends {
        let count = last.elements.iter().filter(|element| **element == append.element).count();
        let is_due = append.end == Some(End::Ok) && append.returned < last.invoked;
        if is_due && count == 0 {
            findings.push((Wrong::Lost, format!("{append:?} is not there")));
        }
        if count > 1 {
            findings.push((Wrong::Duplicated, format!("{append:?} is there {count} times")));
        }
        if count > 0 && append.end == Some(End::Failed) {
            findings.push((Wrong::Duplicated, format!("{append:?} had no effect, and is there")));
        }
        findings.extend(missed(list, append));
    }
    let known = |element: &&u64| !list.appends.iter().any(|append| append.element == **element);
    let strangers = last.elements.iter().filter(known);
    findings.extend(strangers.map(|who| (Wrong::Stale, format!("nobody has appended {who}"))));
    findings.extend(out_of_order(list, &last.elements));
    findings
}

/// A read that began after an append was acknowledged and does not tell it.
fn missed(list: &List, append: &Append) -> Option<(Wrong, String)> {
    let is_due = |read: &&Read| append.end == Some(End::Ok) && append.returned < read.invoked;
    let misses = |read: &&Read| !read.elements.contains(&append.element);
    let read = list.reads.iter().filter(is_due).find(misses)?;
    let at = (read.invoked, read.returned);
    Some((Wrong::Stale, format!("a read at {at:?} does not tell {append:?}")))
}

/// An append that ended before another one began, and stands behind it.
fn out_of_order(list: &List, elements: &[u64]) -> Findings {
    let of = |element: &u64| list.appends.iter().find(|append| append.element == *element);
    let appends: Vec<&Append> = elements.iter().filter_map(of).collect();
    let mut findings = vec![];
    let mut latest: Option<&Append> = None;
    for append in appends {
        if let Some(before) = latest
            && append.end == Some(End::Ok)
            && append.returned < before.invoked
        {
            findings.push((Wrong::Stale, format!("{append:?} stands behind {before:?}")));
        }
        if latest.is_none_or(|latest| latest.invoked < append.invoked) {
            latest = Some(append);
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(element: u64, returned: u64, end: End) -> Append {
        Append { element, invoked: element, returned, end: Some(end) }
    }

    fn read(invoked: u64, elements: &[u64]) -> Read {
        Read { invoked, returned: invoked + 1, elements: elements.to_vec() }
    }

    fn wrong(appends: &[Append], reads: &[Read]) -> Vec<Wrong> {
        let list = List { appends: appends.to_vec(), reads: reads.to_vec() };
        judge(&list).into_iter().map(|(wrong, _)| wrong).collect()
    }

    #[test]
    fn what_may_be_is_fine() {
        let (one, two) = (append(1, 2, End::Ok), append(3, 4, End::Ok));
        assert_eq!(wrong(&[one, two], &[read(2, &[1]), read(9, &[1, 3])]), []);
        let unsure = append(3, 4, End::Undetermined);
        assert_eq!(wrong(&[one, unsure], &[read(9, &[1])]), []);
        assert_eq!(wrong(&[one, unsure], &[read(9, &[1, 3])]), []);
        let beside = append(3, 8, End::Ok);
        assert_eq!(wrong(&[append(1, 7, End::Ok), beside], &[read(9, &[3, 1])]), []);
    }

    #[test]
    fn planted_bad_histories_are_refused() {
        let (one, two) = (append(1, 2, End::Ok), append(3, 4, End::Ok));
        assert!(wrong(&[one], &[read(9, &[])]).contains(&Wrong::Lost));
        assert!(wrong(&[one], &[read(9, &[1, 1])]).contains(&Wrong::Duplicated));
        assert!(wrong(&[append(1, 2, End::Failed)], &[read(9, &[1])]).contains(&Wrong::Duplicated));
        assert!(wrong(&[one], &[read(9, &[1, 5])]).contains(&Wrong::Stale), "from nowhere");
        assert!(wrong(&[one, two], &[read(9, &[3, 1])]).contains(&Wrong::Stale), "order");
        assert!(wrong(&[one, two], &[read(6, &[1]), read(9, &[1, 3])]).contains(&Wrong::Stale));
        let undone = [read(5, &[1, 3]), read(9, &[1, 7])];
        let third = append(7, 8, End::Ok);
        assert!(
            wrong(&[one, append(3, 4, End::Undetermined), third], &undone).contains(&Wrong::Lost)
        );
    }

    #[test]
    fn a_list_is_a_value_and_back() {
        assert_eq!(decode(encode(&[1, 20, 3]).as_bytes()), [1, 20, 3]);
        assert_eq!(decode(b""), Vec::<u64>::new());
    }
}
