//! Fills a new database through the store, in large transactions, and reads back what became of it.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Settings, State, Status};
use allswell_core::id::{CheckId, ProjectId, UserId};
use allswell_core::schedule::Zones;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::KeyRing;
use allswell_core::time::Timestamp;
use allswell_store::people::User;
use allswell_store::projects::Project;
use allswell_store::{Place, Store};
use anyhow::{Context, Result, ensure};
use tokio::runtime::Runtime;

/// Pings of a check that the server keeps by default.
pub const PINGS_KEPT: u64 = 1_000;
/// Checks of one project, written in one transaction.
const CHECKS_PER_PROJECT: usize = 1_000;

/// What was made, and where.
pub struct Seeded {
    database: PathBuf,
    checks: Vec<CheckId>,
    projects: Vec<ProjectId>,
}

/// Makes `place/data` with a key ring and a database of so many checks: all up, a ping a day, not pinged yet, so that
/// what is measured is a ping of a check that is well, and not its first.
pub fn fill(place: &Path, count: usize, seed: u64) -> Result<Seeded> {
    let data = place.join("data");
    DirBuilder::new().mode(0o700).create(&data)?;
    let mut dice = Dice::from_number(seed);
    let ring = KeyRing::generate("bench", &mut dice);
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(data.join("key-ring"))?
        .write_all(ring.to_text().reveal().as_bytes())?;
    let mut seeded = Seeded {
        database: data.join("allswell.db"),
        checks: (0..count).map(|_| dice.id()).collect(),
        projects: Vec::new(),
    };
    // In the order of the primary key the pages fill one after the other, which makes a million checks bearable.
    seeded.checks.sort();
    runtime()?.block_on(write(&mut seeded, ring, dice))?;
    Ok(seeded)
}

async fn write(seeded: &mut Seeded, ring: KeyRing, mut dice: Dice) -> Result<()> {
    let now = now()?;
    let store = Store::open(&Place::File(seeded.database.clone()), now).await?;
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
    for ids in seeded.checks.chunks(CHECKS_PER_PROJECT) {
        let project = Project {
            id: dice.id(),
            owner,
            name: "Bench".to_owned(),
            created_at: now,
        };
        seeded.projects.push(project.id);
        let checks: Vec<Check> = ids
            .iter()
            .map(|id| check(*id, project.id, now, &mut dice))
            .collect();
        let mut dice = dice.fork();
        store
            .write(async move |tx| {
                tx.project_insert(SystemScope::operator(), &project, &mut dice)
                    .await?;
                for check in &checks {
                    tx.check_insert(check).await?;
                }
                Ok::<_, allswell_store::Error>(())
            })
            .await?;
    }
    store.checkpoint().await?;
    Ok(())
}

fn check(id: CheckId, project: ProjectId, now: Timestamp, dice: &mut Dice) -> Check {
    let settings = Settings {
        name: format!("Nightly job {}", dice.below(1_000_000)),
        slug: format!("nightly-job-{id}"),
        tags: String::new(),
        ..Settings::default()
    };
    let state = State {
        status: Status::Up,
        last_ping: Some(now),
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
            let store = Store::open(&Place::File(self.database.clone()), now()?).await?;
            let mut counts = Vec::with_capacity(self.checks.len());
            for project in &self.projects {
                let scope = ProjectScope::granted(*project);
                let mut checks = store.read(async move |reader| reader.checks(scope).await).await?;
                checks.sort_by_key(|check| check.id);
                counts.extend(checks.iter().map(|check| check.state.ping_count));
            }
            ensure!(counts.len() == self.checks.len(), "checks are missing");
            let tables = store.count_rows().await?;
            let pings = tables.iter().find(|(table, _)| table == "pings");
            let (_, rows) = pings.context("there is no table of pings")?;
            Ok((counts, u64::try_from(*rows)?))
        })
    }
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().build()?)
}

fn now() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Timestamp::from_micros(i64::try_from(since.as_micros())?))
}
