//! Digests that compare parts of a configuration.

use std::hash::{DefaultHasher, Hash, Hasher};

/// Returns a digest of a value, equal in every process of one build.
pub fn digest(value: &impl Hash) -> u64 {
    let mut digest = DefaultHasher::new();
    value.hash(&mut digest);
    digest.finish()
}
