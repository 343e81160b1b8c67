//! Which proxy a request takes, by the variables that curl knows: `http_proxy`, `https_proxy`, `all_proxy`, `no_proxy`.

use crate::url::Url;

/// What the environment says about proxies.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    none_for: Vec<String>,
}

impl Proxies {
    /// Asks for the variables by name. `HTTP_PROXY` in capitals is left alone, as in curl: in a CGI script it is a
    /// stranger's header.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            let mut given = names.iter().filter_map(|name| variable(name));
            given.find(|value| !value.is_empty())
        };
        let all = || first(&["all_proxy", "ALL_PROXY"]);
        let none_for = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        Proxies {
            http: first(&["http_proxy"]).or_else(all),
            https: first(&["https_proxy", "HTTPS_PROXY"]).or_else(all),
            none_for: none_for
                .split([',', ' '])
                .map(|name| name.trim_start_matches('.').to_ascii_lowercase())
                .filter(|name| !name.is_empty())
                .collect(),
        }
    }

    /// The proxy for an address.
    ///
    /// # Errors
    ///
    /// A sentence, if the proxy named is none that we speak to: only those over plain http are.
    pub(crate) fn for_url(&self, url: &Url) -> Result<Option<Url>, String> {
        let named = if url.is_https() { &self.https } else { &self.http };
        let Some(named) = named.as_deref().filter(|_| !self.is_excepted(url.host())) else {
            return Ok(None);
        };
        let text = if named.contains("://") {
            named.to_owned()
        } else {
            format!("http://{named}")
        };
        match Url::parse(&text) {
            Ok(proxy) if !proxy.is_https() => Ok(Some(proxy)),
            Ok(_) => {
                Err("the proxy of the environment is spoken to by https, which is not supported".to_owned())
            }
            Err(problem) => Err(format!("the proxy of the environment {problem}")),
        }
    }

    fn is_excepted(&self, host: &str) -> bool {
        self.none_for.iter().any(|name| {
            let above = host.strip_suffix(name.as_str());
            name == "*" || above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)], url: &str) -> Result<Option<String>, String> {
        let of = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = Proxies::of(of).for_url(&Url::parse(url).unwrap())?;
        Ok(proxy.map(|proxy| proxy.place()))
    }

    #[test]
    fn proxies_are_those_that_curl_would_take() {
        let both = [
            ("http_proxy", "p:3128"),
            ("HTTPS_PROXY", "http://q:8080"),
            ("no_proxy", "a.org, .b.org"),
        ];
        let table = [
            ("http://x.org", Some("http://p:3128")),
            ("https://x.org", Some("http://q:8080")),
            ("https://a.org", None),
            ("https://x.a.org", None),
            ("https://b.org", None),
            ("https://xa.org", Some("http://q:8080")),
        ];
        for (url, proxy) in table {
            assert_eq!(place(&both, url).unwrap().as_deref(), proxy, "{url}");
        }
        assert_eq!(place(&[("HTTP_PROXY", "p")], "http://x").unwrap(), None);
        assert_eq!(
            place(&[("all_proxy", "p"), ("no_proxy", "*")], "http://x").unwrap(),
            None
        );
        assert_eq!(
            place(&[("ALL_PROXY", "p")], "http://x").unwrap().unwrap(),
            "http://p"
        );
        assert!(place(&[("all_proxy", "socks5://p")], "http://x").is_err());
    }
}
