//! A house for the engine: alice with a project, a ping key and checks; time stands still at [`NOW`] unless a test says
//! otherwise.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Event, Settings, State, decide};
use allswell_core::flip::Flip;
use allswell_core::id::{CheckId, ProjectId};
use allswell_core::key::KeyKind;
use allswell_core::schedule::Zones;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::KeyRing;
use allswell_core::secret::Secret;
use allswell_core::signal::Action;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::ingest::{Address, Answer, Arrival, Inbox, InboxLimits, Ingest, Refusal};
use allswell_engine::loops::Step;
use allswell_engine::meters::Meters;
use allswell_engine::ports;
use allswell_store::channels::Channel;
use allswell_store::outbox::Delivery;
use allswell_store::people::User;
use allswell_store::pings::Ping;
use allswell_store::projects::Project;
use allswell_store::{Error, Place, Server, Store, Tx};
use allswell_testkit::Cluster;
use bytes::Bytes;
use tokio::sync::Notify;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_769_860_800);
pub(crate) const SYSTEM: SystemScope = SystemScope::engine();
/// From a ping to the deadline of a check with default settings: a day and an hour.
pub(crate) const SILENCE_SECS: i64 = 90_000;

/// `NOW` and some seconds.
pub(crate) fn after(secs: i64) -> Timestamp {
    NOW + Span::from_secs(secs)
}

pub(crate) type Taken = Result<Answer, Refusal>;

pub(crate) struct House {
    pub(crate) store: Store,
    pub(crate) dice: Dice,
    pub(crate) project: ProjectId,
    pub(crate) ping_key: Secret<String>,
    pub(crate) deliver: Arc<Notify>,
    pub(crate) log: ports::Log,
    pub(crate) meters: Meters,
    disk: Option<(tempfile::TempDir, PathBuf)>,
}

impl House {
    /// In memory; with `TEST_STEPS_ON=postgres` in a database of its own there: a step that works on one of them must
    /// work on the other.
    pub(crate) async fn in_memory() -> Self {
        if !steps_on_postgres() {
            return Self::build(Place::Memory, None).await;
        }
        Self::on_postgres().await.0
    }

    /// In a database of its own, with its name.
    pub(crate) async fn on_postgres() -> (Self, String) {
        let cluster = Cluster::shared();
        let name = cluster.database().await;
        let server = Server::from_url(&cluster.url(&name)).expect("a URL");
        let house = Self::build(Place::Postgres(Box::new(server)), None).await;
        (house, name)
    }

