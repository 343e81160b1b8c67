//! A house with three people. Alice owns a project; Bob is on her team and holds its read-only key; Charlie is a
//! stranger with a project of his own. Requests go straight into the router, over a database in memory.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use allswell_core::chance::Dice;
use allswell_core::id::{ChannelId, ProjectId, UserId};
use allswell_core::key::KeyKind;
use allswell_core::quota::Quota;
use allswell_core::schedule::Zones;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::KeyRing;
use allswell_core::secret::Secret;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::ingest::{InboxLimits, Ingest, PingRules};
use allswell_engine::meters::Meters;
use allswell_store::channels::Channel;
use allswell_store::people::User;
use allswell_store::projects::Project;
use allswell_store::{Error, Place, Store};
use allswell_web::serve::Peer;
use allswell_web::{App, Network, Site, WebLimits};
use axum::Router;
use axum::body::{Body, to_bytes};
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tower_service::Service;

pub const SITE: &str = "https://hc.example.org";
pub const METRICS_KEY: &str = "the-metrics-key";
/// 2030-01-01T00:00:00Z, in seconds.
const NOW_SECS: i64 = 1_893_456_000;

/// The second in which all of a test happens.
pub fn now() -> Timestamp {
    Timestamp::from_secs(NOW_SECS)
}

/// The clock of the server: a microsecond later each time it is read, so that things have an order.
fn clock() -> Timestamp {
    static READ: AtomicI64 = AtomicI64::new(0);
    Timestamp::from_micros(now().as_micros() + READ.fetch_add(1, Ordering::Relaxed) % 900_000)
}

/// A project and its keys.
pub struct Side {
    pub project: ProjectId,
    pub write: String,
    pub read: String,
    pub ping: String,
}

impl Side {
    pub fn scope(&self) -> ProjectScope {
        ProjectScope::granted(self.project)
    }
}

pub struct House {
    app: Router,
    pub store: Store,
    pub dice: Dice,
    pub alice: Side,
    pub charlie: Side,
    /// Dora may have one check and no more.
    pub dora: Side,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The sentence of an error.
    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

/// A request in the making.
pub struct Ask<'h> {
    house: &'h House,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
    peer: [u8; 4],
}

impl Ask<'_> {
    pub fn key(self, key: &str) -> Self {
        self.header("x-api-key", key)
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        self.headers.insert(name, value);
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn from(mut self, peer: [u8; 4]) -> Self {
        self.peer = peer;
        self
    }

    pub async fn send(self) -> Answer {
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.path)
            .extension(Peer((self.peer, 40_000).into()))
            .body(Body::from(self.body))
            .unwrap();
        request.headers_mut().extend(self.headers);
        let response = self.house.app.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: to_bytes(body, usize::MAX).await.unwrap().to_vec(),
        }
    }
}

impl House {
    pub async fn new() -> Self {
        Self::with_rules(PingRules::default()).await
    }

    /// With these rules for pings.
    pub async fn with_rules(rules: PingRules) -> Self {
        let mut dice = Dice::from_number(7);
        let store = Store::open(&Place::Memory, now()).await.unwrap();
        let ring = KeyRing::generate("test", &mut dice);
        store.unlock(ring, dice.fork(), now()).await.unwrap();
        let alice = side(&store, &mut dice, "alice@example.org", 10_000).await;
        let charlie = side(&store, &mut dice, "charlie@example.org", 10_000).await;
        let dora = side(&store, &mut dice, "dora@example.org", 1).await;

        let limits = InboxLimits {
            capacity: 16,
            patience: Duration::from_secs(1),
            batch_max: 16,
        };
        let (meters, zones) = (Meters::default(), Zones::default());
        let (inbox, ingest) = Ingest::new(
            store.clone(),
            limits,
            dice.fork(),
            zones.clone(),
            Default::default(),
            meters.clone(),
        );
        tokio::spawn(ingest.with_rules(rules).run(clock));
        let site = Site {
            url: SITE.to_owned(),
            badge_label: "All's well".to_owned(),
            metrics_key: Some(Secret::new(METRICS_KEY.to_owned())),
            command: "allswell".to_owned(),
        };
        let limits = WebLimits {
            ping_key_required: rules.require_key,
            ping_body_bytes: 10_000,
            ping_drain_bytes: 100_000,
            api_body_bytes: 2_621_440,
            body_within: Duration::from_secs(5),
            api_per_key: Quota::new(6_000, Span::from_secs(60)),
            wrong_keys: Quota::new(600, Span::from_secs(60)),
            unknown_addresses: Quota::new(600, Span::from_secs(60)),
        };
        let network = Network::new(|peer| peer.is_loopback());
        let state = App::new(
            store.clone(),
            inbox,
            clock,
            dice.fork(),
            site,
            network,
            limits,
            zones,
            Default::default(),
        );
        House {
            app: allswell_web::app(state),
            store,
            dice,
            alice,
            charlie,
            dora,
        }
    }

