//! Stores for tests, and a house: alice, bob and charlie, each with a project. Time stands still at [`NOW`], and the
//! dice roll the same numbers each time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Event, Settings, State, decide};
use allswell_core::delivery::{Class, Owed};
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, DeliveryId, KeyId, NodeId, ProjectId, UserId};
use allswell_core::key::KeyKind;
use allswell_core::schedule::Zones;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::KeyRing;
use allswell_core::secret::Secret;
use allswell_core::signal::{Cause, Kind, Signal};
use allswell_core::time::{Span, Timestamp};
use allswell_store::channels::Channel;
use allswell_store::news::{News, Promise};
use allswell_store::outbox::{Claimed, End, Found, Next, Recorded, Wanted};
use allswell_store::people::User;
use allswell_store::pings::{Ping, Source};
use allswell_store::projects::Project;
use allswell_store::{Error, Place, Result, Server, Store, Tx};
use allswell_testkit::Cluster;

/// The instant at which everything happens.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_769_860_800);
pub(crate) const SYSTEM: SystemScope = SystemScope::engine();

/// `NOW` and some seconds.
pub(crate) fn after(secs: i64) -> Timestamp {
    NOW + Span::from_secs(secs)
}

/// Makes one test of each function of a store, for what only SQLite promises.
macro_rules! on_sqlite_alone {
    ($($name:ident),* $(,)?) => {
        mod sqlite_alone {
            $(#[test]
            fn $name() {
                $crate::kit::on_sqlite(super::$name);
            })*
        }
    };
}
pub(crate) use on_sqlite_alone;

/// Makes one test per database of each function of a store.
macro_rules! on_each_database {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $name() {
                $crate::kit::on_sqlite(super::$name);
            })*
        }
        mod postgres {
            $(#[test]
            fn $name() {
                $crate::kit::on_postgres(super::$name);
            })*
        }
    };
}
pub(crate) use on_each_database;

/// Runs a test on SQLite in memory.
pub(crate) fn on_sqlite(test: impl AsyncFnOnce(&Store)) {
    run(async {
        let store = Store::open(&Place::Memory, NOW).await.expect("a store");
        unlock(&store).await;
        test(&store).await;
    });
}

/// Runs a test on a PostgreSQL database of its own.
pub(crate) fn on_postgres(test: impl AsyncFnOnce(&Store)) {
    run(async {
        let cluster = Cluster::shared();
        let name = cluster.database().await;
        let store = Store::open(&postgres_place(cluster, &name), NOW)
            .await
            .expect("a store");
        unlock(&store).await;
        test(&store).await;
        drop(store);
        cluster.remove(&name).await;
    });
}

/// The place of a database of a cluster.
pub(crate) fn postgres_place(cluster: &Cluster, name: &str) -> Place {
    Place::Postgres(Box::new(Server::from_url(&cluster.url(name)).expect("a URL")))
}

/// Runs a future to its end on a runtime of its own.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

/// The ring of all tests that do not try another.
pub(crate) fn ring() -> KeyRing {
    KeyRing::generate("root-1", &mut Dice::from_number(0))
}

/// Opens the vault with the usual ring.
pub(crate) async fn unlock(store: &Store) {
    store
        .unlock(ring(), Dice::from_number(1), NOW)
        .await
        .expect("the vault opens");
}

/// A database in a file, and the way to it for a second connection.
pub(crate) struct OnDisk {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl OnDisk {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("allswell.sqlite3");
        OnDisk { dir, path }
    }

    pub(crate) fn place(&self) -> Place {
        Place::File(self.path.clone())
    }

    /// Opens the store without its vault.
    pub(crate) async fn open_locked(&self) -> Result<Store> {
        Store::open(&self.place(), NOW).await
    }

    pub(crate) async fn open(&self) -> Store {
        let store = self.open_locked().await.expect("a store");
        unlock(&store).await;
        store
    }

    /// A connection behind the store's back.
    pub(crate) fn raw(&self) -> rusqlite::Connection {
        let conn = rusqlite::Connection::open(&self.path).expect("a second connection");
        conn.busy_timeout(std::time::Duration::from_secs(5))
            .expect("patience");
        conn
    }
}

/// The rows of each table.
pub(crate) async fn rows(store: &Store) -> BTreeMap<String, i64> {
    store
        .count_rows()
        .await
        .expect("the rows are counted")
        .into_iter()
        .collect()
}

/// A person and the project that is theirs.
#[derive(Copy, Clone)]
pub(crate) struct Person {
    pub(crate) user: UserId,
    pub(crate) project: ProjectId,
}

