//! Where the database is. The URL of a database server may hold a password, so the text is a secret: errors
//! about it are fixed sentences, and what is shown of it passes `masked`.

use std::path::{Path, PathBuf};

use allswell_store::Server;

use super::Secret;

/// A database URL that this version can open.
#[derive(Debug)]
pub struct DatabaseUrl {
    text: Secret<String>,
    target: Target,
}

/// What a URL names.
#[derive(Debug)]
pub enum Target {
    /// A file, relative to the working directory when it was written so.
    Sqlite(PathBuf),
    /// A database of a server, with the parameters of the URL alone.
    Postgres(Box<Server>),
}

impl DatabaseUrl {
    /// Reads `sqlite:PATH` or `postgres://…`. The error is a sentence without its full stop and never holds what was given.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let scheme = text
            .split_once(':')
            .map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("sqlite") => Self::sqlite_parse(text),
            Some("postgres" | "postgresql") => Ok(Self {
                target: Target::Postgres(Box::new(Server::from_url(text)?)),
                text: Secret::new(text.to_owned()),
            }),
            Some("mysql" | "mariadb") => Err("MySQL and MariaDB are not supported"),
            _ => Err("it begins with neither sqlite: nor postgres://"),
        }
    }

    fn sqlite_parse(text: &str) -> Result<Self, &'static str> {
        let path = &text["sqlite:".len()..];
        // `sqlite:///var/x.db` is a common spelling of an absolute path; `sqlite://x.db` would mean `/x.db`
        // to some and `x.db` to others.
        let path = match path.strip_prefix("//") {
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) => return Err("write sqlite:PATH, without two slashes"),
            None => path,
        };
        if path.is_empty() {
            return Err("the path is missing");
        }
        if path.starts_with(':') {
            return Err("a database in memory would forget everything at the end; give a path");
        }
        if path.contains(['?', '\0']) {
            return Err("the path holds a ? or a zero byte; parameters are not supported");
        }
        Ok(Self {
            text: Secret::new(text.to_owned()),
            target: Target::Sqlite(PathBuf::from(path)),
        })
    }

    /// What an empty setting means.
    pub fn in_data_dir(data_dir: &Path) -> Self {
        let sqlite_path = data_dir.join("allswell.db");
        Self {
            text: Secret::new(format!("sqlite:{}", sqlite_path.display())),
            target: Target::Sqlite(sqlite_path),
        }
    }

    /// What it names.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The file, where tests know that it is one.
    #[cfg(test)]
    pub fn sqlite_path(&self) -> &Path {
        match &self.target {
            Target::Sqlite(path) => path,
            Target::Postgres(_) => panic!("not a file"),
        }
    }

    /// The URL with its password as `***`, fit for a log.
    pub fn masked(&self) -> String {
        masked(self.text.reveal())
    }
}

/// Hides `PASSWORD` in `scheme://user:PASSWORD@host` and in `?password=PASSWORD`. Where the text is not clear,
/// more is hidden: a password with a raw `/` or `@` reaches to the last `@`.
fn masked(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let rest = match rest.rsplit_once('@') {
        Some((user_info, after)) => {
            let user = user_info.split(':').next().unwrap_or_default();
            let hidden = if user.len() == user_info.len() { "" } else { ":***" };
            format!("{user}{hidden}@{after}")
        }
        None => rest.to_owned(),
    };
    let Some((before, query)) = rest.split_once('?') else {
        return format!("{scheme}://{rest}");
    };
    let parameters: Vec<String> = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}=***"),
            _ => parameter.to_owned(),
        })
        .collect();
    format!("{scheme}://{before}?{}", parameters.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlite_url_gives_its_path() {
        for (url, path) in [
            ("sqlite:allswell.db", "allswell.db"),
            ("sqlite:/var/lib/allswell/a.db", "/var/lib/allswell/a.db"),
            ("sqlite:///var/lib/allswell/a.db", "/var/lib/allswell/a.db"),
            ("SQLite:a b.db", "a b.db"),
        ] {
            let parsed = DatabaseUrl::parse(url).unwrap();
            assert!(
                matches!(parsed.target(), Target::Sqlite(found) if found == Path::new(path)),
                "{url}"
            );
        }
    }

    #[test]
    fn other_urls_are_refused_without_repeating_them() {
        for (url, reason) in [
            ("postgres://u:canary@h", "database is missing"),
            ("postgresql://u:canary@h/d?sslmode=canary", "sslmode is"),
            ("mysql://u:canary@h/d", "not supported"),
            ("canary", "neither sqlite: nor postgres://"),
            ("sqlite:", "missing"),
            ("sqlite://canary.db", "two slashes"),
            ("sqlite::memory:", "in memory"),
            ("sqlite:canary.db?mode=ro", "parameters"),
            ("sqlite:canary\0.db", "zero byte"),
        ] {
            let error = DatabaseUrl::parse(url).unwrap_err();
            assert!(
                error.contains(reason) && !error.contains("canary"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn only_the_password_is_hidden() {
        for (url, shown) in [
            ("sqlite:/var/a@b.db", "sqlite:/var/a@b.db"),
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://u:canary@h:5432/d", "postgres://u:***@h:5432/d"),
            ("postgres://u:@h/d", "postgres://u:***@h/d"),
            ("postgres://u:can:ary@h/d?a=1", "postgres://u:***@h/d?a=1"),
            ("postgres://u:can@ary/can?ary@h/d", "postgres://u:***@h/d"),
            (
                "postgres://h/d?user=u&password=canary&a=1",
                "postgres://h/d?user=u&password=***&a=1",
            ),
            (
                "postgres://h/d?sslPassword=canary",
                "postgres://h/d?sslPassword=***",
            ),
        ] {
            assert_eq!(masked(url), shown);
        }
    }
}
