//! Building images with `POST /build` and `docker build`.

mod case;
mod cli;
mod golden;
