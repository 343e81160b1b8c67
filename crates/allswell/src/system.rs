//! What the program asks of the operating system: randomness, file modes, limits.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use allswell_core::chance::Dice;
use anyhow::{Context, Result, bail};
use rustix::fs::Access;

/// Dice whose seed comes from the operating system.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where the system's randomness enters"
)]
pub fn dice() -> Result<Dice> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the system gives no random bytes")?;
    Ok(Dice::from_seed(seed))
}

/// From here on, files that we make are ours alone to read.
pub fn close_new_files_to_others() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Makes a directory that only we may enter, with those above it. One that exists is left as it is.
pub fn make_private_dir(path: &Path) -> Result<()> {
    let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(path) else {
        return Ok(());
    };
    let shown = path.display();
    let advice = match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => {
            ": something on this path is a file. data_dir (ALLSWELL_DATA_DIR) names a directory".to_owned()
        }
        ErrorKind::PermissionDenied => {
            let uid = rustix::process::geteuid().as_raw();
            format!(
                ": the account this runs as (uid {uid}) may not. Make it for that account, as with \
                 `install -d -m 700 -o {uid} {shown}`, or name another place in data_dir (ALLSWELL_DATA_DIR)"
            )
        }
        _ => String::new(),
    };
    Err(error).with_context(|| format!("could not make the data directory {shown}{advice}"))
}

/// Whose the first of these is that we may not read and write, and what to do; `None` if none is. What is not there counts
/// for nothing.
pub fn closed_to_us<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Option<String> {
    let uid = rustix::process::geteuid().as_raw();
    paths.into_iter().find_map(|path| {
        let facts = std::fs::metadata(path).ok()?;
        let mut wanted = Access::READ_OK | Access::WRITE_OK;
        if facts.is_dir() {
            wanted |= Access::EXEC_OK;
        }
        rustix::fs::access(path, wanted).err()?;
        let (shown, owner) = (path.display(), facts.uid());
        Some(if owner == uid {
            format!("{shown} is closed to its owner, the account this runs as (uid {uid}): chmod u+rwX {shown}")
        } else {
            // Not to be given over by what can be pasted: it may be a directory of the system's.
            format!(
                "{shown} belongs to uid {owner}, and this runs as uid {uid}: run it as the owner, or name a directory of its \
                 own in data_dir (ALLSWELL_DATA_DIR)"
            )
        })
    })
}

/// Writes a new file that only we may read, and waits until it is on disk. It appears whole or not at all, and never
/// takes the place of another.
pub fn write_secret_file(path: &Path, text: &str) -> Result<()> {
    let mut half = path.as_os_str().to_owned();
    half.push(format!(".{}.half", std::process::id()));
    let half = Path::new(&half);
    let made = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(half);
    let mut file = made.with_context(|| format!("could not make {}", half.display()))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
    let linked = std::fs::hard_link(half, path);
    std::fs::remove_file(half)?;
    linked.with_context(|| format!("could not make {}", path.display()))?;
    // The name too must survive a power cut.
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        File::open(dir).and_then(|dir| dir.sync_all())?;
    }
    Ok(())
}

/// Puts new text in the place of a file that holds a secret, and waits until it is on disk: whoever reads finds the old
/// file or the new one, whole. Owner, group and mode stay, since the one who changes a file need not be who reads it.
pub fn replace_secret_file(path: &Path, text: &str) -> Result<()> {
    // A link is kept, and what it leads to is replaced.
    let path = path
        .canonicalize()
        .with_context(|| format!("could not find {}", path.display()))?;
    let old = std::fs::metadata(&path)?;
    let mut half = path.clone().into_os_string();
    half.push(format!(".{}.half", std::process::id()));
    let half = Path::new(&half);
    let written = (|| {
        let made = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(half);
        let mut file = made.with_context(|| format!("could not make {}", half.display()))?;
        if (old.uid(), old.gid()) != (file.metadata()?.uid(), file.metadata()?.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))
                .with_context(|| format!("could not give {} to the owner of the old file", half.display()))?;
        }
        file.set_permissions(old.permissions())?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all())?;
        std::fs::rename(half, &path)?;
        Ok(())
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(half);
        return written;
    }
    if let Some(dir) = path.parent() {
        File::open(dir).and_then(|dir| dir.sync_all())?;
    }
    Ok(())
}

/// Reads a small text file that holds a secret. Refuses one that others may read.
pub fn read_secret_file(path: &Path, bytes_max: u64) -> Result<String> {
    let file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o007 != 0 {
        bail!(
            "{} may be read by every user of this machine; close it with: chmod 600 {}",
            path.display(),
            path.display()
        );
    }
    read_bounded(file, path, bytes_max)
}

/// Reads a small text file.
pub fn read_small_file(path: &Path, bytes_max: u64) -> Result<String> {
    let file = File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    read_bounded(file, path, bytes_max)
}

/// Reads a small text from standard input, to its end.
pub fn read_stdin(bytes_max: u64) -> Result<String> {
    read_bounded(std::io::stdin().lock(), Path::new("standard input"), bytes_max)
}

fn read_bounded(file: impl Read, path: &Path, bytes_max: u64) -> Result<String> {
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("could not read {}", path.display()))?;
    if bytes.len() as u64 > bytes_max {
        bail!("{} is larger than {bytes_max} bytes", path.display());
    }
    String::from_utf8(bytes).map_err(|_| anyhow::anyhow!("{} is not text in UTF-8", path.display()))
}

/// Waits a little. Only for commands that wait for what a running server does.
#[expect(
    clippy::disallowed_methods,
    reason = "a command beside the server has no loop that could be nudged"
)]
pub async fn pause(length: std::time::Duration) {
    tokio::time::sleep(length).await;
}

/// Raises the limit of open files as far as the system allows; gives the limit.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Not lower than needed is all we want: a failure leaves what was.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether an error says that nobody reads our standard output any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Writes to standard output, so that a closed pipe is an error and no panic.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
