//! `allswell keys rotate` and `allswell keys retire`
//!
//! The order is written into the database; a running server carries it out, and this command shows how far it is. Where
//! no server runs, and on PostgreSQL beside those that do, the command carries it out itself: the same step, a slice at a
//! time. Ending it in whatever way loses nothing: giving the command again goes on.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use allswell_core::id::NodeId;
use allswell_core::scope::SystemScope;
use allswell_core::seal::KeyRing;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::loops::{self, Step};
use allswell_engine::meters::Meters;
use allswell_engine::rekey::{Others, Rekey, awaited};
use allswell_store::rotation::{Phase, Rotation};
use allswell_store::{Error, Store};
use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::{Answer, operators_act};
use crate::config::{Config, KeyRingSource, Target};
use crate::house::{self, House};
use crate::{keyring, system};

/// Without progress for so long, we look again whether a server is there to make it.
const STALLED: Span = Span::from_secs(3);
const LOOK: Span = Span::from_millis(200);
/// Servers look at the ring each second: one that is waited for longer is named, for somebody must do something.
const PATIENCE: Span = Span::from_secs(10);

/// `allswell keys rotate`
pub async fn rotate(config: &Config, answer: Answer, name: Option<String>, retire: bool) -> Result<()> {
    let mut house = house::open(config).await?;
    let (rotation, before) = begin_or_go_on(config, &mut house, name).await?;
    let rotation = carry_out(config, &house, rotation.n, answer).await?;
    let ring = keyring::load_or_make(config, true, &mut house.dice)?.ring;
    // For people who read the file: the database knows which key is active.
    if let (KeyRingSource::File { path, .. }, true) =
        (&config.keys.ring, ring.first().name != rotation.root_key)
    {
        write_ring(path, &ring.with_first(&rotation.root_key))?;
    }
    let old: Vec<String> = before
        .into_iter()
        .filter(|name| *name != rotation.root_key)
        .collect();
    let mut lines = format!(
        "The root key “{}” wraps every data key ({} wrapped anew, {} made), and every value is sealed with the new ones.\n",
        rotation.root_key, rotation.keys_wrapped, rotation.keys_made
    );
    if rotation.values_unreadable > 0 {
        lines.push_str(&format!(
            "{} values do not open and were left as they are; the data keys they name are kept.\n",
            rotation.values_unreadable
        ));
    }
    for name in &old {
        if retire {
            lines.push_str(&retire_from_ring(config, &house.store, name).await?);
        } else {
            lines.push_str(&format!(
                "Nothing rests on the root key “{name}” any more, but backups of the database made until now need it. Keep a \
                 copy of the old ring with them, then: allswell keys retire {name}\n"
            ));
        }
    }
    let retired: &[String] = if retire { &old } else { &[] };
    answer.give(
        &json!({
            "root_key": rotation.root_key,
            "keys_wrapped": rotation.keys_wrapped,
            "keys_made": rotation.keys_made,
            "values_unreadable": rotation.values_unreadable,
            "unused": old,
            "retired": retired,
        }),
        &lines,
    )
}

/// The rotation to carry out, and the root keys that were there before.
async fn begin_or_go_on(
    config: &Config,
    house: &mut House,
    name: Option<String>,
) -> Result<(Rotation, Vec<String>)> {
    let system = SystemScope::operator();
    let newest = house
        .store
        .read(async move |reader| reader.rotation(system).await)
        .await?;
    let ring = keyring::load_or_make(config, true, &mut house.dice)?.ring;
    let others = |ring: &KeyRing| ring.names().map(str::to_owned).collect::<Vec<_>>();
    if let Some(rotation) = newest.filter(|rotation| !rotation.is_finished()) {
        if let Some(name) = name.filter(|name| *name != rotation.root_key) {
            bail!(
                "a rotation to the root key “{}” is under way; let it end first: allswell keys rotate (without --name {name})",
                rotation.root_key
            );
        }
        eprintln!(
            "Going on with the rotation to the root key “{}”.",
            rotation.root_key
        );
        return Ok((rotation, others(&ring)));
    }
    let (ring, root_key) = new_root_key(config, house, ring, name).await?;
    house.store.ring_replace(ring.clone()).await?;
    let (now, named, mut dice) = (loops::now(), root_key.clone(), house.dice.fork());
    let rotation = house
        .store
        .write(async move |tx| {
            tx.rotation_begin(system, &named, now).await?;
            let act = operators_act(now, None, "keys.rotate", format!("root-key:{named}"));
            tx.audit(dice.id_at(now), &act).await?;
            tx.rotation(system).await
        })
        .await
        .map_err(|error| {
            super::conflict_means(
                error,
                "somebody else began a rotation in this moment; look: allswell keys list".to_owned(),
            )
        })?;
    eprintln!("Rotating to the root key “{root_key}”.");
    let rotation = rotation.context("the rotation is not in the database")?;
    Ok((rotation, others(&ring)))
}

