//! Jobs as values.

use std::any::Any;
use std::fmt;
use std::hash::{BuildHasher, Hash};

use super::handle::KeyedContext;
use crate::Job;
use crate::common::panic::Guarded;
use crate::sched::JobFuture;

/// A job as the value of a key: the default type of the values of a [`KeyedGroup`](super::KeyedGroup).
///
/// It is one allocation, of the size of the job. Methods that take a job box it; methods that return a value return
/// this type, so that the job can be inserted again.
///
/// A job of [`delay_with`](super::KeyedGroup::delay_with) or [`schedule_with`](super::KeyedGroup::schedule_with) fits
/// only keyed groups that have the same types of keys and hasher. In any other it panics when it starts.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use schedgroup::keyed::{BoxedJob, KeyedGroup, OnDuplicate};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), schedgroup::WaitError> {
/// let (today, tomorrow) = (KeyedGroup::new(), KeyedGroup::new());
/// let job = BoxedJob::new(async { println!("done after all") });
/// today.insert_after("report", job, Duration::from_secs(1), OnDuplicate::Replace);
/// if let Some(job) = today.remove("report") {
///     tomorrow.insert_after("report", job, Duration::from_secs(2), OnDuplicate::Replace);
/// }
/// tomorrow.wait().await
/// # }
/// ```
pub struct BoxedJob(Box<dyn Start>);

/// A job that has not started. `context` is an `Option` of the context of its run, of the type that belongs to the
/// keyed group.
trait Start: Send {
    fn start(self: Box<Self>, context: &mut dyn Any) -> JobFuture;
}

impl<J: Job> Start for J {
    fn start(self: Box<Self>, _: &mut dyn Any) -> JobFuture {
        Box::into_pin(self)
    }
}

/// A job that is made when it starts.
struct Lazy<F, C> {
    make: F,
    context: std::marker::PhantomData<fn(C)>,
}

impl<F, C, J> Start for Lazy<F, C>
where
    F: FnOnce(C) -> J + Send + 'static,
    C: 'static,
    J: Job,
{
    fn start(self: Box<Self>, context: &mut dyn Any) -> JobFuture {
        let make = Guarded::new(self.make);
        let context = context
            .downcast_mut::<Option<C>>()
            .and_then(Option::take)
            .expect("schedgroup: a job with a context was moved to a keyed group of other keys");
        Box::pin(make.into_inner()(context))
    }
}

impl BoxedJob {
    /// Boxes a job, so that it can be inserted as a value.
    ///
    /// # Examples
    ///
    /// ```
    /// # use schedgroup::keyed::BoxedJob;
    /// let job = BoxedJob::new(async { println!("done") });
    /// ```
    pub fn new(job: impl Job) -> BoxedJob {
        BoxedJob(Box::new(job))
    }

    pub(super) fn lazy<C: 'static, J: Job>(make: impl FnOnce(C) -> J + Send + 'static) -> BoxedJob {
        BoxedJob(Box::new(Lazy {
            make,
            context: std::marker::PhantomData,
        }))
    }

    pub(super) fn start<K, S>(self, context: KeyedContext<K, BoxedJob, S>) -> JobFuture
    where
        K: Eq + Hash + Send + 'static,
        S: BuildHasher + Send + Sync + 'static,
    {
        self.0.start(&mut Some(context))
    }
}

impl<J: Job> From<J> for BoxedJob {
    fn from(job: J) -> BoxedJob {
        BoxedJob::new(job)
    }
}

impl fmt::Debug for BoxedJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxedJob")
    }
}

/// A value that [`debounce`](super::KeyedGroup::debounce) makes of its argument `T`, which is a value itself, or a job if
/// the values are jobs.
///
/// It is implemented for every value and, with every [`Job`], for [`BoxedJob`]. It cannot be implemented by hand.
// Of the value and not of the argument, so that the compiler infers the argument's type from that of the values.
pub trait ValueFrom<T>: sealed::Sealed<T> {
    #[doc(hidden)]
    fn value_from(argument: T) -> Self;
}

impl<V> ValueFrom<V> for V {
    fn value_from(value: V) -> V {
        value
    }
}

impl<J: Job> ValueFrom<J> for BoxedJob {
    fn value_from(job: J) -> BoxedJob {
        BoxedJob::new(job)
    }
}

mod sealed {
    use super::{BoxedJob, Job};

    pub trait Sealed<T> {}
    impl<V> Sealed<V> for V {}
    impl<J: Job> Sealed<J> for BoxedJob {}
}
