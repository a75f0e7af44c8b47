//! Progress bars on stderr.

use std::borrow::Cow;

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar on stderr for work of more than a second; silent when stderr is no terminal. It disappears when dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(label: &str, total: usize) -> Self {
        let bar = ProgressBar::new(total as u64).with_message(Cow::Owned(label.to_string()));
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:32}] {pos}/{len}, {eta} left") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self(bar)
    }

    /// One step is done.
    pub fn inc(&self) {
        self.0.inc(1);
    }

    /// `done` steps are done in all.
    pub fn set(&self, done: usize) {
        self.0.set_position(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
