//! The server over real sockets, in front of judges that are told what to say.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod load;
mod support;
