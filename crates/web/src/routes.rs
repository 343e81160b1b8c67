//! The table of contents: every route, and who may use it.

use axum::Router;
use axum::middleware;
use axum::routing::{MethodRouter, any, delete, get, post, put};

use crate::api::resource::{check, resource, to_slash};
use crate::api::{Version, badges, channels, checks, flips, instance, notifications, openapi, pings, status};
use crate::state::App;
use crate::{badge, headers, native, pages, ping, prometheus};

/// Who may use a route.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Anyone,
    /// Whoever has the unguessable address: a check's id, a ping key with a slug, a badge.
    Address,
    /// Whoever was given a start link.
    StartLink,
    /// A read-only or a read-write key of the project.
    ReadKey,
    /// A read-write key of the project.
    WriteKey,
    /// A read-only key of the project and no other: for scrapers.
    ReadOnlyKey,
    /// The operator's metrics key.
    MetricsKey,
}

impl Access {
    /// The word in `allswell routes`.
    pub const fn word(self) -> &'static str {
        match self {
            Access::Anyone => "anyone",
            Access::Address => "address",
            Access::StartLink => "start link",
            Access::ReadKey => "read-only key",
            Access::WriteKey => "read-write key",
            Access::ReadOnlyKey => "read-only key, no other",
            Access::MetricsKey => "metrics key",
        }
    }
}

/// A method on a path, and who may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method; `*` for all.
    pub method: &'static str,
    /// The path, parameters in braces.
    pub path: String,
    /// Who may.
    pub access: Access,
}

/// A row of the table: one path with its methods and what serves them.
struct Entry {
    path: String,
    methods: &'static [(&'static str, Access)],
    version: Option<Version>,
    serve: fn() -> MethodRouter<App>,
}

use Access::{Address, Anyone, MetricsKey, ReadKey, ReadOnlyKey, StartLink, WriteKey};

fn entry(path: &str, methods: &'static [(&'static str, Access)], serve: fn() -> MethodRouter<App>) -> Entry {
    Entry {
        path: path.to_owned(),
        methods,
        version: None,
        serve,
    }
}

fn table() -> Vec<Entry> {
    let mut all = vec![
        entry("/", &[("GET", Anyone)], || {
            get(pages::start::page).layer(middleware::from_fn(headers::on_pages))
        }),
        entry("/start/{secret}", &[("GET", StartLink)], || {
            get(pages::start_link::page).layer(middleware::from_fn(headers::on_pages))
        }),
        entry("/static/{file}", &[("GET", Anyone)], || get(pages::assets::file)),
        entry("/favicon.ico", &[("GET", Anyone)], || get(pages::assets::favicon)),
        entry("/ping/{*address}", &[("*", Address)], || any(ping::ping)),
        entry("/badge/{key}/{file}", &[("GET", Address)], || {
            resource("GET, OPTIONS", get(badge::of_project))
        }),
        entry("/badge/{key}/{signature}/{file}", &[("GET", Address)], || {
            resource("GET, OPTIONS", get(badge::of_tag))
        }),
        entry("/b/{states}/{file}", &[("GET", Address)], || {
            resource("GET, OPTIONS", get(badge::of_check))
        }),
        entry(
            "/projects/{project}/metrics/{key}",
            &[("GET", ReadOnlyKey)],
            || get(prometheus::of_project),
        ),
        // Where Healthchecks had them before; scrapers stay configured for years.
        entry(
            "/projects/{project}/checks/metrics/{key}",
            &[("GET", ReadOnlyKey)],
            || get(prometheus::of_project),
        ),
        entry("/projects/{project}/metrics/", &[("GET", ReadOnlyKey)], || {
            get(prometheus::of_project_by_bearer)
        }),
        entry("/projects/{project}/metrics", &[("*", Anyone)], to_slash),
        entry("/checks/metrics/{key}", &[("GET", ReadOnlyKey)], || {
            get(prometheus::of_key)
        }),
        entry("/metrics/", &[("GET", ReadOnlyKey)], || {
            get(prometheus::of_bearer)
        }),
        entry("/metrics", &[("*", Anyone)], to_slash),
        // Of the newest version only: the document says what the older ones do otherwise.
        entry("/api/v3/openapi.json", &[("GET", Anyone)], || {
            resource("GET, OPTIONS", get(openapi::document))
        }),
        entry("/healthz", &[("GET", Anyone)], || get(status::alive)),
        entry("/readyz", &[("GET", Anyone)], || get(status::ready)),
    ];
    for version in Version::ALL {
        let resources = api().into_iter().map(|row| Entry {
            path: format!("/api/v{}/{}", version as u8, row.path),
            version: Some(version),
            ..row
        });
        all.extend(resources);
    }
    all.extend(native());
    all
}

