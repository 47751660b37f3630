//! All tests that may share a process, a module for each family: what many programs would link anew each.
//!
//! A program of its own has what counts the allocations of its whole process (`memory`, `keyed_memory`,
//! `siblings_memory`, `tracing`) or needs a tool that nothing else does (the packages below `tests`).
#![forbid(unsafe_code)]

mod common;

mod cases;
mod faults;
mod floors;
mod golang;
mod keyed;
mod keyed_values;
mod map;
mod misuse;
mod periodic;
mod promises;
mod regression_1;
mod regression_2;
mod regression_3;
mod siblings;
mod trusted;
mod types;
