//! Images as the API shows them, over the store.
