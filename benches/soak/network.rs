//! A cable that can be pulled: a network namespace behind a pair of virtual interfaces.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// The gateway's end; `.2` is the clients'. A range for benchmarks (RFC 2544), so that nothing real is hidden.
pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 77, 1));

pub(crate) struct Cable {
    namespace: String,
    inner: String,
}

impl Cable {
    /// The error says why it cannot be made on this machine.
    pub(crate) fn new() -> Result<Self, String> {
        let id = std::process::id();
        let (namespace, outer, inner) = (format!("soak-{id}"), format!("so{id}"), format!("si{id}"));
        ip(&["netns", "add", &namespace])?;
        let cable = Self { namespace, inner };
        let Self { namespace, inner } = &cable;
        ip(&["link", "add", &outer, "type", "veth", "peer", "name", inner, "netns", namespace])?;
        ip(&["addr", "add", "198.18.77.1/30", "dev", &outer])?;
        ip(&["link", "set", &outer, "up"])?;
        ip(&["-n", namespace, "addr", "add", "198.18.77.2/30", "dev", inner])?;
        ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        cable.plug()?;
        Ok(cable)
    }

    /// Packets go through.
    pub(crate) fn plug(&self) -> Result<(), String> {
        ip(&["-n", &self.namespace, "link", "set", &self.inner, "up"])
    }

    /// No packet goes through, in either direction; nobody is told.
    pub(crate) fn pull(&self) -> Result<(), String> {
        ip(&["-n", &self.namespace, "link", "set", &self.inner, "down"])
    }

    /// This program on the far end. `ip` becomes it, so the process is the program's.
    pub(crate) fn beyond(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(std::env::current_exe().unwrap());
        command
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The interfaces go with it.
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).output().map_err(|error| format!("cannot run ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