    /// In a file, so that a second connection can do what the store would not.
    pub(crate) async fn on_disk() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("allswell.sqlite3");
        Self::build(Place::File(path.clone()), Some((dir, path))).await
    }

    async fn build(place: Place, disk: Option<(tempfile::TempDir, PathBuf)>) -> Self {
        let mut dice = Dice::from_number(7);
        let store = open(&place).await;
        let user = User {
            id: dice.id(),
            email: "alice@example.org".to_owned(),
            is_admin: false,
            check_limit: 1_000,
            created_at: NOW,
        };
        let project = Project {
            id: dice.id(),
            owner: user.id,
            name: "alice".to_owned(),
            created_at: NOW,
        };
        let (id, mut fork) = (project.id, dice.fork());
        let ping_key = store
            .write(async move |tx| {
                tx.user_insert(SYSTEM, &user, None).await?;
                tx.project_insert(SYSTEM, &project, &mut fork).await?;
                let scope = ProjectScope::granted(project.id);
                tx.key_create(scope, KeyKind::Ping, "ping", &mut fork, NOW).await
            })
            .await
            .expect("a house")
            .1;
        House {
            store,
            dice,
            project: id,
            ping_key,
            deliver: Arc::new(Notify::new()),
            log: ports::Log::default(),
            meters: Meters::default(),
            disk,
        }
    }

    /// Another project of alice's.
    pub(crate) async fn second_project(&mut self) -> ProjectId {
        let mut project = Project {
            id: self.dice.id(),
            owner: self.dice.id(),
            name: "bob".to_owned(),
            created_at: NOW,
        };
        let (id, mut fork) = (project.id, self.dice.fork());
        let write = async move |tx: &mut Tx<'_>| {
            let owner = tx.user_by_email(SYSTEM, "alice@example.org").await?;
            project.owner = owner.expect("alice").id;
            tx.project_insert(SYSTEM, &project, &mut fork).await
        };
        self.store.write(write).await.expect("a project");
        id
    }

    /// A connection behind the store's back, which looks at no constraint.
    pub(crate) fn raw(&self) -> rusqlite::Connection {
        let (_, path) = self.disk.as_ref().expect("a house on disk");
        let conn = rusqlite::Connection::open(path).expect("a second connection");
        conn.busy_timeout(Duration::from_secs(5)).expect("patience");
        conn.pragma_update(None, "ignore_check_constraints", true)
            .expect("a pragma");
        conn
    }

    /// Another store on the same file, as another program has it.
    pub(crate) async fn second_store(&self) -> Store {
        let (_, path) = self.disk.as_ref().expect("a house on disk");
        open(&Place::File(path.clone())).await
    }

    /// The same with another ring.
    pub(crate) async fn second_store_with(&self, ring: KeyRing) -> Store {
        let (_, path) = self.disk.as_ref().expect("a house on disk");
        open_with(&Place::File(path.clone()), ring).await
    }

    pub(crate) fn scope(&self) -> ProjectScope {
        ProjectScope::granted(self.project)
    }

    pub(crate) async fn check(&mut self, change: impl FnOnce(&mut Check)) -> CheckId {
        let mut check = Check {
            id: self.dice.id(),
            project: self.project,
            badge: self.dice.id(),
            settings: Settings::default(),
            state: State::new(NOW),
            deadline: None,
            version: 1,
            created_at: NOW,
        };
        change(&mut check);
        let id = check.id;
        let write = async move |tx: &mut Tx<'_>| {
            tx.check_insert(ProjectScope::granted(check.project), &check)
                .await
        };
        self.store.write(write).await.expect("a check");
        id
    }

    pub(crate) async fn channel(&mut self, kind: &str, tells_down: bool, tells_up: bool) -> Channel {
        self.channel_with(kind, b"", tells_down, tells_up).await
    }

    /// A webhook whose calls go to this URL, with the event as body, unsigned.
    pub(crate) async fn webhook(&mut self, url: &str) -> Channel {
        self.webhook_with(url, "${json:EVENT}").await
    }

    pub(crate) async fn webhook_with(&mut self, url: &str, body: &str) -> Channel {
        let call = serde_json::json!({ "method": "POST", "url": url, "headers": {}, "body": body });
        let signing =
            serde_json::json!({ "form": "none", "key_id": "k", "header_prefix": "X-Health", "keys": [] });
        let config = serde_json::json!({ "down": call, "up": call, "signing": signing });
        self.channel_with("webhook", config.to_string().as_bytes(), true, true)
            .await
    }

    async fn channel_with(&mut self, kind: &str, config: &[u8], tells_down: bool, tells_up: bool) -> Channel {
        let channel = Channel {
            id: self.dice.id(),
            kind: kind.to_owned(),
            name: kind.to_owned(),
            tells_down,
            tells_up,
            created_at: NOW,
        };
        let (new, scope, mut dice) = (channel.clone(), self.scope(), self.dice.fork());
        let config = config.to_vec();
        let write = async move |tx: &mut Tx<'_>| tx.channel_insert(scope, &new, &config, &mut dice).await;
        self.store.write(write).await.expect("a channel");
        channel
    }

    pub(crate) async fn tell(&self, check: CheckId, channels: &[&Channel]) {
        let channels: Vec<_> = channels.iter().map(|channel| channel.id).collect();
        let scope = self.scope();
        let write = async move |tx: &mut Tx<'_>| tx.check_set_channels(scope, check, &channels).await;
        self.store.write(write).await.expect("channels");
    }

    pub(crate) async fn read(&self, id: CheckId) -> Check {
        let read = self
            .store
            .read(async move |reader| reader.check_any(SYSTEM, id).await)
            .await;
        read.expect("a read").expect("the check")
    }

    pub(crate) async fn flips(&self, id: CheckId) -> Vec<Flip> {
        let scope = self.scope();
        let read = self
            .store
            .read(async move |reader| reader.flips(scope, id, 99).await)
            .await;
        read.expect("flips")
    }

    /// The log of a check with its bodies, oldest first.
    pub(crate) async fn log(&self, id: CheckId) -> Vec<(Ping, Option<Vec<u8>>)> {
        let scope = self.scope();
        let read = self.store.read(async move |reader| {
            let mut log = Vec::new();
            for ping in reader.pings(scope, id, 999).await?.into_iter().rev() {
                let body = reader.ping_body(scope, id, ping.n).await?;
                log.push((ping, body));
            }
            Ok::<_, Error>(log)
        });
        read.await.expect("a log")
    }

    pub(crate) async fn deliveries(&self, id: CheckId) -> Vec<Delivery> {
        let scope = self.scope();
        let read = self
            .store
            .read(async move |reader| reader.deliveries(scope, id, 999).await)
            .await;
        read.expect("deliveries")
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let rows = self.store.count_rows().await.expect("a count");
        rows.into_iter()
            .find(|(name, _)| name == table)
            .expect("the table")
            .1
    }

    /// Says every minute of a time that a node is awake, so that the time is no absence.
    pub(crate) async fn stay_awake(&mut self, from: Timestamp, to: Timestamp) {
        let node = self.dice.id();
        let mut now = from;
        while now < to {
            let mark = async move |tx: &mut Tx<'_>| tx.awake_mark(SystemScope::engine(), node, now).await;
            self.store.write(mark).await.expect("a mark");
            now = now + Span::from_secs(60);
        }
    }

    /// An inbox without patience, and what empties it.
    pub(crate) fn ingest(&mut self, capacity: usize, batch_max: usize) -> (Inbox, Ingest) {
        let store = self.store.clone();
        self.ingest_into(store, capacity, batch_max)
    }

    pub(crate) fn ingest_into(&mut self, store: Store, capacity: usize, batch_max: usize) -> (Inbox, Ingest) {
        Ingest::new(
            store,
            InboxLimits {
                capacity,
                patience: Duration::ZERO,
                batch_max,
            },
            self.dice.fork(),
            Zones::Bundled,
            Arc::clone(&self.deliver),
            self.meters.clone(),
        )
    }

    /// Pings that have all gathered before the first is taken: one batch, in this order.
    pub(crate) async fn in_one_batch(&mut self, arrivals: Vec<Arrival>) -> Vec<Taken> {
        let (inbox, ingest) = self.ingest(arrivals.len(), arrivals.len());
        let puts = gather(&inbox, arrivals).await;
        drop(inbox);
        ingest.run(|| NOW).await;
        let mut taken = Vec::new();
        for put in puts {
            taken.push(put.await.expect("an answer"));
        }
        taken
    }

    pub(crate) async fn ping(&mut self, id: CheckId, action: Action, at: Timestamp) -> Taken {
        let arrival = Arrival { at, action, ..to(id) };
        self.in_one_batch(vec![arrival]).await.remove(0)
    }

    pub(crate) fn by_slug(&self, slug: &str, create: bool) -> Arrival {
        let address = Address::Slug {
            key: self.ping_key.clone(),
            slug: slug.to_owned(),
            create,
        };
        Arrival {
            address,
            ..to(Dice::from_number(0).id())
        }
    }

    /// The value of a counter, as `/metrics` tells it.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.meters.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().expect("a number"))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment which database they are for"
)]
fn steps_on_postgres() -> bool {
    std::env::var("TEST_STEPS_ON").is_ok_and(|database| database == "postgres")
}

