//! Progress of long work on standard error: a bar on a terminal, a line now and then elsewhere.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often work that is not watched on a terminal says how far it is.
const LINE_EVERY: Duration = Duration::from_secs(20);

/// The progress of one piece of work.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    name: String,
    last_line: Instant,
}

impl Progress {
    /// Starts to show `total` units of work called `name`.
    pub(crate) fn new(name: &str, total: usize) -> Self {
        Self::resumed(name, 0, total)
    }

    /// Starts to show work of which `done` units were done before: the time that is left is told from the rest.
    pub(crate) fn resumed(name: &str, done: usize, total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(
            "{prefix:>10} {bar:30} {pos:>5}/{len} {elapsed:>4} (eta {eta}) {msg}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(name.to_owned());
        bar.set_position(done as u64);
        bar.reset_eta();
        bar.tick();
        if bar.is_hidden() {
            eprintln!("{name} {done}/{total}");
        }
        Self { bar, name: name.to_owned(), last_line: Instant::now() }
    }

    /// `done` units are done; `message` are the figures that matter.
    pub(crate) fn set(&mut self, done: usize, message: &str) {
        self.bar.set_position(done as u64);
        self.bar.set_message(message.to_owned());
        let total = self.bar.length().unwrap_or(0) as usize;
        if self.bar.is_hidden() && (done == total || self.last_line.elapsed() > LINE_EVERY) {
            eprintln!("{} {done}/{total} {message}", self.name);
            self.last_line = Instant::now();
        }
    }

    /// The work is over; the bar stays as it is.
    pub(crate) fn finish(self) {
        self.bar.abandon();
    }
}
