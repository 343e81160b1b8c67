use super::*;

fn policy() -> Policy {
    Policy::default()
}

fn rule(policy: &Policy, text: &str) -> Option<Rule> {
    judge(policy, text).err().map(|refusal| refusal.rule)
}

#[test]
fn a_url_is_refused_by_the_rule_it_breaks() {
    let long = format!("https://example.com/{}", "a".repeat(limits::URL_BYTES_MAX));
    let label = format!("https://{}.example.com/", "a".repeat(64));
    let table = [
        (long.as_str(), Rule::Length),
        ("", Rule::Syntax),
        ("http:", Rule::Syntax),
        ("http://", Rule::Syntax),
        ("http://:80/", Rule::Syntax),
        ("http:127.0.0.1/", Rule::Syntax),
        ("http:///127.0.0.1/", Rule::Syntax),
        ("//example.com/", Rule::Syntax),
        ("127.0.0.1:80/", Rule::Syntax),
        ("http://256.256.256.256/", Rule::Syntax),
        ("http://foo.1/", Rule::Syntax),
        ("http://a..b.example/", Rule::Syntax),
        ("http://example.com../", Rule::Syntax),
        ("http://example.com:65536/", Rule::Syntax),
        (label.as_str(), Rule::Syntax),
        ("http:\\\\127.0.0.1\\", Rule::Characters),
        ("http://example.com\\@127.0.0.1/", Rule::Characters),
        ("http://a\r\nb.example.com/", Rule::Characters),
        ("http://example.com/a b", Rule::Characters),
        (" http://example.com/", Rule::Characters),
        ("http://example.com/\u{7f}", Rule::Characters),
        ("http://exa\u{ad}mple.com/", Rule::Characters),
        ("http://exa\u{200b}mple.com/", Rule::Characters),
        ("http://exa\u{fe0f}mple.com/", Rule::Characters),
        ("http://exa%C2%ADmple.com/", Rule::Characters),
        ("http://[fe80::1%25lo]/", Rule::Characters),
        ("ftp://example.com/", Rule::Scheme),
        ("javascript:alert(1)", Rule::Scheme),
        ("blob:http://127.0.0.1/", Rule::Scheme),
        ("http://user:pw@example.com/", Rule::Credentials),
        ("http://@example.com/", Rule::Credentials),
        ("http://localhost/", Rule::Name),
        ("http://LOCALHOST./", Rule::Name),
        ("http://ⓛocalhost/", Rule::Name),
        ("http://a.localhost/", Rule::Name),
        ("http://metadata.google.internal/", Rule::Name),
        ("http://db.default.svc/", Rule::Name),
        ("http://db.default.svc.cluster.local/", Rule::Name),
        ("http://router.home.arpa/", Rule::Name),
        ("http://intranet/", Rule::Name),
        ("http://example.com:0/", Rule::Port),
        ("http://example.com:25/", Rule::Port),
        ("https://example.com:6667/", Rule::Port),
        ("http://①②⑦.⓪.⓪.①/", Rule::Address),
        ("http://127。0。0。1/", Rule::Address),
        ("http://2130706433/", Rule::Address),
        ("http://0x7f.1/", Rule::Address),
        ("http://127.0.0.1./", Rule::Address),
        ("HTTP://[::ffff:7f00:1]/", Rule::Address),
        ("http://169.254.169.254/latest", Rule::Metadata),
    ];
    for (text, expected) in table {
        assert_eq!(rule(&policy(), text), Some(expected), "{text:?}");
    }
}

