//! Nudges from other nodes, over `LISTEN` and `NOTIFY`. A nudge carries a word and no data, and may be lost: the loops
//! look by themselves every second, and find the same work.

use std::future::poll_fn;
use std::pin::pin;

use tokio_postgres::AsyncMessage;

use super::Postgres;
use crate::{Error, Result};

/// The name of the channel that all nodes of a database share.
pub(super) const CHANNEL: &str = "allswell";

impl Postgres {
    /// Hears the words that other nodes (and this one) say with their commits, until the connection ends.
    pub(crate) async fn listen(&self, mut hear: impl FnMut(&str)) -> Result<()> {
        let (client, mut connection) = self
            .server
            .driver_config(super::LISTENS)
            .connect(self.tls.clone())
            .await?;
        let mut listening = pin!(client.batch_execute("listen allswell"));
        let mut begun = false;
        poll_fn(|context| {
            // The connection is driven here, and what is asked of it too.
            loop {
                match connection.poll_message(context) {
                    std::task::Poll::Ready(Some(Ok(AsyncMessage::Notification(word)))) => {
                        hear(word.payload())
                    }
                    std::task::Poll::Ready(Some(Ok(_))) => {}
                    std::task::Poll::Ready(Some(Err(error))) => {
                        return std::task::Poll::Ready(Err(Error::from(error)));
                    }
                    std::task::Poll::Ready(None) => {
                        let gone = "the connection for nudges was closed".to_owned();
                        return std::task::Poll::Ready(Err(Error::Unavailable(gone)));
                    }
                    std::task::Poll::Pending => break,
                }
            }
            if !begun && let std::task::Poll::Ready(done) = listening.as_mut().poll(context) {
                begun = true;
                if let Err(error) = done {
                    return std::task::Poll::Ready(Err(Error::from(error)));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
