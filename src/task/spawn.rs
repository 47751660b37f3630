//! The verbs of a group of tasks, written once for its owner and its handle, whose tasks may fail or not.

macro_rules! task_verbs {
    (
        impl [$($generics:tt)*] $end:ident [$($arguments:tt)*];
        error = $error:ty;
        output = $output:ty;
        caller = $caller:expr;
        $(#[doc = $rejected:literal])*
    ) => {
        impl $($generics)* $end $($arguments)* {
            /// Spawns a task and returns its index; tasks are counted from zero.
            ///
            /// Returns at once: a task over the limit is queued, in FIFO order. In a cancelled group the
            /// task is dropped and counted as skipped.
            $(#[doc = $rejected])*
            #[track_caller]
            pub fn spawn<F>(&self, task: F) -> usize
            where
                F: ::std::future::Future<Output = $output> + Send + 'static,
            {
                self.pool.spawn($caller, task)
            }

            /// Spawns a task that gets the group's token, to learn when and why it should end.
            ///
            /// Otherwise like `spawn`.
            $(#[doc = $rejected])*
            #[track_caller]
            pub fn spawn_with<F>(&self, task: impl FnOnce($crate::ground::token::Token) -> F) -> usize
            where
                F: ::std::future::Future<Output = $output> + Send + 'static,
            {
                self.pool.spawn($caller, task(self.token()))
            }

            /// Spawns a task if the limit is not reached or the queue has capacity, and returns its index.
            ///
            /// # Errors
            ///
            /// Gives the task back if the limit is reached and the queue is full, which is counted as
            /// discarded, or if the group is closed or cancelled.
            #[track_caller]
            pub fn try_spawn<F>(
                &self,
                task: F,
            ) -> Result<usize, $crate::task::refusal::SpawnError<F>>
            where
                F: ::std::future::Future<Output = $output> + Send + 'static,
            {
                use $crate::task::{pool::shared::Entry, refusal::SpawnError};

                let caller = ::std::panic::Location::caller();
                match self.pool.try_spawn($caller, caller, task)? {
                    Entry::In(index) => Ok(index),
                    Entry::Full(task) => {
                        self.pool.discarded();
                        Err(SpawnError::Full(task))
                    }
                }
            }

            /// Spawns a task once the limit is not reached or the queue has capacity; resolves to its index.
            ///
            /// Callers are served in the order of their first polls, and tasks that were spawned before
            /// them come first. From a task of the group it can wait for its own slot: use `spawn` there.
            ///
            /// # Cancel safety
            ///
            /// Dropped before it has resolved, the task is dropped with it and no slot is lost; if the
            /// group had taken it in by then, it runs.
            ///
            /// # Errors
            ///
            /// Gives the task back if the group is closed before the first poll, or cancelled.
            #[track_caller]
            pub fn submit<F>(&self, task: F) -> $crate::task::submit::Submit<'_, F, $error>
            where
                F: ::std::future::Future<Output = $output> + Send + 'static,
            {
                $crate::task::submit::Submit::new(&self.pool, $caller, task)
            }

            /// Returns the group's token.
            pub fn token(&self) -> $crate::ground::token::Token {
                self.pool.token().clone()
            }

            /// Returns how many tasks are queued.
            pub fn pending(&self) -> usize {
                self.stats().pending
            }

            /// Returns how many tasks are running.
            pub fn running(&self) -> usize {
                self.stats().running
            }

            /// Returns the counts of the group's tasks by outcome.
            pub fn stats(&self) -> $crate::task::policy::TaskStats {
                self.pool.stats()
            }

            /// Cancels the token; tasks that have not started are skipped.
            ///
            /// Running tasks go on: they see it through their token.
            pub fn cancel(&self) {
                self.pool.cancel();
            }

            /// Cancels the group, and stops running tasks at their next await.
            pub fn abort(&self) {
                self.pool.abort();
            }
        }

        impl $($generics)* ::std::fmt::Debug for $end $($arguments)* {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(stringify!($end))
                    .field("stats", &self.pool.stats())
                    .field("cause", &self.pool.token().cause())
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use task_verbs;