/// A key of the ring that was never used, as one that an operator has put there; else a new one in the ring's file.
async fn new_root_key(
    config: &Config,
    house: &mut House,
    ring: KeyRing,
    name: Option<String>,
) -> Result<(KeyRing, String)> {
    let used = house
        .store
        .read(async |reader| reader.root_keys_ever(SystemScope::operator()).await)
        .await?;
    let fresh = ring.names().find(|known| {
        !used.iter().any(|used| used == known) && name.as_deref().is_none_or(|name| name == *known)
    });
    if let Some(fresh) = fresh {
        let fresh = fresh.to_owned();
        return Ok((ring, fresh));
    }
    if let Some(name) = name.as_deref().filter(|name| ring.named(name).is_some()) {
        bail!("--name: the root key “{name}” was in use before; take another name");
    }
    let KeyRingSource::File { path, .. } = &config.keys.ring else {
        bail!(
            "the key ring is a setting, which this program cannot change. Add a line to it (allswell keys generate --name \
             NAME prints one), start each server with it, and give this command again"
        );
    };
    let taken = |name: &str| ring.named(name).is_some() || used.iter().any(|used| used == name);
    let name = name.unwrap_or_else(|| free_name(house.now, taken));
    let grown = ring
        .with_generated(&name, &mut house.dice)
        .context("--name: use letters, digits, hyphen, underscore and full stop, and a name that is free")?;
    write_ring(path, &grown)?;
    Ok((grown, name))
}

/// The day, with a number if that is taken.
fn free_name(now: Timestamp, taken: impl Fn(&str) -> bool) -> String {
    let day = now.to_rfc3339_secs().chars().take(10).collect::<String>();
    let mut names = std::iter::once(day.clone()).chain((2..).map(|n: u32| format!("{day}.{n}")));
    names.find(|name| !taken(name)).unwrap_or(day)
}

fn write_ring(path: &Path, ring: &KeyRing) -> Result<()> {
    system::replace_secret_file(path, ring.to_text().reveal()).with_context(|| {
        format!(
            "the key ring {} cannot be changed here. Where it comes from a secret store, add a line to it there (allswell \
             keys generate --name NAME prints one), let each server have it, and give this command again",
            path.display()
        )
    })
}

/// Until nothing rests on older root keys; gives the rotation as it then is.
async fn carry_out(config: &Config, house: &House, n: i64, answer: Answer) -> Result<Rotation> {
    let (done, stop) = watch::channel(false);
    let ended = Arc::new(Mutex::new(None));
    let on_sqlite = matches!(config.database.url.target(), Target::Sqlite(_));
    let others = if on_sqlite { Others::None } else { Others::Awaited };
    let mut dice = system::dice()?;
    let show = !answer.json || std::io::stderr().is_terminal();
    let work = Work {
        rekey: Rekey::new(
            house.store.clone(),
            None,
            others,
            keyring::home(config),
            dice.fork(),
        ),
        store: house.store.clone(),
        n,
        config_is_served: on_sqlite.then(|| house::Probe::new(config)),
        seen: Mutex::new(Seen {
            helps: !on_sqlite,
            ..Seen::default()
        }),
        show: Progress::new(show),
        ended: Arc::clone(&ended),
        done,
    };
    loops::run(work, Arc::new(Notify::new()), stop, Meters::default()).await;
    let ended = ended.lock().unwrap_or_else(PoisonError::into_inner).take();
    ended.unwrap_or_else(|| {
        Err(anyhow::anyhow!(
            "the rotation broke off; give the command again to go on"
        ))
    })
}

/// Shows how far a rotation is, and takes it forward where nobody else does.
struct Work {
    rekey: Rekey,
    store: Store,
    n: i64,
    /// On SQLite, where one server at most can be there: looks whether it is.
    config_is_served: Option<house::Probe>,
    seen: Mutex<Seen>,
    show: Progress,
    ended: Arc<Mutex<Option<Result<Rotation>>>>,
    done: watch::Sender<bool>,
}

