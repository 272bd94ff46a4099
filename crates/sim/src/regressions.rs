//! The list of seeds that once failed: `regressions.txt`, read at compile time.

const TEXT: &str = include_str!("../regressions.txt");

/// A seed that once failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regression {
    /// The seed.
    pub seed: u64,
    /// What the seed found.
    pub found: &'static str,
}

/// All regressions, in the order of the file. Lines that begin with `#` are comments.
pub fn all() -> Vec<Regression> {
    let lines = TEXT.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.filter_map(parse).collect()
}

fn parse(line: &'static str) -> Option<Regression> {
    let (seed, found) = line.split_once(' ')?;
    Some(Regression { seed: seed.parse().ok()?, found: found.trim() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_names_a_seed_and_what_it_found() {
        let lines = TEXT.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        assert_eq!(all().len(), lines.count());
        assert!(all().iter().all(|regression| !regression.found.is_empty()));
        assert!(!all().is_empty());
    }
}