#[test]
fn what_is_kept_is_the_normalised_url() {
    let table = [
        ("https://Example.COM", "https://example.com/"),
        (
            "https://example.com.:443/a/../b?q=ä#part",
            "https://example.com/b?q=%C3%A4",
        ),
        ("http://example.com:8080/$NAME", "http://example.com:8080/$NAME"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("http://016.8.8.8/", "http://14.8.8.8/"),
        ("https://under_score.example/x", "https://under_score.example/x"),
    ];
    for (text, url) in table {
        let target = judge(&policy(), text).unwrap();
        assert_eq!(target.url(), url);
        assert_eq!(
            judge(&policy(), url).unwrap(),
            target,
            "{url} is its own normal form"
        );
    }
}

#[test]
fn the_parts_of_a_call_come_from_one_url() {
    let target = judge(&policy(), "https://Example.com.:8443/a?b=c#d").unwrap();
    assert_eq!(target.authority(), "example.com:8443");
    assert_eq!(target.path_and_query(), "/a?b=c");
    assert_eq!(target.origin(), "https://example.com:8443");
    assert_eq!(
        (
            target.endpoint().name(),
            target.endpoint().address(),
            target.endpoint().port()
        ),
        (Some("example.com"), None, 8443)
    );
    assert!(target.is_tls());
    let target = judge(&policy(), "http://[::ffff:1.1.1.1]").unwrap();
    assert_eq!(target.authority(), "[::ffff:101:101]");
    assert_eq!(target.path_and_query(), "/");
    assert_eq!((target.endpoint().name(), target.endpoint().port()), (None, 80));
    assert_eq!(
        target.endpoint().address(),
        Some("1.1.1.1".parse().unwrap()),
        "a mapped address is an IPv4 address"
    );
}

#[test]
fn strict_lists_leave_nothing_else() {
    let policy = Policy {
        only_hosts: vec![HostPattern::parse("hooks.example.com").unwrap()],
        ports: vec![443, 6000],
        https_only: true,
        ..Policy::default()
    };
    let table = [
        ("https://hooks.example.com/", None),
        ("https://hooks.example.com.:6000/", None),
        ("http://hooks.example.com/", Some(Rule::HttpsOnly)),
        ("https://hooks.example.com:8443/", Some(Rule::PortNotListed)),
        ("https://hooks.example.com:25/", Some(Rule::Port)),
        ("https://other.example.com/", Some(Rule::NotListed)),
        ("https://1.1.1.1/", Some(Rule::NotListed)),
    ];
    for (text, expected) in table {
        assert_eq!(rule(&policy, text), expected, "{text}");
    }
}

#[test]
fn a_local_name_is_called_if_the_operator_lists_it() {
    let policy = Policy {
        allow_hosts: vec![
            HostPattern::parse("ntfy").unwrap(),
            HostPattern::parse("*.svc.cluster.local").unwrap(),
        ],
        ..Policy::default()
    };
    assert_eq!(rule(&policy, "http://ntfy:8080/topic"), None);
    assert_eq!(rule(&policy, "http://db.default.svc.cluster.local/"), None);
    assert_eq!(rule(&policy, "http://gotify/"), Some(Rule::Name));
}

#[test]
fn a_redirect_is_judged_like_a_first_url() {
    let from = judge(&policy(), "https://example.com/a/b").unwrap();
    let table = [
        ("c?d", Ok("https://example.com/a/c?d")),
        ("//other.example/", Ok("https://other.example/")),
        ("https://other.example/#x", Ok("https://other.example/")),
        ("http://other.example/", Err(Rule::Redirect)),
        ("https://127.0.0.1/", Err(Rule::Address)),
        ("//127.0.0.1/", Err(Rule::Address)),
        ("https://1.1.1.1@127.0.0.1/", Err(Rule::Credentials)),
        ("gopher://1.1.1.1/", Err(Rule::Scheme)),
        ("https:\\\\127.0.0.1", Err(Rule::Characters)),
        ("https://exa\u{ad}mple.com/", Err(Rule::Characters)),
        ("https://localhost/", Err(Rule::Name)),
        ("https://example.com:22/", Err(Rule::Port)),
    ];
    for (location, expected) in table {
        let hop = from.hop(&policy(), location);
        let got = hop.as_ref().map(Target::url).map_err(|refusal| refusal.rule);
        assert_eq!(got, expected, "{location}");
    }
}

#[test]
fn a_port_of_ours_is_suspicious_unless_it_is_the_public_url() {
    let policy = Policy {
        ourselves: crate::policy::Ourselves {
            ports: vec![8000],
            site: Some(("watch.example.com".to_owned(), 8000)),
        },
        ..Policy::default()
    };
    let suspicious = |text| judge(&policy, text).unwrap().endpoint().may_be_ourselves(&policy);
    assert!(suspicious("http://1.1.1.1:8000/"));
    assert!(suspicious("http://other.example.com:8000/"));
    assert!(!suspicious("http://watch.example.com:8000/"));
    assert!(!suspicious("http://watch.example.com/"));
}

/// The vectors that need no name server. Those with one run in crate `outbound` and through the real binary.
#[test]
fn the_vectors_hold_as_far_as_a_url_alone_decides() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/outbound/vectors.json")).unwrap();
    let mut asked = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        let url = vector["url"].as_str().unwrap();
        if vector.get("dns").is_some() || !url.contains(':') || vector["category"] == "dns" {
            continue;
        }
        let url = url.replace("{port}", "8080").replace("{token}", "token");
        let list = |key: &str| -> Vec<String> {
            let listed = vector["policy"][key].as_array().cloned().unwrap_or_default();
            listed
                .iter()
                .map(|text| text.as_str().unwrap().to_owned())
                .collect()
        };
        let policy = Policy {
            allow: list("allow_cidrs")
                .iter()
                .map(|text| crate::cidr::Cidr::parse(text).unwrap())
                .collect(),
            https_only: vector["policy"]["https_only"] == true,
            ..Policy::default()
        };
        match (vector["expect"].as_str().unwrap(), judge(&policy, &url)) {
            ("deny", Err(_)) | ("allow", Ok(_)) | ("either", _) => asked += 1,
            (expected, got) => panic!("{}: {expected}, and it is {got:?}", vector["id"]),
        }
    }
    assert!(asked > 100, "{asked}");
}

