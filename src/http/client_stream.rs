//! The stream of a client connection. It limits how long a client may send nothing and how slowly it may receive.
//!
//! A time limit for each write would not stop a client that receives a few bytes from time to time: the service would
//! keep a long response in memory for hours. So the client must receive a response at [`MIN_RESPONSE_RATE`] on average.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::connections::OpenConnection;
use crate::metrics;

/// The lowest average rate at which a client may receive a response, in bytes per second.
const MIN_RESPONSE_RATE: u32 = 64 * 1024;

/// The time limits of a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamTimeouts {
    /// The time until the first byte of the first request.
    pub first_byte: Duration,
    /// The time that a client has to receive a response, in addition to the time that the received bytes take at
    /// [`MIN_RESPONSE_RATE`].
    pub receive: Duration,
}

/// The stream of a client connection.
pub struct ClientStream<S> {
    stream: S,
    connection: OpenConnection,
    receive_timeout: Duration,
    /// The wait for the first byte; `None` after it has arrived.
    first_byte: Option<Pin<Box<Sleep>>>,
    /// The bytes that wait for the client; `None` if no bytes wait.
    backlog: Option<Backlog>,
}

/// Bytes of a response that wait until the client receives them.
struct Backlog {
    window: ReceiveWindow,
    deadline: Pin<Box<Sleep>>,
}

/// The time that a client has to receive more bytes, from the first write that had to wait until everything is sent.
#[derive(Clone, Copy, Debug)]
struct ReceiveWindow {
    timeout: Duration,
    deadline: Instant,
}

impl ReceiveWindow {
    fn new(now: Instant, timeout: Duration) -> Self {
        Self {
            timeout,
            deadline: now + timeout,
        }
    }

    /// Moves the deadline by the time that the received bytes take at the lowest rate. The deadline is never further
    /// away than twice the timeout. Otherwise a client that receives much in a short time could then stop for minutes.
    fn receive(&mut self, now: Instant, bytes: u64) {
        let earned = Duration::from_secs(bytes) / MIN_RESPONSE_RATE;
        self.deadline = (self.deadline + earned).min(now + 2 * self.timeout);
    }
}

impl<S> ClientStream<S> {
    /// Wraps the stream of a new connection.
    pub fn new(stream: S, connection: OpenConnection, timeouts: StreamTimeouts) -> Self {
        Self {
            stream,
            connection,
            receive_timeout: timeouts.receive,
            first_byte: Some(Box::pin(sleep(timeouts.first_byte))),
            backlog: None,
        }
    }

    /// Limits the time of a write: counts the bytes if the stream accepted some, and otherwise waits until the stream
    /// accepts more or the deadline passes.
    fn limit_write(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = written {
            if let (Ok(bytes), Some(backlog)) = (&result, &mut self.backlog) {
                backlog.window.receive(Instant::now(), *bytes as u64);
            }
            return Poll::Ready(result);
        }
        let backlog = self.backlog.get_or_insert_with(|| {
            let window = ReceiveWindow::new(Instant::now(), self.receive_timeout);
            Backlog {
                window,
                deadline: Box::pin(sleep_until(window.deadline)),
            }
        });
        let deadline = backlog.window.deadline;
        if backlog.deadline.deadline() != deadline {
            backlog.deadline.as_mut().reset(deadline);
        }
        ready!(backlog.deadline.as_mut().poll(context));
        metrics::CONNECTIONS_SLOW.increment();
        Poll::Ready(Err(timed_out("the client receives too slowly")))
    }
}

