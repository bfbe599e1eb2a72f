//! Randomness from the operating system.

/// `N` random bytes.
///
/// # Panics
/// When the operating system has no randomness to give: nothing secret could be made then.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).expect("the operating system provides randomness");
    bytes
}
