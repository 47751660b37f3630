//! The trait that shuttle's tokio implements for its runtime.

pub mod async_executor {
    //! As in criterion.

    /// A runtime that a bench can run on.
    pub trait AsyncExecutor {
        /// Runs a future to its end.
        fn block_on<T>(&self, future: impl Future<Output = T>) -> T;
    }
}
