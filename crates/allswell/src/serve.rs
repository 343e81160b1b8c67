//! `allswell serve`: everything wired together, and ended in order.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use allswell_core::exchange::{Class, Outcome, Request};
use allswell_core::id::NodeId;
use allswell_core::limits::START_LINK_MINUTES;
use allswell_core::quota::Quota;
use allswell_core::scope::SystemScope;
use allswell_core::time::Span;
use allswell_engine::changes::Changes;
use allswell_engine::deliver::{self, Deliver};
use allswell_engine::failpoint::failpoint;
use allswell_engine::ingest::{InboxLimits, Ingest, PingRules};
use allswell_engine::listen::Listen;
use allswell_engine::loops;
use allswell_engine::meters::Meters;
use allswell_engine::ports::{Log, Outbound};
use allswell_engine::rekey::{Others, Rekey};
use allswell_engine::replan::Replan;
use allswell_engine::retain::{Kept, Retain};
use allswell_engine::sweep::Sweep;
use allswell_engine::tally::Tally;
use allswell_engine::watchdog::Watchdog;
use allswell_outbound::Client;
use allswell_web::serve::{Gauges, ServeLimits, serve as serve_http};
use allswell_web::{About, App, Network, Site, WebLimits};
use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::commands::start_link;
use crate::config::{Config, Loaded, LogFormat, SiteUrl, Source, Target};
use crate::house::{self, House};
use crate::{keyring, notify, outward, readers, system, telemetry, tzdata};

/// Seconds that requests in flight have to finish.
const SHUTDOWN_SECS: u64 = 20;
const WRITE_STALL_SECS: u64 = 30;
const MINUTE: Span = Span::from_secs(60);

