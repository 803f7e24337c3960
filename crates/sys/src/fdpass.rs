//! Passing file descriptors over unix sockets, peer credentials.
