//! `flow`: what it promises beyond the systems that it comes from.

mod ends;
mod retry;
mod rules;
mod sets;
