//! Tables of admit.
