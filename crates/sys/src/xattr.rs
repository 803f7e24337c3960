//! Extended attributes on symlinks and by descriptor.