fn timed_out(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let Some(first_byte) = &mut self.first_byte else {
            return read;
        };
        if read.is_ready() {
            self.first_byte = None;
            return read;
        }
        ready!(first_byte.as_mut().poll(context));
        metrics::CONNECTIONS_SILENT.increment();
        Poll::Ready(Err(timed_out("the client sent nothing")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limit_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.limit_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes the stream only after it has written all bytes of its own buffer.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.backlog = None;
        self.connection.handle().all_sent();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::http::connections::{ConnectionLimits, Connections};

    const LONG: Duration = Duration::from_hours(1);

    fn stream(
        capacity: usize,
        timeouts: StreamTimeouts,
    ) -> (ClientStream<DuplexStream>, DuplexStream) {
        let (ours, client) = duplex(capacity);
        let connections = Connections::new(ConnectionLimits::of_health_checks());
        let (connection, _) = connections.open(Ipv4Addr::LOCALHOST.into()).unwrap();
        (ClientStream::new(ours, connection, timeouts), client)
    }

    /// The second after which the service closes the connection of a client that receives `rate` bytes a second of an
    /// endless response; `None` if the connection is still open after an hour.
    fn closed_after(rate: u64) -> Option<u64> {
        let started = Instant::now();
        let mut window = ReceiveWindow::new(started, Duration::from_secs(10));
        (1..3_600).find(|second| {
            let now = started + Duration::from_secs(*second);
            let is_closed = window.deadline <= now;
            window.receive(now, rate);
            is_closed
        })
    }

    #[test]
    fn a_client_that_receives_much_cannot_stop_for_long() {
        let started = Instant::now();
        let mut window = ReceiveWindow::new(started, Duration::from_secs(10));
        window.receive(started, 100 * 1024 * 1024);
        assert_eq!(window.deadline, started + Duration::from_secs(20));
    }

    #[test]
    fn a_client_below_the_lowest_rate_is_closed_after_seconds_and_one_above_it_never() {
        assert_eq!(closed_after(0), Some(10));
        assert_eq!(closed_after(8_000), Some(12));
        assert_eq!(closed_after(32 * 1024), Some(19));
        assert_eq!(closed_after(64 * 1024), None);
        assert_eq!(closed_after(1 << 30), None);
    }

    #[tokio::test]
    async fn the_deadline_moves_with_the_bytes_that_the_client_takes() {
        let timeouts = StreamTimeouts {
            first_byte: LONG,
            receive: LONG,
        };
        let (mut stream, mut client) = stream(1_000, timeouts);
        let response = vec![b'x'; 10_000];
        let mut taken = vec![0; 9_000];
        let started = Instant::now();
        let mut write = Box::pin(stream.write_all(&response));
        tokio::select! {
            biased;
            written = &mut write => panic!("nothing was read: {written:?}"),
            read = client.read_exact(&mut taken) => read.unwrap(),
        };
        drop(write);
        let backlog = stream.backlog.as_ref().expect("the last bytes wait");
        let window = backlog.window;
        // The first thousand bytes did not wait. The others move the deadline.
        let least = Duration::from_secs(8_000) / MIN_RESPONSE_RATE;
        assert!(window.deadline >= started + LONG + least, "{window:?}");
        stream.flush().await.unwrap();
        assert!(stream.backlog.is_none(), "the next window starts anew");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_in_time_gets_an_error() {
        let timeouts = StreamTimeouts {
            first_byte: LONG,
            receive: Duration::ZERO,
        };
        let (mut stream, mut client) = stream(1_000, timeouts);
        // This response fits into the buffer of the pipe, so the client does not need to receive it.
        stream.write_all(&[b'x'; 1_000]).await.unwrap();
        stream.flush().await.unwrap();
        client.read_exact(&mut [0; 1_000]).await.unwrap();
        let error = stream.write_all(&[b'x'; 1_001]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn only_the_first_byte_has_the_short_limit() {
        let timeouts = StreamTimeouts {
            first_byte: Duration::from_millis(1),
            receive: LONG,
        };
        let (mut silent, _client) = stream(1_000, timeouts);
        let error = silent.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let timeouts = StreamTimeouts {
            first_byte: LONG,
            receive: LONG,
        };
        let (mut stream, mut client) = stream(1_000, timeouts);
        assert!(stream.first_byte.is_some());
        client.write_u8(b'G').await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'G');
        assert!(stream.first_byte.is_none());
    }
}
