//! A panic of user code, caught and kept as a value.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs user code whose panic must end here.
///
/// Nothing that the code could leave half changed is looked at afterwards: the caller drops it.
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, Payload> {
    catch_unwind(AssertUnwindSafe(code))
}

/// Drops a user's value; a panic of its destructor is handed to the caller.
pub(crate) fn discard<T>(value: T) -> Result<(), Payload> {
    catch(move || drop(value))
}

/// Drops a payload that nobody wants.
///
/// A payload can panic in its own destructor, and so can what *that* panic carries: the second one
/// is leaked, which ends the chain.
pub(crate) fn forget(payload: Payload) {
    if let Err(second) = discard(payload) {
        std::mem::forget(second);
    }
}

/// The text of a panic, as the default hook would print it.
pub(crate) fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "Box<dyn Any>"
    }
}

/// A caught panic that several may report and one may take.
#[derive(Clone)]
pub(crate) struct Caught {
    message: Arc<str>,
    payload: Arc<Keep>,
}

/// The payload until somebody takes it; dropped with care when nobody does.
struct Keep(Mutex<Option<Payload>>);

impl Keep {
    fn take(&self) -> Option<Payload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        if let Some(payload) = self.take() {
            forget(payload);
        }
    }
}

impl Caught {
    pub(crate) fn new(payload: Payload) -> Caught {
        Caught {
            message: message(&*payload).into(),
            payload: Arc::new(Keep(Mutex::new(Some(payload)))),
        }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The payload for the first who asks, the message for all others.
    pub(crate) fn into_payload(self) -> Payload {
        self.payload
            .take()
            .unwrap_or_else(|| Box::new(String::from(&*self.message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_taker_gets_the_payload_and_later_ones_the_message() {
        let caught =
            Caught::new(catch(|| std::panic::panic_any(String::from("boom"))).unwrap_err());
        let again = caught.clone();
        assert_eq!(caught.message(), "boom");
        assert_eq!(*caught.into_payload().downcast::<String>().unwrap(), "boom");
        assert_eq!(*again.into_payload().downcast::<String>().unwrap(), "boom");
    }

    #[test]
    fn a_payload_of_any_type_is_kept() {
        let caught = Caught::new(catch(|| std::panic::panic_any(7_u8)).unwrap_err());
        let again = caught.clone();
        assert_eq!(*caught.into_payload().downcast::<u8>().unwrap(), 7);
        assert_eq!(
            *again.into_payload().downcast::<String>().unwrap(),
            "Box<dyn Any>"
        );
    }

    #[test]
    fn a_payload_that_panics_when_dropped_harms_nobody() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                std::panic::panic_any(Second);
            }
        }
        struct Second;
        drop(Caught::new(Box::new(Bomb)));
        forget(Box::new(Bomb));
    }
}
