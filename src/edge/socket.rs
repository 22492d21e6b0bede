//! What the system knows of a socket and the standard library does not ask it.

use std::os::fd::AsFd;

/// Bytes that were written to a TCP socket and that its peer has not acknowledged yet; `None` where the system does not say.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "this question has no safe wrapper; its answer is one integer, written to one of ours")]
pub(super) fn unacknowledged(socket: &impl AsFd) -> Option<u32> {
    use std::os::fd::AsRawFd as _;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed and open for the call, and TIOCOUTQ writes one int to where it is told.
    let asked = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if asked == 0 { u32::try_from(bytes).ok() } else { None }
}

/// Other systems do not say it in this way.
#[cfg(not(target_os = "linux"))]
pub(super) fn unacknowledged(_: &impl AsFd) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_a_peer_does_not_take_stays_unacknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut reader, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(&writer), Some(0));
        writer.set_nonblocking(true).unwrap();
        while writer.write(&[0; 16 * 1024]).is_ok() {}
        assert!(unacknowledged(&writer).unwrap() > 0);
        // Its end comes behind all that was written.
        writer.shutdown(std::net::Shutdown::Write).unwrap();
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        while unacknowledged(&writer) != Some(0) {
            std::thread::yield_now();
        }
    }
}