/// Runs the server until SIGTERM, Ctrl-C, or the end of the terminal that it was started at.
pub async fn run(loaded: Loaded) -> Result<()> {
    let config = &loaded.config;
    let log = telemetry::start(config.log);
    // First of all: whoever sends them while we start means it.
    let mut stop = Stop::new()?;
    let open_files = system::raise_open_files();

    let Some(serving) = loops::tried_again(|| house::lock_for_serving(config).transpose())
        .await
        .transpose()
        .map_err(|error| whose(config, error))?
    else {
        bail!(
            "another Allswell already serves the data in {}; stop it first, or give this one a directory of its own \
             (data_dir, ALLSWELL_DATA_DIR)",
            config.data_dir.display()
        );
    };
    let store = house::open_locked(config)
        .await
        .map_err(|error| whose(config, error))?;
    let House {
        store,
        mut dice,
        new_ring,
        ..
    } = house::unlock(config, store).await?;
    let zones = tzdata::zones(config)?;
    let listener = bind(config.listen, "listen").await?;
    let metrics = match config.metrics.listen {
        Some(address) => Some(bind(address, "metrics.listen").await?),
        None => None,
    };
    let site = site(&loaded, listener.local_addr()?);
    // Certificates or name servers that cannot be used end the start, not the first alert.
    let outbound = outward::client(config, &own_ports(&listener, metrics.as_ref())?)?;
    let channel_rules = house::channel_rules(config, outbound.policy(Class::Webhook));
    readers::watchdog(config, &outbound)?;

    // The lock is ours, so whoever held a lease is gone: its deliveries need not wait for it to lapse. Where others may
    // serve too, they do.
    if serving.is_alone() {
        store
            .write(async |tx| tx.deliveries_release_all(SystemScope::engine()).await)
            .await?;
        failpoint("during_startup_recovery");
    }

    let flush = store.flush_time(loops::now).await?;
    let link = start_link::make_if_new(&store, &site.url, &mut dice).await?;
    Greeting::new(config, &site, flush, link.as_deref(), new_ring).give(config.log.format)?;
    let durability = store.durability().await?;
    if !durability.is_kept() {
        tracing::warn!("the database may lose answered pings when its machine crashes: {durability:?}");
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if open_files < config.limits.connections as u64 + u64::from(config.delivery.max_in_flight) + 64 {
        tracing::warn!(
            "the system allows {open_files} open files, fewer than limits.connections ({}) and delivery.max_in_flight \
             ({}) need; raise `ulimit -n`",
            config.limits.connections,
            config.delivery.max_in_flight
        );
    }

    let node: NodeId = dice.id();
    let meters = Meters::default();
    let nudge = || Arc::new(Notify::new());
    let (deliver_nudge, changes_nudge, idle) = (nudge(), nudge(), nudge());
    let (inbox, ingest) = Ingest::new(
        store.clone(),
        InboxLimits {
            capacity: config.limits.inbox,
            patience: Duration::from_millis(config.limits.inbox_wait_ms),
            batch_max: config.limits.batch,
        },
        dice.fork(),
        zones.clone(),
        deliver_nudge.clone(),
        meters.clone(),
    );
    let ingest = ingest.with_rules(PingRules {
        per_check: config.limits.ping_per_check,
        over: config.limits.ping_mode,
        require_key: config.pings.require_key,
    });

    let (stop_loops, stopped) = watch::channel(false);
    let sweep = Sweep::new(
        store.clone(),
        node,
        dice.fork(),
        zones.clone(),
        inbox.pending(),
        deliver_nudge.clone(),
        meters.clone(),
    );
    let sweep = if serving.is_alone() {
        sweep
    } else {
        sweep.beside_others(loops::now).await?
    };
    let retain = Retain::new(store.clone(), kept(config));
    let replan = Replan::new(store.clone(), dice.fork(), zones.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(loops::run(sweep, idle.clone(), stopped.clone(), meters.clone()));
    if metrics.is_some() {
        let tally = Tally::new(store.clone(), meters.clone());
        tasks.spawn(loops::run(tally, idle.clone(), stopped.clone(), meters.clone()));
    }
    let listen = Listen::new(store.clone(), deliver_nudge.clone(), changes_nudge.clone());
    let listening = tokio::spawn(loops::run(listen, idle.clone(), stopped.clone(), meters.clone()));
    tasks.spawn(loops::run(replan, idle.clone(), stopped.clone(), meters.clone()));
    let rekey = Rekey::new(
        store.clone(),
        Some(node),
        if serving.is_alone() {
            Others::None
        } else {
            Others::Awaited
        },
        keyring::home(config),
        dice.fork(),
    );
    tasks.spawn(loops::run(rekey, idle.clone(), stopped.clone(), meters.clone()));
    tasks.spawn(loops::run(retain, idle.clone(), stopped.clone(), meters.clone()));
    let mut ingesting = tokio::task::spawn_blocking(apart(ingest)?);
    let door = outbound.clone();
    let watchdog = Watchdog::new(
        store.clone(),
        node,
        inbox.clone(),
        config.watchdog.url.clone(),
        move |request| {
            let door = door.clone();
            async move { door.send(request).await }
        },
        notify::lives,
    );
    let mut watching = tokio::spawn(loops::run(
        watchdog,
        idle.clone(),
        stopped.clone(),
        meters.clone(),
    ));

    let gauges = Arc::new(Gauges::default());
    let about = About {
        version: env!("CARGO_PKG_VERSION"),
        started_at: loops::now(),
        log_lost: log.lost(),
    };
    let metrics_app = allswell_web::metrics_app(&meters, gauges.clone(), inbox.clone(), about);
    let app = App::new(
        store.clone(),
        inbox,
        loops::now,
        dice.fork(),
        site,
        network(config),
        web_limits(config),
        zones,
        channel_rules,
    );
    let rules = deliver::Rules {
        permits: deliver::Permits {
            max: config.delivery.max_in_flight,
            per_project: config.delivery.max_per_project,
        },
        schedule: config.delivery.schedule.clone(),
        coalesce: config.delivery.coalesce,
        sender: house::sender(config),
    };
    let parts = deliver::Parts {
        node,
        outbound: Door(outbound),
        describe: allswell_web::describe(&app),
        dice: dice.fork(),
        nudge: deliver_nudge.clone(),
        log: Log {
            lost: log.lost(),
            flush: Some(Arc::new({
                let log = log.clone();
                move || log.flushed()
            })),
        },
        meters: meters.clone(),
    };
    let deliver = Deliver::new(store.clone(), rules, parts);
    // It ends first and for itself: its attempts may take long, and requests are served meanwhile.
    let (stop_deliver, deliver_stopped) = watch::channel(false);
    let mut delivering = JoinSet::new();
    delivering.spawn(loops::run(
        deliver,
        deliver_nudge,
        deliver_stopped,
        meters.clone(),
    ));
    let listeners = app.listeners().clone();
    let changes = Changes::new(store.clone(), listeners.clone());
    let telling = tokio::spawn(Changes::nudge_after_commits(store.clone(), changes_nudge.clone()));
    tasks.spawn(loops::run(
        changes,
        changes_nudge,
        stopped.clone(),
        meters.clone(),
    ));
    let app = allswell_web::app(app);
    let limits = serve_limits(config);
    let until = |mut stopped: watch::Receiver<bool>| async move {
        // An error means that the sender is gone, which is an end too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let (stop_http, http_stopped) = watch::channel(false);
    let mut http = JoinSet::new();
    http.spawn(serve_http(
        listener,
        app,
        limits,
        network(config),
        gauges,
        until(http_stopped.clone()),
    ));
    if let Some(listener) = metrics {
        http.spawn(serve_http(
            listener,
            metrics_app,
            limits,
            network(config),
            Arc::default(),
            until(http_stopped),
        ));
    } else {
        drop(metrics_app);
    }

    notify::ready();
    let broken = tokio::select! {
        name = stop.wait() => {
            tracing::info!("{name}: ending; requests in flight have up to {SHUTDOWN_SECS} s (again: end them at once)");
            false
        }
        _ = tasks.join_next() => true,
        _ = delivering.join_next() => true,
        _ = http.join_next() => true,
        _ = &mut ingesting => true,
        _ = &mut watching => true,
    };
    // Nothing more is begun that would have to be awaited. A receiver may take its time over what is under way: meanwhile pings
    // are served, since nobody else may be there to take them.
    let _ = stop_deliver.send(true);
    notify::stopping();
    let mut hurry = false;
    if !broken {
        tokio::select! {
            () = async { while delivering.join_next().await.is_some() {} } => {}
            name = stop.wait() => {
                tracing::info!("{name}: ending requests in flight");
                hurry = true;
            }
        }
    }
    // Who listens to events would listen for ever.
    listeners.close();
    telling.abort();
    // It holds an end of the inbox, which must be gone before ingest is.
    watching.abort();
    // Requests first, then the pings they handed in, then the loops, then the database.
    let _ = stop_http.send(true);
    if hurry {
        http.shutdown().await;
    }
    tokio::select! {
        () = async { while http.join_next().await.is_some() {} } => {}
        name = stop.wait() => {
            tracing::info!("{name}: ending requests in flight");
            http.shutdown().await;
        }
    }
    if !broken {
        ingesting.await.context("the ingest loop broke off")?;
    }
    let _ = stop_loops.send(true);
    // It waits for what may never come, and has nothing to finish.
    listening.abort();
    while tasks.join_next().await.is_some() {}
    // Behind the last ping and the last sign of life, and not behind deliveries, which may take long: whoever kills us then
    // must not leave the others to wait for pings that are stored.
    if !broken
        && !serving.is_alone()
        && let Err(error) = store
            .write(async move |tx| tx.awake_end(SystemScope::engine(), node).await)
            .await
    {
        tracing::warn!("other servers wait an hour for pings of this one: {error}");
    }
    while delivering.join_next().await.is_some() {}
    if broken {
        bail!(
            "a part of the server ended by itself; the log says why. Start again: nothing that was answered is lost"
        );
    }
    if let Err(error) = store.checkpoint().await {
        // Nothing is lost: what was answered lies in the log beside the file, and the next start reads both.
        tracing::warn!("the database keeps its write-ahead log for the next start: {error}");
    }
    tracing::info!("ended");
    log.finish();
    Ok(())
}

/// An error of opening the database, with whose it is where that is why.
fn whose(config: &Config, error: anyhow::Error) -> anyhow::Error {
    let Target::Sqlite(path) = config.database.url.target() else {
        return error;
    };
    let beside = |end: &str| {
        let mut name = path.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut paths: Vec<PathBuf> = dir.map(PathBuf::from).into_iter().collect();
    paths.extend(["", ".lock", "-wal", "-shm"].map(beside));
    match system::closed_to_us(paths.iter().map(PathBuf::as_path)) {
        Some(why) => error.context(why),
        None => error,
    }
}

/// The ingest loop on a thread of its own. Among the connections it would wait for its turn behind hundreds of them, and
/// the writer with it.
fn apart(ingest: Ingest) -> Result<impl FnOnce() + Send + 'static> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the ingest loop")?;
    Ok(move || runtime.block_on(ingest.run(loops::now)))
}

/// The door as the engine knows it.
struct Door(Client);

impl Outbound for Door {
    fn send(&self, request: Request) -> impl Future<Output = Outcome> + Send {
        self.0.send(request)
    }
}

/// Where we listen, so that nobody makes us call ourselves.
fn own_ports(listener: &TcpListener, metrics: Option<&TcpListener>) -> Result<Vec<u16>> {
    let ports = [Some(listener), metrics];
    let ports = ports
        .into_iter()
        .flatten()
        .map(|listener| Ok(listener.local_addr()?.port()));
    ports.collect()
}

async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener> {
    use std::io::ErrorKind;
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::AddrInUse => "something else uses the address",
            ErrorKind::AddrNotAvailable => "this machine does not have the address",
            ErrorKind::PermissionDenied => "ports below 1024 need a right that this process lacks",
            _ => "the system refuses it",
        };
        anyhow::anyhow!("could not listen on {address} ({setting}): {hint} ({error})")
    })
}

