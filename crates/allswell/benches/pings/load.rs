//! The load generator: one thread, connections kept alive, one request at a time on each. As little work as possible:
//! what it takes, the server lacks.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use allswell_core::chance::Dice;
use anyhow::{Context, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use crate::seed::Seeded;

/// Bytes of the longest answer that we expect.
const ANSWER_BYTES_MAX: usize = 2048;
/// Time in which an answer must come; a server that hangs is a wrong result.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Bodies that differ.
const BODIES: u64 = 61;

/// What is asked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `GET /healthz`: the stack around a handler that does nothing.
    Empty,
    /// A ping of a random check, with a body of this many bytes; without one it is a GET.
    Ping(usize),
}

/// What is asked, by how many.
pub struct Mix<'s> {
    request: Request,
    connections: usize,
    seeded: &'s Seeded,
}

impl<'s> Mix<'s> {
    pub fn new(request: Request, connections: usize, seeded: &'s Seeded) -> Self {
        Mix {
            request,
            connections,
            seeded,
        }
    }
}

/// What came back.
pub struct Answers {
    /// From the first request to the last answer.
    pub took: Duration,
    /// Microseconds from each request to its answer, of those with status 200; sorted.
    pub latencies: Vec<u32>,
    /// Answers with 503: refused, and to be tried again.
    pub refused: usize,
}

/// Asks, and remembers which check was answered how often.
pub struct Load {
    address: SocketAddr,
    dice: u64,
    answered: Vec<u32>,
}

/// One connection with its request in flight.
struct Client {
    stream: TcpStream,
    asked: Instant,
    check: usize,
    answer: [u8; ANSWER_BYTES_MAX],
    filled: usize,
}

impl Load {
    pub fn new(address: SocketAddr, seed: u64, checks: usize) -> Self {
        Load {
            address,
            dice: seed,
            answered: vec![0; checks],
        }
    }

    /// Pings that were answered with 200, check by check.
    pub fn answered(&self) -> &[u32] {
        &self.answered
    }

    /// Sends one ping and waits for its answer.
    pub fn first_ping(&mut self, seeded: &Seeded) -> Result<()> {
        let answers = self.run(Mix::new(Request::Ping(0), 1, seeded), Duration::ZERO)?;
        ensure!(answers.latencies.len() == 1, "the first ping was refused");
        Ok(())
    }

    /// Asks for a while, each connection anew as soon as it is answered, and waits for the last answers. Every
    /// connection asks at least once.
    pub fn run(&mut self, mix: Mix<'_>, time: Duration) -> Result<Answers> {
        self.run_while(mix, |elapsed| elapsed < time)
    }

    /// The same, for as long as `going` says, which gets the time since the beginning.
    pub fn run_while(&mut self, mix: Mix<'_>, going: impl Fn(Duration) -> bool) -> Result<Answers> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = self.connect(&epoll, mix.connections)?;
        let mut latencies = Vec::with_capacity(1 << 20);
        let mut refused = 0;
        let mut templates = templates(mix.request);
        let begun = Instant::now();
        for client in &mut clients {
            client.ask(mix.request, self.roll(), mix.seeded, &mut templates)?;
        }
        let mut open = clients.len();
        let mut events = Vec::with_capacity(clients.len());
        let patience = ANSWER_WITHIN.try_into().context("a number of seconds")?;
        while open > 0 {
            epoll::wait(&epoll, spare_capacity(&mut events), Some(&patience))?;
            ensure!(
                !events.is_empty(),
                "no answer within {} s",
                ANSWER_WITHIN.as_secs()
            );
            for event in events.drain(..) {
                let number = usize::try_from(event.data.u64())?;
                let client = &mut clients[number];
                let Some(status) = client.read()? else { continue };
                let now = Instant::now();
                match status {
                    200 => {
                        latencies.push(u32::try_from((now - client.asked).as_micros())?);
                        if mix.request != Request::Empty {
                            self.answered[client.check] += 1;
                        }
                    }
                    503 => refused += 1,
                    other => bail!(
                        "an answer with status {other}: {}",
                        String::from_utf8_lossy(&client.answer)
                    ),
                }
                if going(now - begun) {
                    let check = self.roll();
                    clients[number].ask(mix.request, check, mix.seeded, &mut templates)?;
                } else {
                    open -= 1;
                }
            }
        }
        let took = begun.elapsed();
        latencies.sort_unstable();
        Ok(Answers {
            took,
            latencies,
            refused,
        })
    }

