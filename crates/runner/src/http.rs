//! One POST over HTTP/1.1 on a connection of its own, with an end to every wait and a bound on everything read.
//!
//! The whole exchange has one deadline, and each read and write gets what is left of it: a server that sends a byte a
//! second gains nothing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use allswell_core::secret::Secret;

use crate::clock::Deadline;
use crate::tls;
use crate::url::Url;

/// Bytes of all heads of one answer, those before the final one included.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 100;
/// Bytes of an answer's text that are read: an "OK" and what older servers say behind it.
const TEXT_BYTES_MAX: usize = 256;
/// How long that text is waited for once the status is there.
const TEXT_WITHIN: Duration = Duration::from_secs(1);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// What the server said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Ping-Body-Limit`, in bytes.
    pub(crate) body_limit: Option<usize>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) location: Option<String>,
    /// How the text begins, if it came at once.
    pub(crate) text: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("its name was not found: {0}")]
    Name(io::Error),
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("no answer in time")]
    TimedOut,
    #[error("the exchange broke off: {0}")]
    Broken(io::Error),
    #[error("it does not speak HTTP")]
    NotHttp,
    #[error("the proxy answered {0}")]
    Proxy(u16),
    /// Trying again changes nothing.
    #[error("{0}")]
    Final(String),
}

/// Sends `body` and reads the answer, all before the deadline.
pub(crate) fn post(
    url: &Url,
    proxy: Option<&Url>,
    ping_key: Option<&Secret<String>>,
    body: &[u8],
    by: Deadline,
) -> Result<Answer, Failure> {
    let mut stream = connect(proxy.unwrap_or(url), by)?;
    let through_tls = url.is_https();
    if let (Some(proxy), true) = (proxy, through_tls) {
        tunnel(&mut stream, url, proxy)?;
    }
    let head = head(url, proxy.filter(|_| !through_tls), ping_key, body.len());
    if through_tls {
        let name = ServerName::try_from(url.host().to_owned())
            .map_err(|_| Failure::Final("its name cannot be that of a certificate".to_owned()))?;
        let config = tls::config().map_err(Failure::Final)?;
        let session =
            ClientConnection::new(config, name).map_err(|error| Failure::Final(error.to_string()))?;
        exchange(&mut StreamOwned::new(session, stream), &head, body)
    } else {
        exchange(&mut stream, &head, body)
    }
}

