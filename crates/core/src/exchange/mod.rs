//! The shape of any call outward, as data: what to ask, and what came of it.
//!
//! An integration makes a [`Request`], crate `outbound` carries it out and answers with an [`Outcome`], `retry` judges
//! that. A call that failed is data and no error. What a stranger may learn of a failure is an [`ErrorClass`] and
//! nothing else: resolved addresses and the words of the other side are in [`Outcome::detail`], for administrators,
//! since whoever can aim requests and read such words has a port scanner.

mod outcome;
mod request;
#[cfg(test)]
mod tests;

pub use outcome::{Answer, End, ErrorClass, Outcome, Phase, Phases, RetryAfter, cut, escaped, escaped_line};
pub use request::{Budget, Class, Header, Method, Request, Take};
