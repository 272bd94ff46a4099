//! The placement driver: ids, stores, the range map, repair and operators.