#[derive(Default)]
struct Seen {
    newest: Option<Rotation>,
    moved_at: Option<Timestamp>,
    /// Since when servers are waited for, if they are.
    waits_since: Option<Timestamp>,
    helps: bool,
}

impl Seen {
    /// Whether servers have been waited for so long that somebody must do something.
    fn out_of_patience(&mut self, waits: bool, now: Timestamp) -> bool {
        let since = waits.then(|| self.waits_since.unwrap_or(now));
        self.waits_since = since;
        since.is_some_and(|since| now - since >= PATIENCE)
    }
}

impl Work {
    fn end(&self, with: Result<Rotation>) -> Due {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(with);
        let _ = self.done.send(true);
        Due::WhenNudged
    }

    /// Whether we take the rotation forward ourselves.
    fn helps(&self, newest: &Rotation, now: Timestamp) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = seen.newest.is_none();
        if seen.newest.as_ref() != Some(newest) {
            seen.newest = Some(newest.clone());
            seen.moved_at = Some(now);
        }
        let stalled = seen.moved_at.is_some_and(|at| now - at > STALLED);
        if let Some(probe) = self.config_is_served.as_ref().filter(|_| first || stalled) {
            seen.helps = !probe.is_served();
            seen.moved_at = Some(now);
        }
        seen.helps
    }
}

impl Step for Work {
    const NAME: &'static str = "rotate";

    async fn step(&self, now: Timestamp) -> allswell_store::Result<Due> {
        let newest = self
            .store
            .read(async |reader| reader.rotation(SystemScope::operator()).await)
            .await;
        let rotation = match newest {
            Ok(Some(rotation)) if rotation.n == self.n => rotation,
            Ok(_) => return Ok(self.end(Err(anyhow::anyhow!("another rotation was begun meanwhile")))),
            Err(error) if error.is_passing() => return Ok(Due::At(now + LOOK)),
            Err(error) => return Ok(self.end(Err(error.into()))),
        };
        let waits_for = if matches!(rotation.phase, Phase::Announced | Phase::Settling) {
            awaited(&self.store, &rotation, Others::Awaited, now)
                .await
                .unwrap_or_default()
        } else {
            Vec::new()
        };
        let named = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.out_of_patience(!waits_for.is_empty(), now)
        };
        self.show.line(words(&rotation, &waits_for, named));
        if rotation.is_finished() {
            self.show.end();
            return Ok(self.end(Ok(rotation)));
        }
        if !self.helps(&rotation, now) {
            return Ok(Due::At(now + LOOK));
        }
        match self.rekey.step(now).await {
            Ok(due) => Ok(due),
            Err(error) if error.is_passing() => Ok(Due::At(now + LOOK)),
            Err(error) => Ok(self.end(Err(anyhow::Error::from(error).context(
                "the rotation stopped where it is; nothing is lost, and giving the command again goes on",
            )))),
        }
    }
}

/// Lines on standard error: one that changes on a terminal, elsewhere one for each change of words.
struct Progress {
    shown: bool,
    on_terminal: bool,
    last: Mutex<String>,
}

impl Progress {
    fn new(shown: bool) -> Self {
        Progress {
            shown,
            on_terminal: std::io::stderr().is_terminal(),
            last: Mutex::default(),
        }
    }

    fn line(&self, line: String) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.shown || *last == line {
            return;
        }
        let mut err = std::io::stderr().lock();
        let _ = if self.on_terminal {
            write!(err, "\r\x1b[2K{line}")
        } else {
            writeln!(err, "{line}")
        };
        let _ = err.flush();
        *last = line;
    }

    fn end(&self) {
        if self.shown && self.on_terminal {
            eprintln!();
        }
    }
}

