//! One request and one answer on a connection that is used for nothing else: HTTP/1.1 by hyper's connection, without
//! its clients. Everything that is read has a bound.

use std::future::{Future, poll_fn};
use std::pin::Pin;

use allswell_core::exchange::{Answer, End, Header, Method, Phase, RetryAfter, Take};
use allswell_core::limits;
use allswell_core::refusal::{Refusal, Rule};
use allswell_core::target::Target;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, HOST, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::watch::{Failure, Watch};

/// The major version and nothing more: a stranger need not know which holes we have mended.
const AGENT: &str = concat!("Allswell/", env!("CARGO_PKG_VERSION_MAJOR"));

/// What goes over the connection.
pub struct Sent<'a> {
    pub method: Method,
    pub headers: &'a [Header],
    pub body: Bytes,
    pub take: Take,
}

/// Sends and reads, within what is left of the attempt.
#[expect(clippy::disallowed_methods, reason = "this is the home of requests outward")]
pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    target: &Target,
    sent: &Sent<'_>,
    watch: &mut Watch,
) -> Result<Answer, Failure> {
    let request = request(target, sent)?;
    #[cfg(debug_assertions)]
    let stream = crate::written::Noted::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(limits::ANSWER_HEAD_BYTES_MAX)
        .max_headers(limits::ANSWER_HEADERS_MAX)
        // Names mean the same in any case; receivers that look for `Content-Type` as written are many.
        .title_case_headers(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(Phase::FirstByte, None, &error))?;
    let mut connection = Alongside {
        connection: Box::pin(connection),
        over: false,
    };
    let response = watch
        .within(
            Phase::FirstByte,
            None,
            connection.run(sender.send_request(request)),
        )
        .await?
        .map_err(|error| broken(Phase::FirstByte, None, &error))?;
    let (head, body) = response.into_parts();
    let status = head.status.as_u16();
    if !(200..=599).contains(&status) {
        let detail = format!("an answer with status {status}");
        return Err(Failure::new(
            End::Broken {
                phase: Phase::FirstByte,
                status: Some(status),
            },
            detail,
        ));
    }
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    let mut answer = Answer {
        status,
        retry_after: text(RETRY_AFTER).and_then(RetryAfter::parse),
        excerpt: Vec::new(),
        truncated: false,
        location: text(LOCATION).map(ToOwned::to_owned),
        headers: Vec::new(),
    };
    if sent.take.headers {
        let pair = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.as_bytes().to_vec());
        answer.headers = head.headers.iter().map(pair).collect();
    }
    let read = watch
        .within(
            Phase::Body,
            Some(status),
            connection.run(read(body, sent.take, &mut answer)),
        )
        .await;
    watch.note = match read {
        Ok(read) => read?,
        // The status was said in time, as with a body that breaks off.
        Err(late) if !sent.take.whole => {
            answer.truncated = true;
            late.detail
        }
        Err(late) => return Err(late),
    };
    Ok(answer)
}

/// Headers are judged before anything is connected.
pub fn judge_headers(headers: &[Header]) -> Result<(), Refusal> {
    headers
        .iter()
        .try_for_each(|header| allswell_core::header::judge(&header.name, header.value.reveal()))
}

/// The request as it goes out. Framing and host are ours, the rest is what was rendered.
fn request(target: &Target, sent: &Sent<'_>) -> Result<http::Request<Full<Bytes>>, Failure> {
    let refused = |what: &str| Failure::from(Refusal::about(Rule::Header, what));
    let mut builder = http::Request::builder()
        .method(sent.method.word())
        .uri(target.path_and_query());
    let headers = builder
        .headers_mut()
        .ok_or_else(|| Failure::from(Refusal::of(Rule::Syntax)))?;
    let host = HeaderValue::from_str(target.authority()).map_err(|_| refused("Host"))?;
    headers.insert(HOST, host);
    for header in sent.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| refused(&header.name))?;
        let mut value =
            HeaderValue::from_bytes(&wire_bytes(header.value.reveal())).map_err(|_| refused(&header.name))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(AGENT));
    // Never unpacked here: a small answer can be a large one packed.
    headers
        .entry(ACCEPT_ENCODING)
        .or_insert(HeaderValue::from_static("identity"));
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    builder
        .body(Full::new(sent.body.clone()))
        .map_err(|error| Failure::from(Refusal::about(Rule::Syntax, error.to_string())))
}

/// A value as bytes: Latin-1 where it fits, one byte for each character, as HTTP had it from the beginning and as
/// receivers of Healthchecks' webhooks read it; else UTF-8.
fn wire_bytes(value: &str) -> Vec<u8> {
    let latin1: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
    latin1.unwrap_or_else(|| value.as_bytes().to_vec())
}

/// Reads as much as is wanted; the rest stays unread, and the connection is closed. Gives a note for administrators.
async fn read(mut body: Incoming, take: Take, answer: &mut Answer) -> Result<String, Failure> {
    let status = Some(answer.status);
    let mut read_bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            // The status was said, and that is what counts: trying again would tell the other side twice.
            Err(error) if !take.whole => {
                answer.truncated = true;
                return Ok(format!("the body broke off: {}", chain(&error)));
            }
            Err(error) => return Err(broken(Phase::Body, status, &error)),
        };
        let Ok(data) = frame.into_data() else { continue };
        let wanted = data.len().min(take.read_bytes.saturating_sub(read_bytes));
        let keep = wanted.min(take.keep_bytes.saturating_sub(answer.excerpt.len()));
        answer.excerpt.extend_from_slice(&data[..keep]);
        answer.truncated |= keep < data.len();
        read_bytes += wanted;
        if wanted < data.len() {
            if take.whole {
                let detail = format!("the body is larger than {} bytes", take.read_bytes);
                return Err(Failure::new(End::TooLarge { status }, detail));
            }
            break;
        }
    }
    Ok(String::new())
}

fn broken(phase: Phase, status: Option<u16>, error: &hyper::Error) -> Failure {
    let end = if error.is_parse_too_large() {
        End::TooLarge { status }
    } else {
        End::Broken { phase, status }
    };
    Failure::new(end, chain(error))
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Drives the connection in the task of the attempt, so that dropping the attempt drops everything.
struct Alongside<C> {
    connection: Pin<Box<C>>,
    over: bool,
}

impl<C: Future> Alongside<C> {
    async fn run<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        poll_fn(|context| {
            // How it ended is seen by the work as well.
            if !self.over && self.connection.as_mut().poll(context).is_ready() {
                self.over = true;
            }
            work.as_mut().poll(context)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_goes_out_in_latin_1_where_it_fits() {
        for (value, bytes) in [
            ("a b", b"a b".as_slice()),
            ("é½", b"\xe9\xbd"),
            ("é☃", "é☃".as_bytes()),
        ] {
            assert_eq!(wire_bytes(value), bytes, "{value}");
        }
    }
}