/// The public address: as set, else that of the listener, whose port may have been chosen by the system.
fn site(loaded: &Loaded, bound: SocketAddr) -> Site {
    let derived = matches!(loaded.sources.get("site_url"), Some(Source::DefaultFrom(_)));
    let url = if derived {
        SiteUrl::of_listener(bound).as_str().to_owned()
    } else {
        loaded.config.site_url.as_str().to_owned()
    };
    Site {
        url,
        badge_label: loaded.config.badges.label.clone(),
        metrics_key: loaded.config.metrics.key.clone(),
        command: command(loaded.file.as_deref()),
    }
}

/// How commands begin that read the same file, wherever they are given.
fn command(file: Option<&Path>) -> String {
    let Some(file) = file else {
        return "allswell".to_owned();
    };
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let whole = whole.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%".contains(c);
    let quoted = if whole.chars().all(is_plain) {
        whole
    } else {
        format!("'{}'", whole.replace('\'', "'\\''"))
    };
    format!("allswell --config {quoted}")
}

/// What an operator should know at a start, each line by itself.
struct Greeting {
    lines: Vec<String>,
    /// The one that somebody must act on, if there is one.
    start: Option<String>,
}

impl Greeting {
    fn new(config: &Config, site: &Site, flush: Span, link: Option<&str>, new_ring: bool) -> Self {
        let ring = config.keys.ring.place();
        let made = if new_ring { " (made just now)" } else { "" };
        Greeting {
            start: link.map(|link| format!("Start here within {START_LINK_MINUTES} minutes: {link}")),
            lines: vec![
                format!(
                    "Allswell {} · {} · a commit to disk takes {:.1} ms",
                    env!("CARGO_PKG_VERSION"),
                    config.database.url.masked(),
                    flush.as_micros() as f64 / 1_000.0
                ),
                format!("Listening on {}, reached at {}", config.listen, site.url),
                format!("Key ring: {ring}{made}. Back it up: without it the stored secrets are lost"),
                format!("A job reports in with: curl -fsS {}/CHECK-ID", site.ping_base()),
            ],
        }
    }

