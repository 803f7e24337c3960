//! What users of a container engine rely on, tried through the stock `docker` CLI and raw HTTP. One file per subject, one behaviour per test.
//!
//! Run by `cargo xtask test`. `WHARF_E2E_DAEMON=dockerd` runs the same tests against an installed dockerd: that is how they were proven.

#![allow(missing_docs)]

mod attach;
mod attacks;
mod authorization;
mod bad_input;
mod build;
mod confinement;
mod contexts;
mod debian;
mod dns;
mod drivers;
mod enforcement;
mod errors;
mod events;
mod exec;
mod exit_codes;
mod files;
mod firewalld;
mod first_command;
mod health;
mod host_config;
mod images;
mod inspect;
mod isolation;
mod kills;
mod layers;
mod leaks;
mod lifecycle;
mod limits;
mod log_drivers;
mod logs;
mod metrics;
mod nested;
mod network;
mod network_options;
mod networks;
mod oci_runtime;
mod packaging;
mod ports;
mod ps;
mod registry;
mod registry_server;
mod registry_trust;
mod reload;
mod restart;
mod run;
mod runtimes;
mod same_as_docker;
mod sdk;
mod survival;
mod system;
mod systemd;
mod tty;
mod wait;