/// The native API, below `/v1/`.
fn native() -> Vec<Entry> {
    use crate::native::resource as noun;
    vec![
        entry("/v1/openapi.json", &[("GET", Anyone)], || {
            noun("GET", get(native::openapi::document))
        }),
        entry("/v1/projects", &[("GET", ReadKey)], || {
            noun("GET", get(native::projects::list))
        }),
        entry(
            "/v1/projects/{project}",
            &[("GET", ReadKey), ("PATCH", WriteKey)],
            || {
                noun(
                    "GET, PATCH",
                    get(native::projects::show).patch(native::projects::update),
                )
            },
        ),
        entry("/v1/checks", &[("GET", ReadKey), ("POST", WriteKey)], || {
            noun(
                "GET, POST",
                get(native::checks::list).post(native::checks::create),
            )
        }),
        entry(
            "/v1/checks/{check}",
            &[("GET", ReadKey), ("PATCH", WriteKey), ("DELETE", WriteKey)],
            || {
                let all = get(native::checks::show)
                    .patch(native::checks::update)
                    .delete(native::checks::delete);
                noun("GET, PATCH, DELETE", all)
            },
        ),
        entry("/v1/checks/{check}/pause", &[("POST", WriteKey)], || {
            noun("POST", post(native::checks::pause))
        }),
        entry("/v1/checks/{check}/resume", &[("POST", WriteKey)], || {
            noun("POST", post(native::checks::resume))
        }),
        entry("/v1/checks/{check}/pings", &[("GET", WriteKey)], || {
            noun("GET", get(native::pings::list))
        }),
        entry("/v1/checks/{check}/pings/{n}/body", &[("GET", WriteKey)], || {
            noun("GET", get(native::pings::body))
        }),
        entry("/v1/flips", &[("GET", ReadKey)], || {
            noun("GET", get(native::history::flips))
        }),
        entry("/v1/incidents", &[("GET", ReadKey)], || {
            noun("GET", get(native::history::incidents))
        }),
        entry("/v1/deliveries", &[("GET", ReadKey)], || {
            noun("GET", get(native::history::deliveries))
        }),
        entry("/v1/deliveries/{delivery}", &[("GET", ReadKey)], || {
            noun("GET", get(native::history::delivery))
        }),
        entry("/v1/deliveries/{delivery}/again", &[("POST", WriteKey)], || {
            noun("POST", post(native::history::again))
        }),
        entry("/v1/events", &[("GET", ReadKey)], || {
            noun("GET", get(native::events::listen))
        }),
        entry("/v1/channels", &[("GET", WriteKey), ("POST", WriteKey)], || {
            noun(
                "GET, POST",
                get(native::channels::list).post(native::channels::create),
            )
        }),
        entry(
            "/v1/channels/{channel}",
            &[("GET", WriteKey), ("PATCH", WriteKey), ("DELETE", WriteKey)],
            || {
                let all = get(native::channels::show)
                    .patch(native::channels::update)
                    .delete(native::channels::delete);
                noun("GET, PATCH, DELETE", all)
            },
        ),
        entry(
            "/v1/channels/{channel}/rotate-secret",
            &[("POST", WriteKey)],
            || noun("POST", post(native::channels::rotate_secret)),
        ),
        entry("/v1/channels/{channel}/test", &[("POST", WriteKey)], || {
            noun("POST", post(native::channels::test))
        }),
        entry("/v1/secrets", &[("GET", WriteKey)], || {
            noun("GET", get(native::secrets::list))
        }),
        entry(
            "/v1/secrets/{name}",
            &[("PUT", WriteKey), ("DELETE", WriteKey)],
            || {
                noun(
                    "PUT, DELETE",
                    put(native::secrets::set).delete(native::secrets::delete),
                )
            },
        ),
        entry("/v1/keys", &[("GET", WriteKey), ("POST", WriteKey)], || {
            noun("GET, POST", get(native::keys::list).post(native::keys::create))
        }),
        entry("/v1/keys/{key}", &[("DELETE", WriteKey)], || {
            noun("DELETE", delete(native::keys::revoke))
        }),
        entry("/v1/keys/{key}/regenerate", &[("POST", WriteKey)], || {
            noun("POST", post(native::keys::regenerate))
        }),
        entry(
            "/v1/signing-keys",
            &[("GET", WriteKey), ("POST", WriteKey)],
            || {
                noun(
                    "GET, POST",
                    get(native::keys::signing_list).post(native::keys::signing_create),
                )
            },
        ),
        entry("/v1/signing-keys/{key}", &[("DELETE", WriteKey)], || {
            noun("DELETE", delete(native::keys::signing_revoke))
        }),
        entry("/v1/{*rest}", &[("*", Anyone)], || any(native::nothing)),
    ]
}

