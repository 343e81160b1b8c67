//! Fills a new database through the store, in large transactions, and reads back what became of it.
//!
//! Beside the checks that are pinged there may be others that all fall silent at one instant.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Settings, State, Status};
use allswell_core::id::{CheckId, ProjectId, UserId};
use allswell_core::schedule::Zones;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::KeyRing;
use allswell_core::time::Timestamp;
use allswell_store::channels::Channel;
use allswell_store::people::User;
use allswell_store::projects::Project;
use allswell_store::{Place, Store, Tx};
use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Pings of a check that the server keeps by default.
pub const PINGS_KEPT: u64 = 1_000;
/// Checks of one project, written in one transaction.
const CHECKS_PER_PROJECT: usize = 1_000;
/// Projects that are written at once, where the database takes several writers.
const WRITERS: usize = 8;

/// What was made, and where.
pub struct Seeded {
    place: Place,
    checks: Vec<CheckId>,
    projects: Vec<ProjectId>,
    late: usize,
}

/// How many checks, and how they are.
#[derive(Copy, Clone)]
pub struct Wanted {
    /// All up, a ping a day, not pinged yet, so that what is measured is a ping of a check that is well, and not its first.
    pub checks: usize,
    /// Checks with one channel each that go down at `late_at`.
    pub late: usize,
    pub late_at: Timestamp,
    pub seed: u64,
}

/// Makes `dir/data` with a key ring, and fills the database.
pub fn fill(dir: &Path, place: &Place, wanted: Wanted) -> Result<Seeded> {
    let data = dir.join("data");
    let mut dice = Dice::from_number(wanted.seed);
    let ring = KeyRing::generate("bench", &mut dice);
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(data.join("key-ring"))?
        .write_all(ring.to_text().reveal().as_bytes())?;
    let mut seeded = Seeded {
        place: place.clone(),
        checks: (0..wanted.checks).map(|_| dice.id()).collect(),
        projects: Vec::new(),
        late: wanted.late,
    };
    // In the order of the primary key the pages fill one after the other, which makes a million checks bearable.
    seeded.checks.sort();
    runtime()?.block_on(write(&mut seeded, wanted, ring, dice))?;
    Ok(seeded)
}

/// Makes the directory of the server's data, with the rights it wants.
pub fn make_data_dir(dir: &Path) -> Result<()> {
    Ok(DirBuilder::new().mode(0o700).create(dir.join("data"))?)
}

async fn write(seeded: &mut Seeded, wanted: Wanted, ring: KeyRing, mut dice: Dice) -> Result<()> {
    let now = now()?;
    let store = Store::open(&seeded.place, now).await?;
    store.unlock(ring, dice.fork(), now).await?;
    let owner: UserId = dice.id();
    let user = User {
        id: owner,
        email: "bench@example.org".to_owned(),
        is_admin: false,
        check_limit: i64::MAX,
        created_at: now,
    };
    store
        .write(async move |tx| {
            tx.user_insert(SystemScope::operator(), &user, Some("none fits"))
                .await
        })
        .await?;
    let mut late: Vec<CheckId> = (0..wanted.late).map(|_| dice.id()).collect();
    late.sort();
    let quiet = seeded.checks.chunks(CHECKS_PER_PROJECT).map(|ids| (ids, None));
    let late = late
        .chunks(CHECKS_PER_PROJECT)
        .map(|ids| (ids, Some(wanted.late_at)));
    let mut writers: JoinSet<Result<()>> = JoinSet::new();
    for (ids, late_at) in quiet.chain(late) {
        if writers.len() >= WRITERS {
            writers.join_next().await.context("a writer")???;
        }
        let project = Project {
            id: dice.id(),
            owner,
            name: "Bench".to_owned(),
            created_at: now,
        };
        if late_at.is_none() {
            seeded.projects.push(project.id);
        }
        let checks: Vec<Check> = ids
            .iter()
            .map(|id| check(*id, project.id, now, late_at, &mut dice))
            .collect();
        let (store, mut dice) = (store.clone(), dice.fork());
        writers.spawn(async move {
            let tells = late_at.is_some();
            store
                .write(async move |tx| write_project(tx, &project, &checks, tells, &mut dice).await)
                .await?;
            Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    store.checkpoint().await?;
    Ok(())
}

async fn write_project(
    tx: &mut Tx<'_>,
    project: &Project,
    checks: &[Check],
    tells: bool,
    dice: &mut Dice,
) -> allswell_store::Result<()> {
    tx.project_insert(SystemScope::operator(), project, dice).await?;
    let channel = Channel {
        id: dice.id(),
        kind: "silent".to_owned(),
        name: "nobody".to_owned(),
        tells_down: true,
        tells_up: true,
        created_at: project.created_at,
    };
    let scope = ProjectScope::granted(project.id);
    tx.channel_insert(scope, &channel, b"", dice).await?;
    for check in checks {
        tx.check_insert(ProjectScope::granted(check.project), check)
            .await?;
        if tells {
            tx.check_set_channels(ProjectScope::granted(check.project), check.id, &[channel.id])
                .await?;
        }
    }
    Ok(())
}

fn check(
    id: CheckId,
    project: ProjectId,
    now: Timestamp,
    late_at: Option<Timestamp>,
    dice: &mut Dice,
) -> Check {
    let settings = Settings {
        name: format!("Nightly job {}", dice.below(1_000_000)),
        slug: format!("nightly-job-{id}"),
        tags: String::new(),
        ..Settings::default()
    };
    let state = State {
        status: Status::Up,
        last_ping: Some(late_at.map_or(now, |at| at - settings.grace - settings.timing.period)),
        ..State::new(now)
    };
    let deadline = settings
        .plan(&Zones::Bundled)
        .ok()
        .and_then(|plan| state.deadline(&plan));
    Check {
        id,
        project,
        badge: dice.id(),
        settings,
        state,
        deadline,
        version: 1,
        created_at: now,
    }
}

impl Seeded {
    /// How many checks there are.
    pub fn checks(&self) -> usize {
        self.checks.len()
    }

    /// Writes a check's id as text of 36 characters.
    pub fn write_id(&self, check: usize, text: &mut [u8]) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut at = 0;
        for (index, byte) in self.checks[check].as_uuid_bytes().iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text[at] = b'-';
                at += 1;
            }
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
    }

    /// What each check has counted, and the rows in the log of pings. The server must have ended.
    pub fn stored(&self) -> Result<(Vec<u64>, u64)> {
        runtime()?.block_on(async {
            let store = Store::open(&self.place, now()?).await?;
            let mut counts = Vec::with_capacity(self.checks.len());
            for project in &self.projects {
                let scope = ProjectScope::granted(*project);
                let mut checks = store.read(async move |reader| reader.checks(scope).await).await?;
                checks.sort_by_key(|check| check.id);
                counts.extend(checks.iter().map(|check| check.state.ping_count));
            }
            ensure!(counts.len() == self.checks.len(), "checks are missing");
            let tables = store.count_rows().await?;
            let rows = |name: &str| {
                let found = tables.iter().find(|(table, _)| table == name);
                found.map(|(_, rows)| *rows).context("a table is missing")
            };
            for table in ["flips", "incidents", "deliveries", "delivery_flips"] {
                let (rows, late) = (rows(table)?, self.late);
                ensure!(
                    rows == late as i64,
                    "{late} checks fell silent, and {table} holds {rows} rows"
                );
            }
            Ok((counts, u64::try_from(rows("pings")?)?))
        })
    }
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

pub fn now() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Timestamp::from_micros(i64::try_from(since.as_micros())?))
}
