//! Query strings, decoded. Where a name stands twice the last counts, as Healthchecks' clients expect.

use http::Uri;

/// The decoded pairs of a query.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// The query of an address.
    pub(crate) fn of(uri: &Uri) -> Self {
        let raw = uri.query().unwrap_or_default();
        Query(form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    /// The last value of a name.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a name.
    pub(crate) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}
