//! The HTTP API, by a client that knows nothing of the server but its address.

mod access;
mod contract;
mod groups;
mod histories;
mod inputs;
mod lists;
mod program;
mod races;
mod server;
