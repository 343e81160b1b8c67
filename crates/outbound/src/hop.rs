//! What follows from a redirect, for a probe that may follow some. Our own loop: each hop is a target like the first.

use allswell_core::exchange::{Answer, Header, Method};
use allswell_core::policy::Policy;
use allswell_core::refusal::Refusal;
use allswell_core::target::Target;
use bytes::Bytes;

/// What is sent to the next hop.
pub struct Next {
    pub target: Target,
    pub method: Method,
    /// Neither the user's headers nor the body leave the origin that they were meant for.
    pub headers: Vec<Header>,
    pub body: Bytes,
}

/// The next hop of an answer; `None` if it is none, or must not be followed with this method.
///
/// # Errors
/// The rule that the location breaks.
pub fn next(
    policy: &Policy,
    from: &Target,
    answer: &Answer,
    method: Method,
    headers: &[Header],
    body: &Bytes,
) -> Result<Option<Next>, Refusal> {
    let Some(location) = &answer.location else {
        return Ok(None);
    };
    let reads = matches!(method, Method::Get | Method::Head | Method::Options);
    let next_method = match answer.status {
        // RFC 9110 section 15.4: a form that was posted is answered elsewhere.
        303 if method != Method::Head => Method::Get,
        301 | 302 if method == Method::Post => Method::Get,
        301 | 302 | 303 | 307 | 308 => method,
        _ => return Ok(None),
    };
    let target = from.hop(policy, location)?;
    let same_origin = target.origin() == from.origin();
    if !same_origin && next_method == method && !reads {
        // What was meant for one origin is not told to another.
        return Ok(None);
    }
    let keeps_body = same_origin && next_method == method;
    Ok(Some(Next {
        target,
        method: next_method,
        headers: if same_origin { headers.to_vec() } else { Vec::new() },
        body: if keeps_body { body.clone() } else { Bytes::new() },
    }))
}