impl Person {
    pub(crate) fn scope(self) -> ProjectScope {
        ProjectScope::granted(self.project)
    }
}

/// A store with people in it.
pub(crate) struct House<'s> {
    pub(crate) store: &'s Store,
    pub(crate) dice: Dice,
    /// Owns what the test is about.
    pub(crate) alice: Person,
    /// Has a project of his own.
    pub(crate) bob: Person,
    /// A stranger.
    pub(crate) charlie: Person,
}

impl<'s> House<'s> {
    pub(crate) async fn build(store: &'s Store) -> Self {
        let mut dice = Dice::from_number(7);
        let [alice, bob, charlie] = ["alice", "bob", "charlie"].map(|_| Person {
            user: dice.id(),
            project: dice.id(),
        });
        let mut house = House {
            store,
            dice,
            alice,
            bob,
            charlie,
        };
        for (name, person) in [("alice", alice), ("bob", bob), ("charlie", charlie)] {
            house.move_in(name, person).await;
        }
        house
    }

    async fn move_in(&mut self, name: &str, person: Person) {
        let user = User {
            id: person.user,
            email: format!("{name}@example.org"),
            is_admin: false,
            check_limit: 100,
            created_at: NOW,
        };
        let write = async move |tx: &mut Tx<'_>| tx.user_insert(SYSTEM, &user, Some("$argon2id$")).await;
        self.store.write(write).await.expect("a user");
        self.add_project(person.user, person.project, name).await;
    }

    pub(crate) async fn add_project(&mut self, owner: UserId, id: ProjectId, name: &str) {
        let project = Project {
            id,
            owner,
            name: name.to_owned(),
            created_at: NOW,
        };
        let mut dice = self.dice.fork();
        let write = async move |tx: &mut Tx<'_>| tx.project_insert(SYSTEM, &project, &mut dice).await;
        self.store.write(write).await.expect("a project");
    }

    /// A check that is not stored yet.
    pub(crate) fn draft(&mut self, person: Person) -> Check {
        Check {
            id: self.dice.id(),
            project: person.project,
            badge: self.dice.id(),
            settings: Settings::default(),
            state: State::new(NOW),
            deadline: None,
            version: 1,
            created_at: NOW,
        }
    }

    pub(crate) async fn insert(&self, check: &Check) -> Result<()> {
        let check = check.clone();
        self.store
            .write(async move |tx| {
                tx.check_insert(ProjectScope::granted(check.project), &check)
                    .await
            })
            .await
    }

    /// A stored check, changed as the test wants it.
    pub(crate) async fn check(&mut self, person: Person, change: impl FnOnce(&mut Check)) -> Check {
        let mut check = self.draft(person);
        change(&mut check);
        self.insert(&check).await.expect("a check");
        check
    }

    /// The check as it is stored now.
    pub(crate) async fn read(&self, check: &Check) -> Option<Check> {
        let id = check.id;
        self.store
            .read(async move |reader| reader.check_any(SYSTEM, id).await)
            .await
            .expect("a read")
    }

