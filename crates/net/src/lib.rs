//! Connections between processes: the one connector, the one listener, the one caller of the
//! placement driver.