    /// To people on standard output; to programs as records of the log, where nothing may stand that is no JSON.
    fn give(self, format: LogFormat) -> Result<()> {
        let Greeting { mut lines, start } = self;
        match format {
            LogFormat::Text => {
                // Behind the address that it leads to.
                lines.splice(2..2, start);
                system::print(&(lines.join("\n") + "\n"))
            }
            LogFormat::Json => {
                for line in lines {
                    tracing::info!("{line}");
                }
                // Somebody must act on it, so it is said also where the log is quiet.
                match start {
                    Some(start) if tracing::enabled!(tracing::Level::WARN) => tracing::warn!("{start}"),
                    Some(start) => system::print(&format!("{start}\n"))?,
                    None => {}
                }
                Ok(())
            }
        }
    }
}

fn network(config: &Config) -> Network {
    let trusted = config.trusted_proxies.clone();
    Network::new(move |peer| trusted.iter().any(|range| range.contains(peer)))
}

fn web_limits(config: &Config) -> WebLimits {
    WebLimits {
        ping_body_bytes: config.limits.ping_body_bytes,
        ping_drain_bytes: usize::try_from(config.limits.ping_drain_bytes).unwrap_or(usize::MAX / 2),
        api_body_bytes: config.limits.api_body_bytes,
        body_within: Duration::from_secs(config.limits.body_secs),
        api_per_key: Quota::new(config.limits.api_per_key, MINUTE),
        wrong_keys: Quota::new(config.limits.wrong_keys, MINUTE),
        unknown_addresses: Quota::new(config.limits.unknown_addresses, MINUTE),
        ping_key_required: config.pings.require_key,
    }
}