#[test]
fn a_relay_is_judged_by_name_and_address_and_not_by_the_ports_of_http() {
    let verdict = |policy: &Policy, host: &str, port| {
        let judged = Endpoint::judge(policy, host, port);
        judged
            .map(|endpoint| endpoint.to_string())
            .map_err(|refusal| refusal.rule)
    };
    let open = policy();
    for (host, port, expected) in [
        ("Relay.Example.com.", 587, Ok("relay.example.com:587".to_owned())),
        ("bücher.example", 25, Ok("xn--bcher-kva.example:25".to_owned())),
        ("93.184.216.34", 465, Ok("93.184.216.34:465".to_owned())),
        ("[2606:4700::1]", 465, Ok("[2606:4700::1]:465".to_owned())),
        ("relay.example.com", 0, Err(Rule::Port)),
        ("", 587, Err(Rule::Syntax)),
        ("a..example", 587, Err(Rule::Syntax)),
        ("re\u{ad}lay.example.com", 587, Err(Rule::Characters)),
        ("relay%2eexample.com", 587, Err(Rule::Characters)),
        ("localhost", 587, Err(Rule::Name)),
        ("mail", 587, Err(Rule::Name)),
        ("0x7f.1", 587, Err(Rule::Address)),
        ("[::ffff:10.0.0.1]", 587, Err(Rule::Address)),
        ("169.254.169.254", 587, Err(Rule::Metadata)),
    ] {
        assert_eq!(verdict(&open, host, port), expected, "{host} {port}");
    }
    let ours = Policy {
        local_names: true,
        ..policy()
    };
    for host in [
        "localhost",
        "postfix",
        "a.localhost",
        "mail.corp.internal",
        "nas.local",
    ] {
        assert_eq!(verdict(&open, host, 25), Err(Rule::Name), "{host}");
        assert_eq!(verdict(&ours, host, 25), Ok(format!("{host}:25")), "{host}");
    }
    for host in [
        "invalid",
        "a.onion",
        "metadata",
        "metadata.google.internal.",
        "instance-data",
        "instance-data.ec2.internal",
    ] {
        assert_eq!(verdict(&ours, host, 25), Err(Rule::Name), "{host}");
    }
    assert_eq!(verdict(&ours, "10.0.0.1", 25), Err(Rule::Address));
    let listed = Policy {
        ports: vec![587],
        ..policy()
    };
    assert!(verdict(&listed, "relay.example.com", 587).is_ok());
    assert_eq!(
        verdict(&listed, "relay.example.com", 25),
        Err(Rule::PortNotListed)
    );
}