/// The ring of every house.
/// What is no ping happens to a check.
pub(crate) async fn happen(house: &House, id: CheckId, event: Event, now: Timestamp) {
    let mut check = house.read(id).await;
    let plan = check.settings.plan(&Zones::Bundled).expect("a plan");
    let write = async move |tx: &mut Tx<'_>| {
        let mut dice = Dice::from_number(1);
        let decision = decide(&plan, &check.state, event, now);
        check.state = decision.state;
        let saved = tx.check_save_state(SYSTEM, &mut check, decision.deadline).await?;
        if let Some(flip) = &decision.flip {
            allswell_engine::record::write_flip(tx, &check, flip, now, &mut dice).await?;
        }
        Ok::<_, Error>(saved)
    };
    assert!(house.store.write(write).await.expect("an event"));
}

pub(crate) fn ring() -> KeyRing {
    KeyRing::generate("root", &mut Dice::from_number(0))
}

async fn open(place: &Place) -> Store {
    open_with(place, ring()).await
}

async fn open_with(place: &Place, ring: KeyRing) -> Store {
    let store = Store::open(place, NOW).await.expect("a store");
    store
        .unlock(ring, Dice::from_number(1), NOW)
        .await
        .expect("the vault opens");
    store
}

/// Hands pings in, in this order, and comes back when all of them wait.
pub(crate) async fn gather(inbox: &Inbox, arrivals: Vec<Arrival>) -> Vec<tokio::task::JoinHandle<Taken>> {
    let wanted = inbox.depth() + arrivals.len();
    let mut puts = Vec::new();
    for arrival in arrivals {
        let inbox = inbox.clone();
        puts.push(tokio::spawn(async move { inbox.put(arrival).await }));
    }
    for _ in 0..puts.len() + 10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        inbox.depth(),
        wanted,
        "something takes them before they have gathered"
    );
    puts
}

