//! `notifications/<id>/status`: where SMS and call providers say what became of a message.
//!
//! Healthchecks answers 200 and nothing, whatever is sent. So do we: no channel of ours reports back this way yet, and
//! nothing is read or changed.

use allswell_core::id::DeliveryId;

use crate::error::Error;
use crate::path::Segments;

/// POST `notifications/<id>/status`
pub(crate) async fn status(Segments(code): Segments<String>) -> Result<(), Error> {
    code.parse::<DeliveryId>().map(drop).map_err(|_| Error::NOT_FOUND)
}
