//! The judges. Each gets the same bytes and knows nothing of the others.

pub(crate) mod audit;
pub(crate) mod flags;
pub(crate) mod noise;
pub(crate) mod queries;
pub(crate) mod security;
pub(crate) mod tests;
pub(crate) mod types;
