//! Whether a server accepts connections, and which one it is.
//!
//! The one rule: **only its own greeting counts.** A pid file or a socket may be left over; a server
//! that names its version after a login is there.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::{ANSWER_LIMIT, PORT};

pub(super) enum Answer {
    /// It accepts connections; its version.
    Ready(String),
    /// Nobody listens, or not yet; what was seen.
    NotYet(String),
}

/// Logs in as the superuser, as far as the server's greeting.
pub(super) async fn ask(socket_dir: &Path) -> Answer {
    let socket = socket_in(socket_dir);
    match timeout(ANSWER_LIMIT, greeting(&socket)).await {
        Ok(Ok(Ok(version))) => Answer::Ready(version),
        Ok(Ok(Err(refusal))) => Answer::NotYet(refusal),
        Ok(Err(error)) => Answer::NotYet(format!("{}: {error}", socket.display())),
        Err(_) => Answer::NotYet(format!("{}: no answer", socket.display())),
    }
}

/// The server's version, or its refusal.
async fn greeting(socket: &Path) -> io::Result<Result<String, String>> {
    let mut stream = UnixStream::connect(socket).await?;
    let request = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let length = u32::try_from(request.len() + 4).map_err(io::Error::other)?;
    stream.write_u32(length).await?;
    stream.write_all(request).await?;
    let mut version = None;
    loop {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?.saturating_sub(4);
        let mut body = Vec::new();
        (&mut stream)
            .take(u64::from(length))
            .read_to_end(&mut body)
            .await?;
        let mut fields = body.split(|&byte| byte == 0).map(String::from_utf8_lossy);
        match kind {
            b'S' if fields.next().as_deref() == Some("server_version") => {
                let text = fields.next().unwrap_or_default();
                version = text.split_whitespace().next().map(str::to_owned);
            }
            b'E' => {
                let message = fields
                    .find(|field| field.starts_with('M'))
                    .unwrap_or_default();
                return Ok(Err(message.chars().skip(1).collect()));
            }
            b'Z' => {
                stream.write_all(b"X\0\0\0\x04").await?;
                return Ok(version.ok_or_else(|| "it does not tell its version".to_owned()));
            }
            _ => {}
        }
    }
}

/// The socket file in a directory of sockets.
pub(super) fn socket_in(dir: &Path) -> PathBuf {
    dir.join(format!(".s.PGSQL.{PORT}"))
}
