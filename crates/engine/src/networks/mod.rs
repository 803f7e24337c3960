//! Networks as the API shows them, over the network manager.