    /// A ping arrives: state, flip and row in one transaction.
    pub(crate) async fn ping(
        &mut self,
        check: &mut Check,
        kind: Kind,
        body: &[u8],
        at: Timestamp,
    ) -> Option<Flip> {
        let signal = Signal {
            kind,
            cause: Cause::Address,
        };
        let flip = self.happen(check, Event::Signal { signal, rid: None }, at).await;
        let ping = Ping {
            kind,
            body_bytes: body.len() as u64,
            ..ping(check.state.ping_count, at)
        };
        let (project, id, body, mut dice) = (check.project, check.id, body.to_vec(), self.dice.fork());
        let write = async move |tx: &mut Tx<'_>| {
            tx.ping_insert(SystemScope::engine(), project, id, &ping, &body, &mut dice)
                .await
        };
        self.store.write(write).await.expect("a ping");
        flip
    }

    /// Something happens to a check; gives the flip.
    pub(crate) async fn happen(&mut self, check: &mut Check, event: Event, at: Timestamp) -> Option<Flip> {
        let decision = decide(
            &check.settings.plan(&Zones::Bundled).expect("a plan"),
            &check.state,
            event,
            at,
        );
        let mut new = Check {
            state: decision.state,
            ..check.clone()
        };
        let (flip, deadline) = (decision.flip.clone(), decision.deadline);
        *check = self
            .store
            .write(async move |tx| {
                if let Some(flip) = &flip {
                    tx.flip_insert(SystemScope::engine(), &new, flip, at).await?;
                }
                let saved = tx
                    .check_save_state_and_deadline(SystemScope::engine(), &mut new, deadline)
                    .await?;
                assert!(saved, "somebody else changed the check");
                Ok::<_, Error>(new)
            })
            .await
            .expect("an event");
        decision.flip
    }

    pub(crate) async fn channel(&mut self, person: Person, config: &[u8]) -> Channel {
        let channel = Channel {
            id: self.dice.id(),
            kind: "log".to_owned(),
            name: "night shift".to_owned(),
            tells_down: true,
            tells_up: true,
            created_at: NOW,
        };
        let (new, config, mut dice) = (channel.clone(), config.to_vec(), self.dice.fork());
        let scope = person.scope();
        let write = async move |tx: &mut Tx<'_>| tx.channel_insert(scope, &new, &config, &mut dice).await;
        self.store.write(write).await.expect("a channel");
        channel
    }

    pub(crate) async fn tell(&self, check: &Check, channels: &[&Channel]) -> Result<()> {
        let (id, scope) = (check.id, ProjectScope::granted(check.project));
        let channels: Vec<ChannelId> = channels.iter().map(|channel| channel.id).collect();
        self.store
            .write(async move |tx| tx.check_set_channels(scope, id, &channels).await)
            .await
    }

    /// Promises to tell a channel of a flip; gives the id of the delivery that was offered.
    pub(crate) async fn promise(
        &mut self,
        check: &Check,
        flip: &Flip,
        channel: ChannelId,
        at: Timestamp,
    ) -> DeliveryId {
        let owed = Owed {
            channel,
            class: Class::Alert,
            expires_at: at + Span::from_secs(3_600),
        };
        let (id, check, flip) = (self.dice.id(), check.clone(), flip.clone());
        let write = async move |tx: &mut Tx<'_>| {
            let news = News {
                check: &check,
                flip: &flip,
                noticed_at: at,
            };
            tx.delivery_insert(SystemScope::engine(), &Promise { news, owed, id })
                .await
        };
        self.store.write(write).await.expect("a delivery");
        id
    }

    /// Makes a key.
    pub(crate) async fn key(&mut self, person: Person, kind: KeyKind, secs: i64) -> (KeyId, Secret<String>) {
        let (scope, mut dice) = (person.scope(), self.dice.fork());
        let write = async move |tx: &mut Tx<'_>| {
            tx.key_create(scope, kind, "the office's", &mut dice, after(secs))
                .await
        };
        self.store.write(write).await.expect("a key")
    }

    pub(crate) fn node(&mut self) -> NodeId {
        self.dice.id()
    }
}

/// A plain ping.
pub(crate) fn ping(n: u64, at: Timestamp) -> Ping {
    Ping {
        n,
        at,
        kind: Kind::Success,
        source: Source::Http,
        exit_status: None,
        rid: None,
        scheme: "https".to_owned(),
        method: "GET".to_owned(),
        remote_addr: Some("2001:db8::1".to_owned()),
        user_agent: "curl/8".to_owned(),
        body_bytes: 0,
    }
}

/// Claims deliveries that are due, channel by channel, looking at up to `limit`; `None` if none is due.
pub(crate) async fn claim_due(
    tx: &mut Tx<'_>,
    now: Timestamp,
    limit: u64,
    owner: NodeId,
) -> Result<Option<Vec<Claimed>>> {
    let (due, _) = tx.deliveries_due(SYSTEM, now, limit).await?;
    let wanted: Vec<Wanted> = due
        .iter()
        .map(|ready| Wanted {
            class: ready.class,
            project: ready.project,
            channel: ready.channel,
            limit,
            attempts_below: u64::MAX,
        })
        .collect();
    let lease = Span::from_secs(60);
    let claimed = tx
        .deliveries_claim_many(SYSTEM, &wanted, now, owner, lease)
        .await?;
    let claimed = claimed.into_iter().flatten().collect();
    Ok((!due.is_empty()).then_some(claimed))
}

/// Ends a delivery with an attempt; `false` if the lease was not ours.
pub(crate) async fn finish(
    tx: &mut Tx<'_>,
    delivery: &Claimed,
    owner: NodeId,
    at: Timestamp,
) -> Result<bool> {
    let recorded = Recorded {
        claimed: delivery.clone(),
        found: Some(Found {
            started_at: at,
            duration: Span::ZERO,
            outcome: "ok".to_owned(),
            http_status: Some(200),
            phases: None,
            detail: Vec::new(),
        }),
        next: Next::Ended(End::Delivered),
        outcome: "ok 200".to_owned(),
    };
    let mut dice = Dice::from_number(1);
    let ours = tx
        .deliveries_record(SystemScope::engine(), &[recorded], owner, at, &mut dice)
        .await?;
    Ok(!ours.is_empty())
}
