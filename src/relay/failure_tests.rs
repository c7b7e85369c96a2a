//! Tables of failure.
