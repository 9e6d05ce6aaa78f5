//! The HTTP API, by a client that knows nothing of the server but its address.

mod access;
mod contract;
mod groups;
mod inputs;
mod lists;
mod races;
mod server;
