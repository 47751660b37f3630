//! The texts of errors and panics of handlers. They are made by code of the handlers, which may panic, fail, or never
//! stop.

use std::any::Any;
use std::error::Error;
use std::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The maximum length of a text; longer texts are cut.
const LONGEST: usize = 8 * 1024;

/// The maximum number of sources that are followed.
const DEEPEST: usize = 16;

/// Returns the text of an error and its sources, in one line of limited length.
pub(super) fn error_text(error: &(dyn Error + 'static)) -> String {
    let mut text = Text::default();
    let said = catch_unwind(AssertUnwindSafe(|| {
        let mut next = Some(error);
        for depth in 0..DEEPEST {
            let Some(error) = next else { break };
            let mut own = Text::default();
            let whole = write!(own, "{error}").is_ok() || own.is_cut;
            // The text of some errors contains that of their source already.
            if depth == 0 || !text.kept.ends_with(&own.kept) {
                let between = if depth == 0 { "" } else { ": " };
                let _ = write!(text, "{between}{}", own.kept);
                text.is_cut |= own.is_cut;
            }
            if !whole {
                let _ = text.write_str("(the error could not be printed in full)");
            }
            next = error.source();
        }
    }));
    if let Err(payload) = said {
        let why = panic_text(&*payload);
        drop_quietly(payload);
        let _ = write!(text, "(an error that cannot be printed: {why})");
    }
    text.finish()
}

pub(super) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let said = payload.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| payload.downcast_ref::<&str>().copied());
    let mut text = Text::default();
    let said = said.unwrap_or("with something that is no text");
    let _ = write!(text, "panicked: {said}");
    text.finish()
}

/// Drops a value of a handler. Its destructor may panic, and so may the destructor of the panic's payload.
pub(super) fn drop_quietly<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value)))
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload)))
    {
        std::mem::forget(again);
    }
}

/// A buffer for text up to a limit. Beyond it a write fails, which also stops code that would never end.
#[derive(Default)]
struct Text {
    kept: String,
    is_cut: bool,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.kept.len() + c.len_utf8() > LONGEST {
                self.is_cut = true;
                return Err(fmt::Error);
            }
            // A zero byte cannot be stored, and other control characters must not reach a terminal.
            let is_wrong = c.is_control() && c != '\n' && c != '\t';
            self.kept.push(if is_wrong {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            });
        }
        Ok(())
    }
}

impl Text {
    fn finish(mut self) -> String {
        if self.is_cut {
            self.kept += " (cut)";
        }
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fmt;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{DEEPEST, LONGEST, error_text};

    #[derive(Debug)]
    struct Said {
        text: String,
        is_whole: bool,
        source: Option<Box<Said>>,
    }

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.text)?;
            self.is_whole.then_some(()).ok_or(fmt::Error)
        }
    }

    impl Error for Said {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            let source = self.source.as_deref()?;
            Some(source)
        }
    }

    fn said(text: &str, source: Option<Said>) -> Said {
        Said {
            text: text.to_owned(),
            is_whole: true,
            source: source.map(Box::new),
        }
    }

    #[test]
    fn sources_follow_and_are_not_said_twice() {
        let three = said("a", Some(said("b", Some(said("c", None)))));
        assert_eq!(error_text(&three), "a: b: c");
        let twice = said("a: b", Some(said("b", Some(said("c", None)))));
        assert_eq!(error_text(&twice), "a: b: c");
    }

    #[test]
    fn an_error_that_stops_half_way_says_so() {
        let half = Said {
            is_whole: false,
            ..said("half", None)
        };
        let text = error_text(&half);
        assert_eq!(text, "half(the error could not be printed in full)");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let text = error_text(&said(&"x".repeat(LONGEST + 1), None));
        assert_eq!(text, "x".repeat(LONGEST) + " (cut)");
    }

    /// Its source is an error like it.
    #[derive(Debug)]
    struct Endless;

    static ENDLESS: Endless = Endless;
    static SAID: AtomicUsize = AtomicUsize::new(0);

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", SAID.fetch_add(1, Ordering::SeqCst))
        }
    }

    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&ENDLESS)
        }
    }

    #[test]
    fn sources_without_an_end_are_followed_for_a_while() {
        let numbers: Vec<_> = (0..DEEPEST).map(|number| number.to_string()).collect();
        assert_eq!(error_text(&ENDLESS), numbers.join(": "));
    }
}
