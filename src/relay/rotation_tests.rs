//! Tables of rotation.
