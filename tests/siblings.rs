//! The groups of tasks, `errgroup`, `sized` and `flow`: what they promise beyond the systems that they come
//! from.

mod closing;
mod errors;
mod flow;
mod flow_ends;
mod flow_retry;
mod flow_rules;
mod promises;
mod stress;
mod waits;
