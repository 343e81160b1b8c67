//! Reading request bodies: never more than was asked for, never longer than was granted.
//!
//! Two manners. `read_cut` is for pings: the beginning of a log is worth keeping, so a long body is cut and its
//! sender still gets an answer. `read_whole` is for the API: half a document is worth nothing, so a body that
//! is too large is refused, if possible before it is sent. Bytes that are kept are copied out of the
//! connection's buffer; a few bytes in a queue must not pin all of it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use tokio::time::timeout;

/// The beginning of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The first bytes, at most as many as were asked for.
    pub bytes: Bytes,
    /// Bytes that came, with those thrown away. If `finished` is false, there would have been more.
    pub total: u64,
    /// The body was read to its end. If not, hyper closes the connection after the answer.
    pub finished: bool,
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body did not come in the time granted. 408.
    #[error("the body did not arrive in time")]
    TimedOut,
    /// The connection ended or the chunks were malformed: there is nobody left to answer.
    #[error("the body could not be read")]
    Broken(#[source] axum::Error),
    /// 413. Only `read_whole` says this.
    #[error("the body is larger than {max} bytes")]
    TooLarge {
        /// The bound.
        max: usize,
    },
}

/// Keeps the first `keep` bytes and reads on past up to `drain` more, all of it in `within`.
///
/// A client that sends a body longer than both gets its answer too, then the connection is closed.
/// Memory: `keep` bytes and one frame.
pub async fn read_cut(body: Body, keep: usize, drain: usize, within: Duration) -> Result<Cut, BodyError> {
    if body.is_end_stream() {
        return Ok(Cut {
            bytes: Bytes::new(),
            total: 0,
            finished: true,
        });
    }
    bounded(within, cut(body, keep, drain)).await
}

/// The whole body, in `within`, or `TooLarge` as soon as it is known to be above `max` bytes: from its declared
/// length before anything is read, else after `max` bytes.
pub async fn read_whole(body: Body, max: usize, within: Duration) -> Result<Bytes, BodyError> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    if body.size_hint().lower() > max as u64 {
        return Err(BodyError::TooLarge { max });
    }
    bounded(within, whole(body, max)).await
}

/// Reads, in `within`. A short body has mostly come with its head, and hyper hands it over when it is asked a second time: a
/// timer is set only where that was not enough.
async fn bounded<T>(
    within: Duration,
    reading: impl Future<Output = Result<T, BodyError>>,
) -> Result<T, BodyError> {
    let mut reading = pin!(reading);
    let mut asked = false;
    let at_hand = poll_fn(|cx| match reading.as_mut().poll(cx) {
        Poll::Ready(read) => Poll::Ready(Some(read)),
        Poll::Pending if asked => Poll::Ready(None),
        Poll::Pending => {
            asked = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match at_hand.await {
        Some(read) => read,
        None => timeout(within, reading).await.unwrap_or(Err(BodyError::TimedOut)),
    }
}

async fn cut(mut body: Body, keep: usize, drain: usize) -> Result<Cut, BodyError> {
    let most = keep as u64 + drain as u64;
    let mut kept = Kept::new(keep);
    let mut total = 0;
    while let Some(data) = next_data(&mut body).await? {
        total += data.len() as u64;
        kept.take(&data);
        if total > most {
            return Ok(Cut {
                bytes: kept.into_bytes(),
                total,
                finished: false,
            });
        }
    }
    Ok(Cut {
        bytes: kept.into_bytes(),
        total,
        finished: true,
    })
}

async fn whole(mut body: Body, max: usize) -> Result<Bytes, BodyError> {
    let mut kept = Kept::new(max);
    while let Some(data) = next_data(&mut body).await? {
        if kept.take(&data) < data.len() {
            return Err(BodyError::TooLarge { max });
        }
    }
    Ok(kept.into_bytes())
}

/// The next bytes; None at the end. Trailers are passed over.
async fn next_data(body: &mut Body) -> Result<Option<Bytes>, BodyError> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(error)) => return Err(BodyError::Broken(error)),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Bytes up to a bound. Its memory grows with what has come, not with what was announced, and not past the bound.
struct Kept {
    bytes: Vec<u8>,
    most: usize,
}

impl Kept {
    fn new(most: usize) -> Self {
        Kept {
            bytes: Vec::new(),
            most,
        }
    }

    /// Takes as much of `data` as there is room for and returns how much that was.
    fn take(&mut self, data: &[u8]) -> usize {
        let room = self.most - self.bytes.len();
        let data = &data[..data.len().min(room)];
        let needed = self.bytes.len() + data.len();
        if needed > self.bytes.capacity() {
            let capacity = needed.max(self.bytes.capacity() * 2).min(self.most);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        data.len()
    }

    fn into_bytes(self) -> Bytes {
        Bytes::from(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Context;

    use http_body::Frame;

    use super::*;

    #[test]
    fn what_is_kept_never_needs_more_memory_than_its_bound() {
        let mut kept = Kept::new(1000);
        let taken: Vec<usize> = (0..5).map(|_| kept.take(&[7; 300])).collect();
        assert_eq!(taken, [300, 300, 300, 100, 0]);
        assert_eq!(kept.bytes.capacity(), 1000);
        assert_eq!(kept.into_bytes().len(), 1000);
    }

    /// A body that comes when it is asked for the so-many-th time, and wakes nobody until then.
    struct Late(usize);

    impl http_body::Body for Late {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0 = self.0.wrapping_sub(1);
            match self.0 {
                0 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"ok"))))),
                usize::MAX => Poll::Ready(None),
                _ => Poll::Pending,
            }
        }
    }

    #[tokio::test]
    async fn a_body_is_asked_for_twice_and_then_has_its_time() {
        let read = async |asked| read_cut(Body::new(Late(asked)), 100, 100, Duration::ZERO).await;
        for asked in [1, 2] {
            assert_eq!(read(asked).await.expect("it is at hand").bytes, "ok", "{asked}");
        }
        assert!(matches!(read(9).await, Err(BodyError::TimedOut)));
    }

    #[test]
    fn a_small_body_takes_little_memory_however_large_the_bound() {
        let mut kept = Kept::new(1 << 30);
        kept.take(b"ok");
        assert_eq!(kept.bytes.capacity(), 2);
    }
}
