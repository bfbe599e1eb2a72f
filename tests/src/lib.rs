//! The harness and the house tests over real sockets.