/// How far it is. Who is waited for is `named` once that has lasted.
fn words(rotation: &Rotation, waits_for: &[NodeId], named: bool) -> String {
    let waiting = |what: &str, remedy: &str| {
        let nodes: Vec<String> = waits_for.iter().map(NodeId::to_string).collect();
        if named {
            format!(
                "waiting until each server {what}; missing: {}{remedy}",
                nodes.join(", ")
            )
        } else {
            format!("waiting until each server {what}")
        }
    };
    match rotation.phase {
        Phase::Announced if waits_for.is_empty() => "the new root key is in the ring".to_owned(),
        Phase::Announced => waiting(
            "has the new root key in its ring",
            " (copy the ring's file there, if it has a copy of its own)",
        ),
        Phase::Wrapping => format!("wrapping data keys{}", done_so_far(rotation.keys_wrapped)),
        Phase::Keying => format!("making data keys{}", done_so_far(rotation.keys_made)),
        Phase::Settling if waits_for.is_empty() => "the data keys are replaced".to_owned(),
        Phase::Settling => waiting("knows the new data keys", ""),
        Phase::Sealing => match rotation.at() {
            // How much there is nobody has counted: the part behind it is told by ids, which are random.
            Some((column, percent)) => format!(
                "sealing values, pass {}: {column}{} ({} looked at, {} sealed)",
                rotation.pass,
                part_of(percent),
                rotation.values_seen,
                rotation.values_sealed
            ),
            None => format!("sealing values, pass {}", rotation.pass),
        },
        Phase::Resting | Phase::Sweeping | Phase::Done => "done".to_owned(),
    }
}

/// A count, once there is something to count: a zero that stands looks stuck.
fn done_so_far(count: i64) -> String {
    match count {
        0 => String::new(),
        count => format!(": {count} so far"),
    }
}

fn part_of(percent: u8) -> String {
    match percent {
        0 => String::new(),
        percent => format!(" {percent} %"),
    }
}

/// `allswell keys retire`
pub async fn retire(config: &Config, answer: Answer, name: &str) -> Result<()> {
    let store = house::open_to_look(config).await?;
    let line = retire_from_ring(config, &store, name).await?;
    answer.give(&json!({ "retired": name }), &line)
}

async fn retire_from_ring(config: &Config, store: &Store, name: &str) -> Result<String> {
    let (used, newest) = store
        .read(async |reader| {
            let newest = reader.rotation(SystemScope::operator()).await?;
            Ok::<_, Error>((reader.root_keys_in_use().await?, newest))
        })
        .await?;
    if let Some(used) = used.iter().find(|used| used.name == name) {
        bail!(
            "the root key “{name}” wraps {} data keys of this database; replace it first: allswell keys rotate",
            used.wraps
        );
    }
    if newest.is_some_and(|rotation| !rotation.is_finished() && rotation.root_key == name) {
        bail!("a rotation to the root key “{name}” is under way; let it end first: allswell keys rotate");
    }
    let mut dice = system::dice()?;
    let ring = keyring::load_or_make(config, true, &mut dice)?.ring;
    let Some(rest) = ring.without(name) else {
        bail!(
            "the key ring holds no root key “{name}” beside others; allswell keys list shows those it holds"
        );
    };
    match &config.keys.ring {
        KeyRingSource::File { path, .. } => write_ring(path, &rest)?,
        KeyRingSource::Inline(_) => bail!(
            "nothing rests on the root key “{name}”, but the key ring is a setting, which this program cannot change: \
             remove the line there"
        ),
    }
    let (at, id, target) = (loops::now(), dice.id_at(loops::now()), format!("root-key:{name}"));
    store
        .write(async move |tx| {
            tx.audit(id, &operators_act(at, None, "keys.retire", target))
                .await
        })
        .await?;
    Ok(format!("The root key “{name}” is gone from the ring.\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_when_it_has_been_waited_for() {
        let (mut seen, at) = (Seen::default(), Timestamp::from_secs);
        for (secs, waits, named) in [
            (0, true, false),
            (9, true, false),
            (10, true, true),
            (11, false, false),
            (30, true, false),
            (40, true, true),
        ] {
            assert_eq!(seen.out_of_patience(waits, at(secs)), named, "{secs}");
        }
    }

    #[test]
    fn what_has_not_begun_is_not_counted() {
        assert_eq!(
            (done_so_far(0), done_so_far(3)),
            (String::new(), ": 3 so far".to_owned())
        );
        assert_eq!((part_of(0), part_of(1)), (String::new(), " 1 %".to_owned()));
    }

    #[test]
    fn a_new_root_key_is_called_after_its_day_and_numbered_if_need_be() {
        let now = Timestamp::from_secs(1_769_860_800);
        assert_eq!(free_name(now, |_| false), "2026-01-31");
        assert_eq!(free_name(now, |name| name == "2026-01-31"), "2026-01-31.2");
        assert_eq!(free_name(now, |name| name.len() <= 12), "2026-01-31.10");
    }
}
