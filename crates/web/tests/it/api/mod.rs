//! The compatible API from outside, line by line of `healthchecks.md` section 3, with badges and gauges.
//!
//! The shared conformance suite speaks to the whole server; what stands here is what it does not ask, and what must
//! never happen.

mod access;
pub mod house;
mod keys;
mod manners;
mod odd_input;
mod openapi;
mod reading;
mod writing;
