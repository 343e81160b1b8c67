//! The native API from outside: pages, answers given once, tags, signatures, events, quotas.

mod calls;
mod events;
mod history;
mod openapi;
mod pauses;
mod rules;
mod shapes;
