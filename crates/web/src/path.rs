//! The variable parts of a path, decoded. What cannot be read names nothing, so it is not found.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Like axum's [`Path`], but for the answer to what is not UTF-8: there is no such address.
pub(crate) struct Segments<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Segments<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(segments)) => Ok(Segments(segments)),
            Err(_) => Err(Error::NOT_FOUND),
        }
    }
}

/// Text as one segment of a path: all but letters, digits and `-._~` percent-encoded (RFC 3986 section 2.3).
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_keeps_only_what_needs_no_encoding() {
        assert_eq!(segment("prod-1.x_~"), "prod-1.x_~");
        assert_eq!(segment("a/b?c#d%e é\n"), "a%2Fb%3Fc%23d%25e%20%C3%A9%0A");
    }
}
