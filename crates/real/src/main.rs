//! The command line of `real`.
fn main() {}
