//! A made-up world behind the door: a name server with scripted answers, and a server at every address there is.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use allswell_core::exchange::{Class, Method, Outcome, Request};
use allswell_core::policy::{Policies, Policy};
use allswell_outbound::{Client, Found, Proxy, Settings, Unresolved, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// One answer of the name server.
#[derive(Clone)]
pub enum Answer {
    Found(Vec<IpAddr>, usize),
    Nothing,
    Silence,
}

/// What a server does with a connection.
pub type Behaviour = Arc<dyn Fn(SocketAddr, DuplexStream) + Send + Sync>;

#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    /// Answers in order; the last one stays.
    names: Mutex<HashMap<String, Vec<Answer>>>,
    behaviour: Behaviour,
    reached: Mutex<Vec<SocketAddr>>,
    asked: Mutex<Vec<String>>,
    /// Addresses that take no connection, and how.
    dead: Vec<(IpAddr, Dead)>,
    local: Vec<IpAddr>,
    /// Where connections really come out, if not where they were sent.
    detour: Option<IpAddr>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dead {
    Refuses,
    Swallows,
}

impl World {
    pub fn new(behaviour: impl Fn(SocketAddr, DuplexStream) + Send + Sync + 'static) -> Self {
        World {
            inner: Arc::new(Inner {
                names: Mutex::default(),
                behaviour: Arc::new(behaviour),
                reached: Mutex::default(),
                asked: Mutex::default(),
                dead: Vec::new(),
                local: Vec::new(),
                detour: None,
            }),
        }
    }

    /// A world whose servers answer this to everything, whole or not.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        World::new(move |_, stream| {
            let bytes = bytes.clone();
            tokio::spawn(async move {
                let _ = answer(stream, &bytes).await;
            });
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut Inner)) {
        change(Arc::get_mut(&mut self.inner).expect("changed before it is shared"));
    }

    pub fn name(mut self, name: &str, answers: &[Answer]) -> Self {
        let answers = answers.to_vec();
        self.change(|inner| {
            inner.names.get_mut().unwrap().insert(name.to_owned(), answers);
        });
        self
    }

    pub fn addresses(self, name: &str, addresses: &[&str]) -> Self {
        self.name(name, &[found(addresses)])
    }

    pub fn dead(mut self, address: &str, how: Dead) -> Self {
        let address = address.parse().unwrap();
        self.change(|inner| inner.dead.push((address, how)));
        self
    }

    pub fn local(mut self, address: &str) -> Self {
        let address = address.parse().unwrap();
        self.change(|inner| inner.local.push(address));
        self
    }

    pub fn detour(mut self, address: &str) -> Self {
        let address = address.parse().unwrap();
        self.change(|inner| inner.detour = Some(address));
        self
    }

    /// Forgets all names and everything that happened, and knows these names from now on.
    pub fn begin(&self, names: Vec<(String, Vec<Answer>)>) {
        *self.inner.names.lock().unwrap() = names.into_iter().collect();
        self.inner.reached.lock().unwrap().clear();
        self.inner.asked.lock().unwrap().clear();
    }

    /// Addresses that were connected to.
    pub fn reached(&self) -> Vec<SocketAddr> {
        self.inner.reached.lock().unwrap().clone()
    }

    /// Names that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.inner.asked.lock().unwrap().clone()
    }

    pub fn client(&self, policy: Policy) -> Client<World> {
        self.client_with(policy, None, None)
    }

    pub fn client_with(
        &self,
        policy: Policy,
        proxy: Option<Proxy>,
        extra_ca_pem: Option<Vec<u8>>,
    ) -> Client<World> {
        let settings = Settings {
            policies: Policies::new(|_| policy.clone()),
            nameservers: Vec::new(),
            extra_ca_pem,
            proxy,
        };
        Client::with_wire(self.clone(), settings).expect("a client")
    }

    /// A GET of class webhook with the default policy.
    pub async fn get(&self, url: &str) -> Outcome {
        self.client(Policy::default()).send(get(url)).await
    }
}

pub fn get(url: &str) -> Request {
    Request::new(Class::Webhook, Method::Get, url.to_owned())
}

pub fn found(addresses: &[&str]) -> Answer {
    Answer::Found(addresses.iter().map(|text| text.parse().unwrap()).collect(), 0)
}

impl Wire for World {
    type Stream = DuplexStream;

    async fn addresses(&self, name: &str) -> Result<Found, Unresolved> {
        self.inner.asked.lock().unwrap().push(name.to_owned());
        let answer = match self.inner.names.lock().unwrap().get_mut(name) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => Answer::Nothing,
        };
        match answer {
            Answer::Found(addresses, aliases) => Ok(Found { addresses, aliases }),
            Answer::Nothing => Err(Unresolved::Nothing("no such name".to_owned())),
            Answer::Silence => std::future::pending().await,
        }
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.inner.dead.iter().find(|(address, _)| *address == to.ip()) {
            Some((_, Dead::Refuses)) => return Err(io::ErrorKind::ConnectionRefused.into()),
            Some((_, Dead::Swallows)) => return std::future::pending().await,
            None => {}
        }
        let to = SocketAddr::new(self.inner.detour.unwrap_or(to.ip()), to.port());
        self.inner.reached.lock().unwrap().push(to);
        let (ours, theirs) = tokio::io::duplex(65_536);
        (self.inner.behaviour)(to, theirs);
        Ok((ours, to))
    }

    fn is_local(&self, address: IpAddr) -> bool {
        self.inner.local.contains(&address)
    }
}

/// Reads the head of a request, and its body if it says how long that is.
pub async fn request(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let length = text
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")
                .map(str::to_owned)
        })
        .map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(text + &String::from_utf8_lossy(&body))
}

/// Reads a request, writes these bytes, and closes.
pub async fn answer(mut stream: DuplexStream, bytes: &[u8]) -> io::Result<()> {
    request(&mut stream).await?;
    stream.write_all(bytes).await
}
