//! Word of the moment in which a request is on the wire and nothing of its answer was read, for tests of crashes. Only
//! debug builds have it.

use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

static HOOK: OnceLock<fn()> = OnceLock::new();

/// Has `hook` called whenever a request was written. The first one stays.
pub fn on_request_written(hook: fn()) {
    let _ = HOOK.set(hook);
}

/// A stream that tells when what was written to it has left.
pub(crate) struct Noted<S> {
    stream: S,
    wrote: bool,
}

impl<S> Noted<S> {
    pub(crate) fn new(stream: S) -> Self {
        Noted { stream, wrote: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, part: &[u8]) -> Poll<io::Result<usize>> {
        self.wrote = true;
        Pin::new(&mut self.stream).poll_write(cx, part)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(())))
            && std::mem::take(&mut self.wrote)
            && let Some(hook) = HOOK.get()
        {
            hook();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
