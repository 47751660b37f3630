#[path = "../../../../src/keyed/index.rs"]
mod index;
#[path = "../../../../src/keyed/key.rs"]
mod key;
#[path = "../../../../src/keyed/queues.rs"]
mod queues;
#[path = "../../../../src/keyed/rows.rs"]
mod rows;
#[path = "../../../../src/keyed/rule.rs"]
mod rule;
#[path = "../../../../src/keyed/shared.rs"]
mod shared;
#[path = "../../../../src/keyed/table.rs"]
mod table;

mod handle;
mod models;
mod rt;
