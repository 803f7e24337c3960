//! The `hello-world` image that is built into the program: what the first command runs on a machine without a network.
//!
//! Nothing of it comes from outside: a program of a few instructions, its greeting, and the archive around them are
//! made in memory, always the same bytes, so its image ID never changes between machines of one kind.

pub mod archive;
pub mod elf;

pub use archive::archive;

/// What the program prints.
pub const GREETING: &str = "
Hello from Wharf!

This text was printed by a container. To get here,
 1. the client asked the daemon to create a container from the image hello-world;
 2. no registry answered, so the client loaded the small image that is built into it;
 3. the daemon unpacked the image, and a monitor process of its own was put beside the container;
 4. the container's one program wrote this text, and the monitor passed it to your terminal.

What to try next, with an image of your own:
    wharf load -i image.tar        (what `docker save` wrote)
    wharf run -it --rm IMAGE sh

";