fn serve_limits(config: &Config) -> ServeLimits {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    ServeLimits {
        connections: count(config.limits.connections),
        connections_per_address: count(config.limits.connections_per_address),
        header_secs: config.limits.header_secs,
        header_bytes: config.limits.header_bytes,
        idle_secs: config.limits.idle_secs,
        write_stall_secs: WRITE_STALL_SECS,
        shutdown_secs: SHUTDOWN_SECS,
    }
}

fn kept(config: &Config) -> Kept {
    let days = |days: u64| Span::from_days(i64::try_from(days).unwrap_or(i64::MAX));
    Kept {
        pings: config.retention.pings_per_check,
        body_bytes: config.retention.body_bytes_per_check,
        history: days(config.retention.history_days),
        audit: days(config.retention.audit_days),
        undo: days(config.retention.undo_days),
    }
}

/// The signals that end the server.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Whether a hang-up is the end of the terminal that we were started at. Looked at first: one that is gone is none.
    at_terminal: bool,
}

impl Stop {
    fn new() -> Result<Self> {
        Ok(Stop {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            at_terminal: std::io::stdin().is_terminal(),
        })
    }

    async fn wait(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {}
            }
            // The shell and the system may both send one: the second is no hurry.
            if std::mem::take(&mut self.at_terminal) {
                return "SIGHUP, its terminal was closed";
            }
            tracing::warn!(
                "SIGHUP: nothing is read again, and the watch goes on; settings are read at the start, and a restart \
                 takes new ones (SIGTERM ends the server)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_the_file_that_the_server_has() {
        for (file, begins) in [
            (None, "allswell"),
            (
                Some("/etc/allswell/allswell.toml"),
                "allswell --config /etc/allswell/allswell.toml",
            ),
            (
                Some("/home/it's me/a.toml"),
                r"allswell --config '/home/it'\''s me/a.toml'",
            ),
        ] {
            assert_eq!(command(file.map(Path::new)), begins);
        }
        assert!(command(Some(Path::new("a.toml"))).starts_with("allswell --config /"));
    }
}
