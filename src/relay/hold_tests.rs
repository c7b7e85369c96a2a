//! Tables of hold.