    pub fn ask(&self, method: &str, path: &str) -> Ask<'_> {
        Ask {
            house: self,
            method: method.parse().unwrap(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            peer: [127, 0, 0, 1],
        }
    }

    /// A request to `/api/v3/` with Alice's read-write key.
    pub fn api(&self, method: &str, path: &str) -> Ask<'_> {
        self.ask(method, &format!("/api/v3/{path}"))
            .key(&self.alice.write)
    }

    /// A check of Alice's project, made through the API.
    pub async fn check(&self, fields: Value) -> Value {
        let made = self.api("POST", "checks/").json(&fields).send().await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        made.json()
    }

    /// The id of a new check of Alice's project.
    pub async fn check_id(&self) -> String {
        let made = self
            .check(serde_json::json!({ "name": "Nightly backup", "slug": "nightly" }))
            .await;
        made["uuid"].as_str().unwrap().to_owned()
    }

    pub async fn ping(&self, path: &str, body: &str) {
        let answer = self.ask("POST", &format!("/ping/{path}")).body(body).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }

    /// A channel of Alice's project.
    pub async fn channel(&mut self, name: &str) -> ChannelId {
        let channel = Channel {
            id: self.dice.id(),
            kind: "silent".to_owned(),
            name: name.to_owned(),
            tells_down: true,
            tells_up: true,
            created_at: now(),
        };
        let (id, scope, mut dice) = (channel.id, self.alice.scope(), self.dice.fork());
        self.store
            .write(async move |tx| tx.channel_insert(scope, &channel, b"{}", &mut dice).await)
            .await
            .unwrap();
        id
    }

    /// All that a request must leave as it is when it is refused: how many rows there are, and the checks of all
    /// projects with everything the API tells of them.
    pub async fn everything(&self) -> (Vec<(String, i64)>, String) {
        let mut shown = String::new();
        for side in [&self.alice, &self.charlie, &self.dora] {
            let listed = self.ask("GET", "/api/v3/checks/").key(&side.write).send().await;
            shown += &listed.text();
        }
        let mut rows = self.store.count_rows().await.unwrap();
        // That a wrong key was tried is counted.
        rows.retain(|(table, _)| table != "wrong_keys");
        (rows, shown)
    }
}

async fn side(store: &Store, dice: &mut Dice, email: &str, check_limit: i64) -> Side {
    let user = User {
        id: dice.id::<UserId>(),
        email: email.to_owned(),
        is_admin: false,
        check_limit,
        created_at: now(),
    };
    let project = Project {
        id: dice.id(),
        owner: user.id,
        name: "Home".to_owned(),
        created_at: now(),
    };
    let (scope, mut dice) = (ProjectScope::granted(project.id), dice.fork());
    let id = project.id;
    let keys = store
        .write(async move |tx| {
            tx.user_insert(SystemScope::operator(), &user, Some("x")).await?;
            tx.project_insert(SystemScope::operator(), &project, &mut dice)
                .await?;
            let mut keys = Vec::new();
            for kind in [KeyKind::ReadWrite, KeyKind::ReadOnly, KeyKind::Ping] {
                let (_, text) = tx
                    .key_create(scope, kind, "", &mut dice, now() - Span::from_days(1))
                    .await?;
                keys.push(text.reveal().clone());
            }
            Ok::<_, Error>(keys)
        })
        .await
        .unwrap();
    let [write, read, ping] = keys.try_into().unwrap();
    Side {
        project: id,
        write,
        read,
        ping,
    }
}
