//! Who lives in the world: two owners with a project each, their channels and checks. What happens to alice's receivers
//! must be no matter to bob.

use allswell_core::chance::Dice;
use allswell_core::check::Check;
use allswell_core::id::{CheckId, ProjectId};
use allswell_core::key::KeyKind;
use allswell_core::scope::ProjectScope;
use allswell_core::secret::Secret;
use allswell_store::Store;
use allswell_store::channels::Channel as StoredChannel;
use allswell_store::people::User;
use allswell_store::projects::Project;
use allswell_store::simulated::Simulated;

use crate::model::{Channel, Model};
use crate::outside::url;
use crate::world::{START, SYSTEM, World};

/// Receivers: three of alice, and the last one of bob, at the origin of one of hers.
pub(crate) const RECEIVERS: usize = 4;
/// Whose moods change.
pub(crate) const ALICES: usize = 3;

/// A project with its channels.
pub(crate) struct House {
    pub(crate) project: ProjectId,
    pub(crate) ping_key: Secret<String>,
    pub(crate) channels: Vec<Channel>,
}

/// A channel before it is stored: what it tells, and its receiver if it calls one.
struct Wanted {
    kind: &'static str,
    tells_up: bool,
    hook: Option<usize>,
}

const fn inside(kind: &'static str, tells_up: bool) -> Wanted {
    Wanted {
        kind,
        tells_up,
        hook: None,
    }
}

const fn hook(receiver: usize) -> Wanted {
    Wanted {
        kind: "webhook",
        tells_up: true,
        hook: Some(receiver),
    }
}

/// Alice has channels of each kind, bob one webhook.
pub(crate) fn furnish(db: &mut Simulated, number: usize, store: &Store, dice: &mut Dice) -> (House, House) {
    let alices = [
        inside("log", true),
        inside("log", false),
        inside("silent", true),
        hook(0),
        hook(1),
        hook(2),
    ];
    let alice = house("alice", &alices, db, (number, store), dice);
    let bob = house("bob", &[hook(RECEIVERS - 1)], db, (number, store), dice);
    (alice, bob)
}

fn house(
    name: &str,
    wanted: &[Wanted],
    db: &mut Simulated,
    (number, store): (usize, &Store),
    dice: &mut Dice,
) -> House {
    let user = User {
        id: dice.id(),
        email: format!("{name}@example.org"),
        is_admin: false,
        check_limit: 100_000,
        created_at: START,
    };
    let project = Project {
        id: dice.id(),
        owner: user.id,
        name: name.to_owned(),
        created_at: START,
    };
    let channels: Vec<Channel> = wanted
        .iter()
        .map(|wanted| Channel {
            id: dice.id(),
            silent: wanted.kind == "silent",
            down: true,
            up: wanted.tells_up,
            hook: wanted.hook,
        })
        .collect();
    let stored: Vec<(StoredChannel, String)> = wanted
        .iter()
        .zip(&channels)
        .map(|(wanted, channel)| {
            let stored = StoredChannel {
                id: channel.id,
                kind: wanted.kind.to_owned(),
                name: wanted.kind.to_owned(),
                tells_down: channel.down,
                tells_up: channel.up,
                created_at: START,
            };
            (stored, wanted.hook.map(config).unwrap_or_default())
        })
        .collect();
    let (id, mut fork) = (project.id, dice.fork());
    let write = store.write(async move |tx| {
        tx.user_insert(SYSTEM, &user, None).await?;
        tx.project_insert(SYSTEM, &project, &mut fork).await?;
        let scope = ProjectScope::granted(project.id);
        for (channel, config) in &stored {
            tx.channel_insert(scope, channel, config.as_bytes(), &mut fork)
                .await?;
        }
        tx.key_create(scope, KeyKind::Ping, "ping", &mut fork, START)
            .await
    });
    let (_, ping_key) = db.settle(number, write).expect("a house");
    House {
        project: id,
        ping_key,
        channels,
    }
}

/// A webhook that sends the whole event, unsigned: what is signed is the same bytes.
fn config(receiver: usize) -> String {
    let call = serde_json::json!({
        "method": "POST", "url": url(receiver), "headers": {}, "body": "${json:EVENT}",
    });
    let signing =
        serde_json::json!({ "form": "none", "key_id": "k", "header_prefix": "X-Health", "keys": [] });
    serde_json::json!({ "down": call, "up": call, "signing": signing }).to_string()
}

impl World {
    /// Every channel there is.
    pub(crate) fn all_channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().chain(&self.bobs)
    }

    /// Writes a check with the channels that it tells.
    pub(crate) fn add_check(&mut self, check: Check, channels: Vec<Channel>) -> CheckId {
        let id = check.id;
        let mut model = Model::new(&check, channels.clone());
        model.version = check.version;
        model.job_at = Some(model.next_run(self.now));
        self.models.insert(id, model);
        let store = self.builder.1.clone();
        let ids: Vec<_> = channels.iter().map(|channel| channel.id).collect();
        let scope = ProjectScope::granted(check.project);
        let write = store.write(async move |tx| {
            tx.check_insert(scope, &check).await?;
            tx.check_set_channels(scope, check.id, &ids).await
        });
        self.db.settle(self.builder.0, write).expect("a check");
        id
    }
}