/// A plain success of a check.
pub(crate) fn to(check: CheckId) -> Arrival {
    Arrival {
        at: NOW,
        address: Address::Check(check),
        action: Action::Success,
        rid: None,
        scheme: "https".into(),
        method: "GET".into(),
        remote_addr: Some("198.51.100.7".to_owned()),
        user_agent: "curl/8".to_owned(),
        body: Bytes::new(),
    }
}

/// Runs a step until it has nothing more to do at `now`; gives its last word and how often it ran.
pub(crate) async fn settle(step: &impl Step, now: Timestamp) -> (Due, usize) {
    for ran in 1..100 {
        match step.step(now).await.expect("a step") {
            Due::Now => {}
            Due::At(at) if at <= now => {}
            due => return (due, ran),
        }
    }
    panic!("it does not come to rest");
}

impl House {
    /// A number that changes with every commit of somebody else, seen from `raw`.
    pub(crate) fn data_version(raw: &rusqlite::Connection) -> i64 {
        raw.pragma_query_value(None, "data_version", |row| row.get(0))
            .expect("a number")
    }
}

/// Lines that were logged on this thread while it lasts.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Listens on this thread until the guard goes.
    pub(crate) fn listen() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let guard = tracing::subscriber::set_default(Listener(log.clone()));
        (log, guard)
    }

    pub(crate) fn lines_with(&self, words: &str) -> Vec<String> {
        let lines = self.0.lock().expect("the lines");
        lines
            .iter()
            .filter(|line| line.contains(words))
            .cloned()
            .collect()
    }
}

struct Listener(Log);

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.push_str(&format!("{value:?}"));
        }
    }
}

impl tracing::Subscriber for Listener {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(format!("{} ", event.metadata().level()));
        event.record(&mut line);
        self.0.0.lock().expect("the lines").push(line.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
