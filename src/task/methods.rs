//! The methods of the owner of a group and of its handles, written once.

macro_rules! task_methods {
    (
        impl $end:ident;
        caller = $caller:expr;
        $(#[doc = $rejected:literal])*
    ) => {
        impl<E: Send + 'static> $end<E> {
            /// Spawns a task and returns its index; tasks and members are counted together, from zero.
            ///
            /// It returns at once: a task beyond the limit is queued in FIFO order, however long the queue is. If the
            /// group was cancelled, as by the error of another task, the task is dropped and counted as skipped.
            $(#[doc = $rejected])*
            ///
            /// # Examples
            ///
            /// ```
            /// use schedgroup::task::TaskGroup;
            ///
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() {
            /// let group = TaskGroup::new();
            /// assert_eq!(group.spawn(async { Ok(()) }), 0);
            /// assert_eq!(group.handle().spawn(async { Err("no route") }), 1);
            /// assert_eq!(group.wait().await.unwrap_err().index(), Some(1));
            /// # }
            /// ```
            #[track_caller]
            pub fn spawn<F>(&self, task: F) -> usize
            where
                F: Future<Output: $crate::task::output::TaskOutput<E>> + Send + 'static,
            {
                self.pool.spawn($caller, task)
            }

            /// Spawns a task that gets the group's token, to see when it should end, and returns its index.
            ///
            /// Otherwise like `spawn`. `cause` returns why the token was cancelled. The closure that makes the task is
            /// called at once, also if the task is queued or skipped.
            $(#[doc = $rejected])*
            ///
            /// # Examples
            ///
            /// ```
            /// use schedgroup::task::TaskGroup;
            ///
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() {
            /// let group = TaskGroup::new();
            /// group.spawn_with(|token| async move {
            ///     token.cancelled().await;
            ///     println!("the last steps");
            /// });
            /// group.cancel();
            /// assert_eq!(group.wait().await.unwrap().finished, 1);
            /// # }
            /// ```
            #[track_caller]
            pub fn spawn_with<F>(
                &self,
                task: impl FnOnce($crate::CancellationToken) -> F,
            ) -> usize
            where
                F: Future<Output: $crate::task::output::TaskOutput<E>> + Send + 'static,
            {
                self.pool.spawn($caller, task(self.token()))
            }

            /// Spawns a task if the limit is not reached or the queue has capacity, and returns its index.
            ///
            /// # Errors
            ///
            /// The error has the task in it: [`Full`](crate::ScheduleError::Full) if the limit is reached and the
            /// queue is full, which the stats count as discarded; [`Closed`](crate::ScheduleError::Closed) or
            /// [`Cancelled`](crate::ScheduleError::Cancelled) if the group has ended.
            ///
            /// # Examples
            ///
            /// ```
            /// use schedgroup::ScheduleError;
            /// use schedgroup::task::TaskGroup;
            ///
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() {
            /// let group = TaskGroup::builder().limit(1).queue(1).build();
            /// assert!(group.try_spawn(async {}).is_ok()); // runs
            /// assert!(group.try_spawn(async {}).is_ok()); // is queued
            /// assert!(matches!(group.try_spawn(async {}), Err(ScheduleError::Full(_))));
            /// # }
            /// ```
            #[doc(alias = "TryGo")]
            #[track_caller]
            pub fn try_spawn<F>(&self, task: F) -> Result<usize, $crate::ScheduleError<F>>
            where
                F: Future<Output: $crate::task::output::TaskOutput<E>> + Send + 'static,
            {
                self.pool.try_spawn($caller, task)
            }

            /// Waits until the limit is not reached or the queue has capacity, then spawns a task and resolves to its
            /// index. It is backpressure for the caller.
            ///
            /// Callers are served in FIFO order of their first polls, after tasks that were spawned before. In a task
            /// of the group it could wait for that task's own slot: use `spawn` there.
            ///
            /// # Cancel safety
            ///
            /// If the future is dropped before it has resolved, the task is dropped with it and no slot is
            /// lost; if the group had accepted the task by then, it runs.
            ///
            /// # Errors
            ///
            /// The error has the task in it: [`Closed`](crate::ScheduleError::Closed) if the group was closed before
            /// the first poll, [`Cancelled`](crate::ScheduleError::Cancelled) if it was cancelled, as by the error of
            /// another task. `wait` of the group returns that error. So do not use `?` here, which would hide it: leave
            /// the loop that submits, and call `wait`.
            ///
            /// # Examples
            ///
            /// ```
            /// use schedgroup::task::TaskGroup;
            ///
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() {
            /// let group = TaskGroup::builder().limit(10).build();
            /// for _ in 0..100 {
            ///     group.submit(async {}).await.expect("nothing closes or cancels it");
            ///     assert_eq!(group.stats().pending, 0);
            /// }
            /// assert_eq!(group.wait().await.unwrap().finished, 100);
            /// # }
            /// ```
            #[track_caller]
            pub fn submit<F>(&self, task: F) -> $crate::task::submit::Submit<'_, F, E>
            where
                F: Future<Output: $crate::task::output::TaskOutput<E>> + Send + 'static,
            {
                $crate::task::submit::Submit::new(&self.pool, $caller, task)
            }

            /// Returns the group's own token: it is cancelled with the group and at its end, and cancelling it
            /// cancels the group.
            ///
            /// # Examples
            ///
            /// ```
            /// use schedgroup::task::TaskGroup;
            ///
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() {
            /// let group = TaskGroup::new();
            /// let token = group.token();
            /// group.spawn(async { Err("no route") });
            /// assert!(group.wait().await.is_err());
            /// assert!(token.is_cancelled());
            /// # }
            /// ```
            pub fn token(&self) -> $crate::CancellationToken {
                self.pool.token().clone()
            }

            /// Returns why the group's token was cancelled; `None` while it is not.
            ///
            /// # Examples
            ///
            /// ```
            /// use schedgroup::task::{Cause, OnError, TaskGroup};
            ///
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() {
            /// let group = TaskGroup::builder().on_error(OnError::Cancel).build();
            /// let handle = group.handle();
            /// group.spawn_with(|token| async move {
            ///     token.cancelled().await;
            ///     assert_eq!(handle.cause(), Some(Cause::Failed { index: 1 }));
            ///     Ok(())
            /// });
            /// group.spawn(async { Err("no route") });
            /// assert_eq!(group.wait().await.unwrap_err().index(), Some(1));
            /// # }
            /// ```
            pub fn cause(&self) -> Option<$crate::task::policy::Cause> {
                self.pool.cause()
            }

            /// Returns the counts of the group's tasks by outcome.
            ///
            /// # Examples
            ///
            /// ```
            /// use schedgroup::task::TaskGroup;
            ///
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() {
            /// let group = TaskGroup::builder().limit(1).build();
            /// group.spawn(async {});
            /// group.spawn(async {});
            /// assert_eq!((group.stats().running, group.stats().pending), (1, 1));
            /// # }
            /// ```
            pub fn stats(&self) -> $crate::task::stats::TaskStats {
                self.pool.stats()
            }

            /// Cancels the group's token; tasks that have not started are skipped.
            ///
            /// Running tasks are not interrupted: they see the cancel through their token, and `wait` waits for them. The
            /// group is not closed, but tasks that are spawned later are skipped.
            ///
            /// # Examples
            ///
            /// ```
            /// use schedgroup::task::{Cause, TaskGroup};
            ///
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() {
            /// let group = TaskGroup::builder().limit(1).build();
            /// group.spawn_with(|token| async move { token.cancelled().await });
            /// group.spawn(async { unreachable!("it is skipped") });
            /// group.cancel();
            /// assert_eq!(group.cause(), Some(Cause::Cancelled));
            /// assert!(group.wait().await.is_err(), "a task was skipped");
            /// assert_eq!((group.stats().finished, group.stats().skipped), (1, 1));
            /// # }
            /// ```
            pub fn cancel(&self) {
                self.pool.cancel();
            }

            /// Cancels the group, and stops running tasks at their next await.
            ///
            /// A task that blocks its thread cannot be stopped. `wait` still waits for members.
            ///
            /// # Examples
            ///
            /// ```
            /// use schedgroup::TaskError;
            /// use schedgroup::task::TaskGroup;
            ///
            /// # #[tokio::main(flavor = "current_thread")]
            /// # async fn main() {
            /// let group = TaskGroup::new();
            /// group.spawn(std::future::pending::<()>());
            /// group.abort();
            /// assert!(matches!(group.wait().await, Err(TaskError::Cancelled)));
            /// # }
            /// ```
            pub fn abort(&self) {
                self.pool.abort();
            }
        }

        impl<E: Send + 'static> ::std::fmt::Debug for $end<E> {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(stringify!($end))
                    .field("name", &self.pool.name())
                    .field("stats", &self.pool.stats())
                    .field("cause", &self.pool.cause())
                    .finish_non_exhaustive()
            }
        }
    };
}
pub(super) use task_methods;
