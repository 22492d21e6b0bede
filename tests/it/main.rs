//! The scenes: a real gateway, a fake upstream on a free port and a real client, one module per promise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod support;

mod admin;
mod backpressure;
mod bearer;
mod check;
mod clients;
mod cluster;
mod corpus;
mod demo_page;
mod doctor;
mod down;
mod edge;
mod endpoints;
mod forwarded;
mod http2;
mod http2_attacks;
mod http2_browser;
mod identity;
mod in_front;
mod keepalive;
mod layering;
mod legacy;
mod legacy_ends;
mod legacy_peers;
mod lifecycle;
mod limits;
mod logs;
mod manual;
mod one_url;
mod open;
mod proxy;
mod proxy_bodies;
mod proxy_trouble;
mod redis;
mod reload;
mod reopen;
mod revocations;
mod secrets;
mod smuggling;
mod split;
mod stop;
mod streams;
mod streams_access;
mod streams_browser;
mod strictness;
mod sunset;
mod ticket_command;
mod tickets;
mod tls;
mod up;
mod walk;
mod ways;
