//! The HTTP API, by a client that knows nothing of the server but its address.

mod access;
mod contract;
mod customers;
mod groups;
mod histories;
mod inputs;
mod lists;
mod payments;
mod program;
mod races;
mod server;
mod subscriptions;
