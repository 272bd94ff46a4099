//! Golden scripts of the store's core: a behaviour across stores is a file in `testscripts/`,
//! named as a sentence.
//!
//! Several workers live in one thread over logs and states in memory. [`store`] is one of them
//! with a driver that keeps the contract of `Output`, [`world`] the network and the clock between
//! them, [`commands`] the language, [`check`] what must hold after each command. To rewrite the
//! scripts after a change, run the test with `UPDATE_GOLDEN=1` and review the diff.

mod check;
mod commands;
mod disturb;
mod requests;
mod show;
mod store;
mod world;

#[path = "../../../group/tests/golden/script.rs"]
mod script;
#[path = "../../../group/tests/golden/trace.rs"]
mod trace;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts");

macro_rules! scripts {
    ($($name:ident,)*) => {
        $(#[test]
        fn $name() {
            script::check(DIR, stringify!($name), &mut world::World::default());
        })*

        #[test]
        fn every_script_is_run() {
            script::check_names(DIR, &[$(stringify!($name)),*]);
        }
    };
}

scripts! {
    write_reaches_three_stores,
}
