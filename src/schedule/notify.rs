//! Tells systemd how the service is, in its own small protocol: a line in a datagram.

use std::env;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Where the service manager listens, if it started this process.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
}

impl Notifier {
    /// From `NOTIFY_SOCKET`; without it, or if nobody listens there, every message goes nowhere.
    pub fn from_environment() -> Self {
        let connect = |name: std::ffi::OsString| -> std::io::Result<UnixDatagram> {
            let socket = UnixDatagram::unbound()?;
            #[cfg(target_os = "linux")]
            if let Some(name) = name.to_str().and_then(|name| name.strip_prefix('@')) {
                use std::os::linux::net::SocketAddrExt;
                use std::os::unix::net::SocketAddr;
                socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
                return Ok(socket);
            }
            socket.connect(name)?;
            Ok(socket)
        };
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            connect(name).inspect_err(|error| tracing::warn!(%error, "the service manager cannot be reached")).ok()
        });
        Self { socket }
    }

    /// The service can work.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The loop of ticks lives; without such a word for `WatchdogSec` the service is started anew.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// The configuration is being read again; [`ready`](Self::ready) ends it.
    pub fn reloading(&self, steady_micros: i64) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={steady_micros}"));
    }

    /// The service ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// What the service is doing, for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// The service needs longer to start or to stop than it may.
    pub fn needs(&self, time: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()));
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            // A manager that cannot take it now gets the next one.
            let _ = socket.send(message.as_bytes());
        }
    }
}
