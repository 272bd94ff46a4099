//! Starts real Flotilla processes for the black-box tests.
