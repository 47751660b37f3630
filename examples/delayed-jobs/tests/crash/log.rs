//! What the workers did, line by line.

use std::fmt;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Start,
    Failed,
    Done,
}

/// Times are in microseconds of the store's clock.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) event: Event,
    pub(crate) number: u32,
    pub(crate) at: i64,
    pub(crate) run_at: i64,
    pub(crate) worker: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = match self.event {
            Event::Start => "start",
            Event::Failed => "failed",
            Event::Done => "done",
        };
        writeln!(
            f,
            "{event} {} {} {} {}",
            self.number, self.at, self.run_at, self.worker
        )
    }
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    Some(Line {
        event: match words.next()? {
            "start" => Event::Start,
            "failed" => Event::Failed,
            "done" => Event::Done,
            _ => return None,
        },
        number: words.next()?.parse().ok()?,
        at: words.next()?.parse().ok()?,
        run_at: words.next()?.parse().ok()?,
        worker: words.next()?.to_owned(),
    })
}

/// All lines so far, in the order in which they were written.
pub(crate) fn read(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).expect("the log");
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let lines = text[..whole].lines();
    lines
        .map(|line| parse(line).unwrap_or_else(|| panic!("a line of the log: {line}")))
        .collect()
}
