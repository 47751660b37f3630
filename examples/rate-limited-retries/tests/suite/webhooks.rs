//! The service of the example `webhooks`. Its tests are beside its code, since they need its table.
// Its requests are left out here.
#![allow(dead_code)]

#[path = "../../examples/webhooks/http.rs"]
mod http;
#[path = "../../examples/webhooks/service.rs"]
mod service;
