//! The HTTP API, by a client that knows nothing of the server but its address.

mod access;
mod contract;
mod customers;
mod documents;
mod groups;
mod guesses;
mod histories;
mod inputs;
mod lists;
mod payments;
mod program;
mod races;
mod runs;
mod server;
mod subscriptions;
mod tenant;
