//! What is on the disk: names and bytes, each as the process sees it and as a crash may leave it.

use std::collections::BTreeMap;

use flotilla_types::dice::Dice;

/// Bytes that a disk writes whole or not at all.
const BLOCK: usize = 512;

/// What a crash leaves of what was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Nothing is lost: only the process died. What was not synced still is not.
    Nothing,
    /// The power went, and nothing of it was on disk yet.
    All,
    /// The power went while the last write was half done; everything before it was on disk.
    Torn,
    /// The power went, and the disk had written any of the blocks, by dice of this seed.
    Blocks(u64),
}

/// A change of a file's content.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { at: u64, data: Vec<u8> },
    SetLen(u64),
}

impl Change {
    pub(super) fn end(&self) -> u64 {
        match self {
            Change::Write { at, data } => at + data.len() as u64,
            Change::SetLen(len) => *len,
        }
    }

    pub(super) fn data(&self) -> &[u8] {
        match self {
            Change::Write { data, .. } => data,
            Change::SetLen(_) => &[],
        }
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { at, data } => {
                let end = self.end() as usize;
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at as usize..end].copy_from_slice(data);
            }
            Change::SetLen(len) => bytes.resize(*len as usize, 0),
        }
    }
}

/// A change of names.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Create(String, u64),
    Delete(String),
    Rename(String, String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            NameChange::Delete(name) => {
                names.remove(name);
            }
            NameChange::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

/// A file's content.
#[derive(Clone, Debug, Default)]
struct Content {
    /// What reads see.
    cached: Vec<u8>,
    /// What was there at the last sync.
    durable: Vec<u8>,
    /// The changes since, with their places in the order of all changes of the disk.
    pending: Vec<(u64, Change)>,
}

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    /// The names as the process sees them.
    pub(super) names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    journal: Vec<NameChange>,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    changes: u64,
}

impl Cells {
    pub(super) fn len(&self, file: u64) -> u64 {
        self.files.get(&file).map_or(0, |content| content.cached.len() as u64)
    }

    /// Copies bytes from `at` on into `out`; answers how many there are.
    pub(super) fn read(&self, file: u64, at: u64, out: &mut [u8]) -> usize {
        let bytes = self.files.get(&file).map_or(&[][..], |content| &content.cached);
        let from = bytes.get(at as usize..).unwrap_or_default();
        let count = from.len().min(out.len());
        out[..count].copy_from_slice(&from[..count]);
        count
    }

    pub(super) fn create(&mut self, name: &str) -> u64 {
        let file = self.next_file;
        self.next_file += 1;
        self.files.insert(file, Content::default());
        self.rename(NameChange::Create(name.to_string(), file));
        file
    }

    pub(super) fn rename(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.journal.push(change);
    }

    pub(super) fn change(&mut self, file: u64, change: Change) {
        let number = self.changes;
        self.changes += 1;
        let content = self.files.entry(file).or_default();
        change.apply(&mut content.cached);
        content.pending.push((number, change));
    }

    pub(super) fn sync(&mut self, file: u64) {
        let content = self.files.entry(file).or_default();
        for (_, change) in std::mem::take(&mut content.pending) {
            change.apply(&mut content.durable);
        }
        let names_it =
            |change: &NameChange| matches!(change, NameChange::Create(_, made) if *made == file);
        if let Some(at) = self.journal.iter().position(names_it) {
            self.sync_journal(at + 1);
        }
    }

    pub(super) fn sync_names(&mut self) {
        self.sync_journal(self.journal.len());
    }

    fn sync_journal(&mut self, count: usize) {
        for change in self.journal.drain(..count) {
            change.apply(&mut self.durable_names);
        }
    }

    /// The changes that wait for a sync of this file never reach the disk; reads still see them.
    pub(super) fn fail_sync(&mut self, file: u64) {
        if let Some(content) = self.files.get_mut(&file) {
            content.pending.clear();
        }
    }

    pub(super) fn used_blocks(&self, file: u64) -> Vec<u64> {
        let bytes = self.files.get(&file).map_or(&[][..], |content| &content.durable);
        let blocks = bytes.chunks(BLOCK).enumerate();
        let used = blocks.filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        used.map(|(number, _)| (number * BLOCK) as u64).collect()
    }

    pub(super) fn flip(&mut self, file: u64, byte: u64, bit: u32) {
        let Some(content) = self.files.get_mut(&file) else { return };
        for bytes in [&mut content.cached, &mut content.durable] {
            if let Some(byte) = bytes.get_mut(byte as usize) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    pub(super) fn crash(&self, loss: Loss) -> Cells {
        if loss == Loss::Nothing {
            return self.clone();
        }
        let kept_names = match loss {
            Loss::Nothing | Loss::Torn => self.journal.len(),
            Loss::All => 0,
            Loss::Blocks(seed) => (rolled(seed) % (self.journal.len() as u64 + 1)) as usize,
        };
        let mut names = self.durable_names.clone();
        self.journal[..kept_names].iter().for_each(|change| change.apply(&mut names));
        let pending = self.files.values().flat_map(|content| &content.pending);
        let writes = pending.filter(|(_, change)| matches!(change, Change::Write { .. }));
        let torn = writes.map(|(number, _)| *number).max();
        let mut files = BTreeMap::new();
        for file in names.values() {
            let content = &self.files[file];
            let bytes = match loss {
                Loss::Nothing => content.cached.clone(),
                Loss::All => content.durable.clone(),
                Loss::Torn => torn_content(content, torn),
                Loss::Blocks(seed) => some_blocks(content, rolled(seed ^ rolled(*file))),
            };
            let content = Content { cached: bytes.clone(), durable: bytes, pending: vec![] };
            files.insert(*file, content);
        }
        let durable_names = names.clone();
        let (next_file, changes) = (self.next_file, self.changes);
        Cells { names, durable_names, journal: vec![], files, next_file, changes }
    }
}

fn torn_content(content: &Content, torn: Option<u64>) -> Vec<u8> {
    let mut bytes = content.durable.clone();
    for (number, change) in &content.pending {
        match change {
            Change::Write { at, data } if Some(*number) == torn => {
                let data = data[..data.len() / 2].to_vec();
                Change::Write { at: *at, data }.apply(&mut bytes);
            }
            change => change.apply(&mut bytes),
        }
    }
    bytes
}

/// Each block as it was after one of the changes of it, or before all of them.
fn some_blocks(content: &Content, seed: u64) -> Vec<u8> {
    let mut dice = seed;
    let mut heads = || {
        dice = rolled(dice);
        dice & 1 == 0
    };
    let mut cached = content.durable.clone();
    let mut kept = content.durable.clone();
    for (_, change) in &content.pending {
        change.apply(&mut cached);
        match change {
            Change::SetLen(len) => {
                if heads() {
                    kept.resize(*len as usize, 0);
                }
            }
            Change::Write { at, .. } => {
                for block in *at as usize / BLOCK..(change.end() as usize).div_ceil(BLOCK) {
                    let (start, end) = (block * BLOCK, ((block + 1) * BLOCK).min(cached.len()));
                    if heads() {
                        let data = cached[start..end].to_vec();
                        Change::Write { at: start as u64, data }.apply(&mut kept);
                    }
                }
            }
        }
    }
    kept
}

/// The first roll of a seed.
fn rolled(seed: u64) -> u64 {
    Dice::new(seed).roll()
}
