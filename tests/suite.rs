//! All tests that may share a process, a module for each family: what many programs would link anew each.
//!
//! A program of its own has what counts the allocations of its whole process (`memory`, `keyed_memory`,
//! `task_memory`, `tracing`) or needs a tool that nothing else does (the packages below `tests`).
#![forbid(unsafe_code)]

mod common;

mod cases;

// What `CASES_ALONE=1 .ci/sanitize` does not build.
#[cfg(not(cases_alone))]
mod faults;
#[cfg(not(cases_alone))]
mod floors;
#[cfg(not(cases_alone))]
mod flow;
#[cfg(not(cases_alone))]
mod golang;
#[cfg(not(cases_alone))]
mod keyed;
#[cfg(not(cases_alone))]
mod map;
#[cfg(not(cases_alone))]
mod misuse;
#[cfg(not(cases_alone))]
mod periodic;
#[cfg(not(cases_alone))]
mod promises;
#[cfg(not(cases_alone))]
mod regressions;
#[cfg(not(cases_alone))]
mod signatures;
#[cfg(not(cases_alone))]
mod task;
#[cfg(not(cases_alone))]
mod trusted;
#[cfg(not(cases_alone))]
mod types;