    fn connect(&self, epoll: &OwnedFd, connections: usize) -> Result<Vec<Client>> {
        let mut clients = Vec::with_capacity(connections);
        for number in 0..connections {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(epoll, &stream, data, epoll::EventFlags::IN)?;
            clients.push(Client {
                stream,
                asked: Instant::now(),
                check: 0,
                answer: [0; ANSWER_BYTES_MAX],
                filled: 0,
            });
        }
        Ok(clients)
    }

    /// A check, evenly spread (SplitMix64).
    fn roll(&mut self) -> usize {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * self.answered.len() as u128) >> 64) as usize
    }
}

/// The bytes of a request, once for each of some bodies; the check's id is put over the zeros.
fn templates(request: Request) -> Vec<Vec<u8>> {
    const ID: &str = "00000000-0000-0000-0000-000000000000";
    let rest = "HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: allswell-bench\r\n";
    match request {
        Request::Empty => vec![format!("GET /healthz {rest}\r\n").into_bytes()],
        Request::Ping(0) => vec![format!("GET /ping/{ID} {rest}\r\n").into_bytes()],
        Request::Ping(bytes) => (0..BODIES)
            .map(|number| {
                let head = format!("POST /ping/{ID} {rest}content-length: {bytes}\r\n\r\n");
                [head.as_bytes(), &log_text(number, bytes)].concat()
            })
            .collect(),
    }
}

/// The end of a job's log, as people send it along: times, names, sizes, no two lines alike. A body of one byte over and over
/// would flatter whatever makes bodies smaller.
fn log_text(number: u64, bytes: usize) -> Vec<u8> {
    const DIRS: [&str; 6] = [
        "etc",
        "home/anna",
        "srv/git",
        "var/lib/mysql",
        "var/mail",
        "opt/shop/media",
    ];
    let mut dice = Dice::from_number(number);
    let mut text = String::new();
    let (mut secs, host) = (dice.below(80_000), dice.below(200));
    while text.len() < bytes {
        secs += dice.below(9);
        let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
        let at = format!(
            "2026-11-23T{hour:02}:{minute:02}:{second:02}.{:06}Z",
            dice.below(1_000_000)
        );
        let (dir, id, size) = (
            DIRS[dice.below(6) as usize],
            dice.below(u32::MAX),
            dice.below(900_000_000),
        );
        text += &match dice.below(5) {
            0 => format!(
                "{at} INFO  node-{host} backup[{}]: scanning /{dir}\n",
                id % 30_000
            ),
            1 => format!("{at} INFO  node-{host} backup: chunk {id:08x}{size:08x} is new, {size} bytes\n"),
            2 => format!("{at} WARN  node-{host} backup: /{dir}/{id:x}.tmp vanished before it was read\n"),
            3 => format!(
                "{at} DEBUG node-{host} pool: connection {id} took {} ms\n",
                size % 10_000
            ),
            _ => format!(
                "{at} INFO  node-{host} backup: /{dir}: {} files, {size} bytes in {} s\n",
                id % 90_000,
                id % 300
            ),
        };
    }
    text.truncate(bytes);
    text.into_bytes()
}

impl Client {
    fn ask(
        &mut self,
        request: Request,
        check: usize,
        seeded: &Seeded,
        templates: &mut [Vec<u8>],
    ) -> Result<()> {
        let bytes = &mut templates[check % templates.len()];
        let at = match request {
            Request::Empty => None,
            Request::Ping(0) => Some("GET /ping/".len()),
            Request::Ping(_) => Some("POST /ping/".len()),
        };
        if let Some(at) = at {
            seeded.write_id(check, &mut bytes[at..at + 36]);
        }
        self.check = check;
        self.filled = 0;
        self.asked = Instant::now();
        // The socket's buffer is empty: the server has answered all that was asked.
        self.stream
            .write_all(bytes)
            .context("the server did not take a request")
    }

    /// The status, once the answer is complete.
    fn read(&mut self) -> Result<Option<u16>> {
        match self.stream.read(&mut self.answer[self.filled..]) {
            Ok(0) => bail!("the server closed a connection, or its answer is too long"),
            Ok(bytes) => self.filled += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error).context("a connection broke"),
        }
        let answer = &self.answer[..self.filled];
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&answer[..end])?;
        let length: usize = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix("content-length: "))
            .context("an answer without a length")?
            .parse()?;
        if self.filled < end + 4 + length {
            return Ok(None);
        }
        ensure!(
            self.filled == end + 4 + length,
            "an answer is longer than it says"
        );
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .context("not an answer of HTTP/1.1")?;
        Ok(Some(status.parse()?))
    }
}