/// The compatible API, below `/api/v1/`, `/api/v2/` and `/api/v3/`.
fn api() -> Vec<Entry> {
    vec![
        entry("checks/", &[("GET", ReadKey), ("POST", WriteKey)], || {
            resource("GET, POST, OPTIONS", get(checks::list).post(checks::create))
        }),
        entry(
            "checks/{code}",
            &[("GET", ReadKey), ("POST", WriteKey), ("DELETE", WriteKey)],
            || check(get(checks::show).post(checks::update).delete(checks::delete)),
        ),
        entry("checks/{code}/pause", &[("POST", WriteKey)], || {
            resource("POST, OPTIONS", post(checks::pause))
        }),
        entry("checks/{code}/resume", &[("POST", WriteKey)], || {
            resource("POST, OPTIONS", post(checks::resume))
        }),
        entry("checks/{code}/pings/", &[("GET", WriteKey)], || {
            resource("GET, OPTIONS", get(pings::list))
        }),
        entry("checks/{code}/pings/{n}/body", &[("GET", WriteKey)], || {
            resource("GET, OPTIONS", get(pings::body))
        }),
        entry("checks/{code}/flips/", &[("GET", ReadKey)], || {
            resource("GET, OPTIONS", get(flips::list))
        }),
        entry("channels/", &[("GET", WriteKey)], || {
            resource("GET, OPTIONS", get(channels::list))
        }),
        entry("badges/", &[("GET", ReadKey)], || {
            resource("GET, OPTIONS", get(badges::list))
        }),
        entry("metrics/", &[("GET", MetricsKey)], || get(instance::metrics)),
        entry("status/", &[("GET", Anyone)], || get(status::ready)),
        entry("notifications/{code}/status", &[("POST", Anyone)], || {
            post(notifications::status)
        }),
        entry("checks", &[("*", Anyone)], to_slash),
        entry("channels", &[("*", Anyone)], to_slash),
        entry("badges", &[("*", Anyone)], to_slash),
        entry("metrics", &[("*", Anyone)], to_slash),
        entry("status", &[("*", Anyone)], to_slash),
        entry("checks/{code}/pings", &[("*", Anyone)], to_slash),
        entry("checks/{code}/flips", &[("*", Anyone)], to_slash),
    ]
}

/// Every route, for `allswell routes` and for the test that asks each who may use it.
pub fn routes() -> Vec<Route> {
    let rows = table().into_iter().flat_map(|row| {
        let path = row.path;
        row.methods.iter().map(move |(method, access)| Route {
            method,
            path: path.clone(),
            access: *access,
        })
    });
    rows.collect()
}

/// The application: all routes with their handlers.
pub fn app(app: App) -> Router {
    let router = table().into_iter().fold(Router::new(), |router, row| {
        let served = (row.serve)();
        let served = match row.version {
            Some(version) => served.layer(axum::Extension(version)),
            None if row.path.starts_with("/v1/") => served.layer(middleware::from_fn_with_state(
                app.clone(),
                native::call::with_quota,
            )),
            None => served,
        };
        router.route(&row.path, served)
    });
    let nothing = any(pages::nothing::page).layer(middleware::from_fn(headers::on_pages));
    router
        .fallback_service(nothing.with_state(app.clone()))
        .with_state(app)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_a_check_wants_a_read_write_key() {
        let routes = routes();
        for version in 1..=3 {
            let changes = |route: &&Route| {
                route.path.starts_with(&format!("/api/v{version}/checks"))
                    && ["POST", "DELETE"].contains(&route.method)
            };
            assert!(
                routes
                    .iter()
                    .filter(changes)
                    .all(|route| route.access == WriteKey)
            );
            assert_eq!(routes.iter().filter(changes).count(), 5);
        }
    }
}
