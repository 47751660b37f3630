//! What the crate uses of tokio, over shuttle: its stand-in, and the parts of a runtime that it leaves out.
#![forbid(unsafe_code)]

pub use shuttle_tokio::{sync, task, time};

/// The runtime that is everywhere: each task is a thread of shuttle's.
pub mod runtime {
    use std::mem::ManuallyDrop;

    use shuttle_tokio::runtime;
    use shuttle_tokio::task::{AbortHandle, JoinHandle};

    /// Spawns tasks.
    #[derive(Clone, Debug)]
    pub struct Handle(runtime::Handle);

    /// There is always a runtime, which the crate cannot know.
    #[derive(Debug)]
    pub struct TryCurrentError;

    /// The kinds that the crate tells apart.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum RuntimeFlavor {
        /// Not this one.
        CurrentThread,
        /// As here: tasks run beside each other.
        MultiThread,
    }

    /// A task.
    #[derive(Debug)]
    pub struct Spawned<T>(ManuallyDrop<JoinHandle<T>>);

    impl<T> Spawned<T> {
        /// Stops it at its next await.
        pub fn abort_handle(&self) -> AbortHandle {
            self.0.abort_handle()
        }
    }

    /// Says that one is inside.
    #[derive(Debug)]
    pub struct EnterGuard;

    /// How large the runtime is.
    #[derive(Debug)]
    pub struct RuntimeMetrics;

    impl Handle {
        /// The one there is.
        pub fn current() -> Handle {
            Handle(runtime::Handle::current())
        }

        /// The same.
        pub fn try_current() -> Result<Handle, TryCurrentError> {
            Ok(Handle::current())
        }

        /// Everything is inside of it already.
        pub fn enter(&self) -> EnterGuard {
            EnterGuard
        }

        /// A thread of shuttle's for the future. It is never let go: an order is over when all of them
        /// have ended, and one that does not end is a deadlock.
        pub fn spawn<F>(&self, future: F) -> Spawned<F::Output>
        where
            F: Future + Send + 'static,
            F::Output: Send + 'static,
        {
            Spawned(ManuallyDrop::new(self.0.spawn(future)))
        }

        /// Not a current-thread runtime.
        pub fn runtime_flavor(&self) -> RuntimeFlavor {
            RuntimeFlavor::MultiThread
        }

        /// See there.
        pub fn metrics(&self) -> RuntimeMetrics {
            RuntimeMetrics
        }
    }

    impl RuntimeMetrics {
        /// As many workers at once as a group starts here.
        pub fn num_workers(&self) -> usize {
            2
        }
    }
}
