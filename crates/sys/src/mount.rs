//! The mount API by descriptor: fsopen, fsconfig, fsmount, move_mount, open_tree, mount_setattr, pivot_root, openat2.
