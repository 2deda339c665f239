//! What a machine reads at its first boot, for fuzzing by coverage.

use super::guest::user_data;

/// The user data of a server, in whichever of its formats.
pub fn user_data(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _plan = user_data::parse(text);
    let _values = user_data::variables(text);
}
