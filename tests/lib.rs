//! Tests that cross crates live in `tests/` of this package; here is what they share.

use eas_text::TextError;
use eas_text::minilm::MiniLm;

/// MiniLM, or `None` after saying on stderr that the test is skipped, and which command fetches the model.
///
/// # Panics
/// When the model is here and can't be read.
pub fn minilm() -> Option<MiniLm> {
    match MiniLm::load() {
        Ok(model) => Some(model),
        Err(TextError::MissingModel { command, .. }) => {
            eprintln!("skipped: all-MiniLM-L6-v2 isn't here, run {command}");
            None
        }
        Err(other) => panic!("{other}"),
    }
}