fn head(
    url: &Url,
    absolute_for: Option<&Url>,
    ping_key: Option<&Secret<String>>,
    body_bytes: usize,
) -> String {
    let target = match absolute_for {
        Some(_) => url.absolute_form(),
        None => url.origin_form(),
    };
    let mut head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: allswell-run/{}\r\nAccept: */*\r\nConnection: close\r\n",
        target.reveal(),
        url.authority(),
        env!("CARGO_PKG_VERSION")
    );
    for (name, login) in [
        ("Authorization", url.basic()),
        ("Proxy-Authorization", absolute_for.and_then(Url::basic)),
    ] {
        if let Some(login) = login {
            head.push_str(&format!("{name}: {}\r\n", login.reveal()));
        }
    }
    if let Some(key) = ping_key {
        head.push_str(&format!("X-Ping-Key: {}\r\n", key.reveal()));
    }
    if body_bytes > 0 {
        head.push_str("Content-Type: text/plain; charset=utf-8\r\n");
    }
    head.push_str(&format!("Content-Length: {body_bytes}\r\n\r\n"));
    head
}

/// A connection whose every wait ends at the deadline.
struct Deadlined {
    stream: TcpStream,
    by: Deadline,
}

impl Deadlined {
    fn left(&self) -> io::Result<Duration> {
        let left = self.by.left();
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

impl Read for Deadlined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Deadlined {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The addresses of a name in turn, each with its share of the time.
#[expect(
    clippy::disallowed_methods,
    reason = "`run` is a client of the job's owner, not the server: it calls the address that its owner named"
)]
fn connect(to: &Url, by: Deadline) -> Result<Deadlined, Failure> {
    let found = (to.host(), to.port()).to_socket_addrs().map_err(Failure::Name)?;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
    let mut why = io::Error::from(io::ErrorKind::NotFound);
    for (tried, address) in addresses.iter().enumerate() {
        let left = by.left();
        if left.is_zero() {
            return Err(Failure::TimedOut);
        }
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
        match TcpStream::connect_timeout(address, share.max(Duration::from_millis(1))) {
            Ok(stream) => {
                // The head and a short body should not wait for each other. Without it they still arrive.
                let _ = stream.set_nodelay(true);
                return Ok(Deadlined { stream, by });
            }
            Err(error) => why = error,
        }
    }
    Err(match why.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Failure::TimedOut,
        _ => Failure::Connect(why),
    })
}

/// Asks a proxy for a way to the server.
fn tunnel(stream: &mut Deadlined, url: &Url, proxy: &Url) -> Result<(), Failure> {
    let target = url.tunnel();
    let mut ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(login) = proxy.basic() {
        ask.push_str(&format!("Proxy-Authorization: {}\r\n", login.reveal()));
    }
    ask.push_str("\r\n");
    stream.write_all(ask.as_bytes()).map_err(broken)?;
    // By the byte: what follows the head is the server's.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(Failure::NotHttp);
        }
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(broken)?;
        head.push(byte[0]);
    }
    match parse(&head)? {
        Some((answer, _)) if (200..300).contains(&answer.status) => Ok(()),
        Some((answer, _)) => Err(Failure::Proxy(answer.status)),
        None => Err(Failure::NotHttp),
    }
}

fn exchange(stream: &mut (impl Read + Write), head: &str, body: &[u8]) -> Result<Answer, Failure> {
    let mut request = Vec::with_capacity(head.len() + body.len());
    request.extend_from_slice(head.as_bytes());
    request.extend_from_slice(body);
    let sent = stream.write_all(&request).and_then(|()| stream.flush());
    // A server may answer and close before it has read everything: its answer counts.
    match (receive(stream), sent) {
        (Ok(answer), _) => Ok(answer),
        (Err(_), Err(error)) => Err(broken(error)),
        (Err(failure), Ok(())) => Err(failure),
    }
}

fn receive(stream: &mut impl Read) -> Result<Answer, Failure> {
    let mut got = Vec::new();
    let mut chunk = [0; 4096];
    let (mut answer, text_from, length) = loop {
        let read = stream.read(&mut chunk).map_err(broken)?;
        if read == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        got.extend_from_slice(&chunk[..read]);
        if let Some((answer, rest)) = parse_final(&got)? {
            break (answer, rest.0, rest.1);
        }
        if got.len() > HEAD_BYTES_MAX {
            return Err(Failure::NotHttp);
        }
    };
    // Only the text of a success is of use. Whatever happens to it now, the status is there.
    let wanted = length.unwrap_or(0).min(TEXT_BYTES_MAX);
    let patience = Deadline::after(TEXT_WITHIN);
    while answer.status == 200 && got.len() - text_from < wanted && !patience.is_over() {
        match stream.read(&mut chunk) {
            Ok(read) if read > 0 => got.extend_from_slice(&chunk[..read]),
            _ => break,
        }
    }
    let text = &got[text_from..];
    answer.text = String::from_utf8_lossy(&text[..text.len().min(wanted)]).into_owned();
    Ok(answer)
}

type Rest = (usize, Option<usize>);

/// The final answer, where its text begins, and how long that is; skips what says "wait".
fn parse_final(got: &[u8]) -> Result<Option<(Answer, Rest)>, Failure> {
    let mut from = 0;
    loop {
        match parse(&got[from..])? {
            None => return Ok(None),
            Some((answer, (head, _))) if (100..200).contains(&answer.status) => from += head,
            Some((answer, (head, length))) => return Ok(Some((answer, (from + head, length)))),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Answer, Rest)>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Failure::NotHttp),
    };
    let field = |name: &str| {
        let found = head.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        found
            .and_then(|h| std::str::from_utf8(h.value).ok())
            .map(str::trim)
    };
    let number = |name: &str| field(name).and_then(|text| text.parse::<usize>().ok());
    let answer = Answer {
        status: head.code.unwrap_or(0),
        body_limit: number("ping-body-limit"),
        retry_after: number("retry-after").map(|secs| Duration::from_secs(secs as u64)),
        location: field("location").map(str::to_owned),
        text: String::new(),
    };
    Ok(Some((answer, (length, number("content-length")))))
}

/// What an error of a read or write means.
fn broken(error: io::Error) -> Failure {
    let of_tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(why)) = of_tls {
        return Failure::Final(format!("its certificate is not trusted: {why}"));
    }
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Failure::TimedOut,
        _ => Failure::Broken(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> Result<Answer, Failure> {
        receive(&mut &*bytes)
    }

    #[test]
    fn an_answer_is_read_with_what_we_need_of_it() {
        let answer = said(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nPing-Body-Limit: 10000\r\ncontent-length: 2\r\n\r\nOK and more",
        )
        .unwrap();
        assert_eq!(
            (answer.status, answer.text.as_str(), answer.body_limit),
            (200, "OK", Some(10_000))
        );
        let answer = said(b"HTTP/1.0 503 Busy\nRetry-After: 7\n\n").unwrap();
        assert_eq!(
            (answer.status, answer.retry_after),
            (503, Some(Duration::from_secs(7)))
        );
        // The status counts, also if the text breaks off.
        assert_eq!(
            said(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nO")
                .unwrap()
                .status,
            200
        );
    }

    #[test]
    fn what_is_no_answer_is_refused_within_bounds() {
        assert!(matches!(said(b""), Err(Failure::Broken(_))));
        assert!(matches!(
            said(b"HTTP/1.1 200 OK\r\nhalf"),
            Err(Failure::Broken(_))
        ));
        assert!(matches!(said(b"SSH-2.0-OpenSSH_9.2\r\n"), Err(Failure::NotHttp)));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
        assert!(matches!(said(many.as_bytes()), Err(Failure::NotHttp)));
        // Nobody sends heads for ever.
        let mut endless = io::Cursor::new(b"HTTP/1.1 200 OK\r\na: ".to_vec()).chain(io::repeat(b'x'));
        assert!(matches!(receive(&mut endless), Err(Failure::NotHttp)));
        let mut patience = io::Cursor::new(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(2_000));
        assert!(matches!(receive(&mut patience), Err(Failure::NotHttp)));
    }

    #[test]
    fn a_request_names_what_it_is_for_and_how_long_it_is() {
        let url = Url::parse("http://u:p@a.org:81/ping/x?rid=1").unwrap();
        let direct = head(&url, None, Some(&Secret::new("the-key".to_owned())), 5);
        assert!(
            direct.starts_with("POST /ping/x?rid=1 HTTP/1.1\r\nHost: a.org:81\r\n"),
            "{direct}"
        );
        assert!(
            direct.contains("\r\nAuthorization: Basic dTpw\r\n")
                && direct.ends_with("Content-Length: 5\r\n\r\n")
        );
        let proxy = Url::parse("http://q:r@p").unwrap();
        assert!(direct.contains("\r\nX-Ping-Key: the-key\r\n"), "{direct}");
        let through = head(&url, Some(&proxy), None, 0);
        assert!(
            through.starts_with("POST http://a.org:81/ping/x?rid=1 HTTP/1.1\r\n"),
            "{through}"
        );
        assert!(through.contains("\r\nProxy-Authorization: Basic cTpy\r\n"));
    }
}
