//! Tables of judge.
