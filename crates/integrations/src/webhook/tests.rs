use std::collections::BTreeMap;

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Settings, State, Status};
use allswell_core::flip::{Flip, Reason};
use allswell_core::limits;
use allswell_core::refusal::{Refusal, Rule};
use allswell_core::secret::Secret;
use allswell_core::signal::Cause;
use allswell_core::signature::standard::{self, Received, SigningSecret};
use allswell_core::signature::{SignError, body_sha256_verify};
use allswell_core::template::{TemplateError, Values};
use allswell_core::time::{Span, Timestamp};
use serde_json::{Value, json};

use super::event::Event;
use super::room::Room;
use super::*;
use crate::message::{About, AttemptInfo, LastPing, Message, Missed};

const NOW: Timestamp = Timestamp::from_secs(1_769_860_900);

/// A name that tries everything: another placeholder, a header, a quote, an end of a URL, and letters beyond Latin-1.
const HOSTILE: &str = "$STATUS\r\nX-Evil: 1\"?&#@/../é☃";

fn message(to: Status) -> Message {
    let mut dice = Dice::from_number(11);
    let check = Check {
        id: dice.id(),
        project: dice.id(),
        badge: dice.id(),
        settings: Settings {
            name: HOSTILE.to_owned(),
            slug: "db-backup".to_owned(),
            tags: "prod  db db".to_owned(),
            ..Settings::default()
        },
        state: State::new(Timestamp::from_secs(0)),
        deadline: None,
        version: 1,
        created_at: Timestamp::from_secs(0),
    };
    Message {
        about: About::Flip,
        project: check.project,
        project_name: "Backups".to_owned(),
        channel: dice.id(),
        channel_name: "ops".to_owned(),
        check_json: r#"{"name":"é","n_pings":3}"#.to_owned(),
        check,
        flip: Flip {
            seq: 7,
            from: Status::Up,
            to,
            at: Timestamp::from_micros(1_769_860_800_999_999),
            expected_at: None,
            reason: Reason::Fail {
                ping: 3,
                cause: Cause::ExitStatus(2),
            },
        },
        missed: Vec::new(),
        last_ping: Some(LastPing {
            n: 3,
            exit_status: Some(2),
            body: Some(b"disk full \xff\n$NAME".to_vec()),
        }),
    }
}

fn attempt(n: u64) -> AttemptInfo {
    AttemptInfo {
        delivery: Dice::from_number(12).id(),
        n,
        now: NOW,
        redelivery: false,
    }
}

fn court<'c>(judge: Judge<'c>) -> Court<'c> {
    Court {
        judge,
        has_secret: &|name| name == "token",
        signature_header: "X-Webhook-Signature",
    }
}

/// Allows all URLs, and takes each for normal.
fn allowed(url: &str) -> Result<String, Refusal> {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |end| host + end);
    Ok(url[..end].to_owned())
}

fn read(input: &Value) -> Result<Webhook, Vec<Fault>> {
    let mut webhook = Webhook::read(input, None, &court(&allowed))?;
    webhook.signing.complete(&mut Dice::from_number(13));
    Ok(webhook)
}

fn secrets() -> BTreeMap<String, Secret<String>> {
    BTreeMap::from([("token".to_owned(), Secret::new("t/0?k n".to_owned()))])
}

fn render(webhook: &Webhook, message: &Message, n: u64) -> Result<Rendered, RenderError> {
    let sender = Sender {
        signature_header: "X-Webhook-Signature".to_owned(),
        signature_secret: None,
    };
    webhook.render(
        message,
        &attempt(n),
        &secrets(),
        &sender,
        &mut Dice::from_number(14),
    )
}

/// A request as lines, as it would go out.
fn lines(rendered: &Rendered) -> String {
    let request = &rendered.request;
    let mut out = format!("{} {}\n", request.method.word(), request.url.reveal());
    for header in &request.headers {
        out.push_str(&format!("{}: {}\n", header.name, header.value.reveal()));
    }
    out + "\n" + std::str::from_utf8(&request.body).expect("UTF-8")
}

fn header<'r>(rendered: &'r Rendered, name: &str) -> Option<&'r str> {
    let mut headers = rendered.request.headers.iter();
    let found = headers.find(|header| header.name.eq_ignore_ascii_case(name));
    found.map(|header| header.value.reveal().as_str())
}

#[test]
fn a_hostile_name_stays_in_its_place_everywhere() {
    let webhook = read(&json!({
        "down": {
            "method": "PUT",
            "url": "https://h.example.com:8443/$SLUG/$NAME?n=$NAME_JSON&t=$TAG2&b=$BODY&k=${secret:token}#$TAGS",
            "headers": { "X-Name": "$NAME is $STATUS", "Authorization": "Bearer ${secret:token}" },
            "body": "$NAME|$NAME_JSON|$BODY|$BODY_JSON|$JSON|$EXITSTATUS|$NOW|$TAG3|$TAG4|${json:TAGS}|${json:EXITSTATUS}",
        },
        "signing": { "form": "none" },
    }))
    .expect("taken");
    assert_eq!(
        lines(&render(&webhook, &message(Status::Down), 2).expect("rendered")),
        "PUT https://h.example.com:8443/db-backup/%24STATUS%0D%0AX-Evil%3A%201%22%3F%26%23%40/../%C3%A9%E2%98%83\
         ?n=%22%24STATUS%5Cr%5CnX-Evil%3A%201%5C%22%3F%26%23%40/../%5Cu00e9%5Cu2603%22&t=db&b=$BODY\
         &k=t/0%3Fk%20n#prod%20%20db%20db\n\
         Authorization: Bearer t/0?k n\n\
         X-Name: $STATUS  X-Evil: 1\"?&#@/../é&#9731; is down\n\
         Idempotency-Key: \"fdea443f-f598-4481-bea2-b83c73ab435b\"\n\
         X-Allswell-Attempt: 2\n\
         webhook-id: fdea443f-f598-4481-bea2-b83c73ab435b\n\
         webhook-timestamp: 1769860900\n\
         \n\
         $STATUS\r\nX-Evil: 1\"?&#@/../é☃|\"$STATUS\\r\\nX-Evil: 1\\\"?&#@/../\\u00e9\\u2603\"|\
         disk full \u{fffd}\n$NAME|\"disk full \\ufffd\\n$NAME\"|{\"name\": \"\\u00e9\", \"n_pings\": 3}|2|\
         2026-01-31T12:00:00+00:00|db|$TAG4|[\"prod\", \"db\", \"db\"]|2"
    );
}

#[test]
fn a_webhook_made_of_a_url_alone_posts_the_event_signed() {
    let webhook = read(&json!({ "down": { "url": "https://h.example.com/" } })).expect("taken");
    let mut message = message(Status::Down);
    message.missed = vec![Missed {
        seq: 5,
        status: Status::Down,
        at: Timestamp::from_secs(1_769_860_000),
    }];
    let rendered = render(&webhook, &message, 1).expect("rendered");
    assert_eq!(rendered.warnings, []);
    assert_eq!(rendered.request.method.word(), "POST");
    assert_eq!(header(&rendered, "content-type"), Some("application/json"));
    let event: Value = serde_json::from_slice(&rendered.request.body).expect("JSON");
    assert_eq!(
        event,
        json!({
            "type": "check.down",
            "id": attempt(1).delivery.to_string(),
            "project": message.project.to_string(),
            "project_name": "Backups",
            "channel_name": "ops",
            "check": message.check.id.to_string(),
            "name": HOSTILE,
            "slug": "db-backup",
            "tags": ["prod", "db", "db"],
            "status": "down",
            "seq": 7,
            "occurred_at": "2026-01-31T12:00:00.999999+00:00",
            "expected_at": null,
            "reason": "ping 3 reported failure (exit status 2)",
            "missed": [{ "seq": 5, "status": "down", "at": "2026-01-31T11:46:40.000000+00:00" }],
        })
    );
    let secret = webhook.signing.current().expect("a secret");
    let received = Received {
        id: header(&rendered, "webhook-id").unwrap(),
        timestamp: header(&rendered, "webhook-timestamp").unwrap(),
        signature: header(&rendered, "webhook-signature").unwrap(),
        body: &rendered.request.body,
    };
    let key = SigningSecret::parse(secret.reveal()).expect("whsec_");
    assert_eq!(standard::verify(&[&key], received, NOW.as_secs(), 0), Ok(()));
    let beside = header(&rendered, "x-webhook-signature").expect("beside");
    assert_eq!(
        body_sha256_verify(secret.reveal().as_bytes(), &rendered.request.body, beside),
        Ok(())
    );
}

#[test]
fn only_the_time_and_the_number_differ_between_attempts() {
    let webhook = read(&json!({ "down": { "url": "https://h.example.com/" } })).expect("taken");
    let message = message(Status::Down);
    let (first, third) = (
        render(&webhook, &message, 1).unwrap(),
        render(&webhook, &message, 3).unwrap(),
    );
    assert_eq!(first.request.body, third.request.body);
    let different: Vec<&str> = first
        .request
        .headers
        .iter()
        .zip(&third.request.headers)
        .filter(|(one, other)| one != other)
        .map(|(one, _)| one.name.as_str())
        .collect();
    assert_eq!(different, ["X-Allswell-Attempt"]);
}

#[test]
fn each_status_has_a_call_of_its_own_and_get_sends_no_body() {
    let webhook = read(&json!({
        "down": { "url": "https://h.example.com/down" },
        "up": { "method": "GET", "url": "https://h.example.com/up?s=$STATUS", "body": "never" },
    }))
    .expect("taken");
    let up = render(&webhook, &message(Status::Up), 1).expect("rendered");
    assert_eq!(up.request.url.reveal(), "https://h.example.com/up?s=up");
    assert_eq!(up.request.body, b"");
    assert_eq!(header(&up, "content-type"), None);
    assert_eq!(
        webhook.try_out().expect("sent"),
        [("up", Warning::UrlNotSigned), ("up", Warning::BodyNotSent)]
    );
    let down_only = read(&json!({ "down": { "url": "https://h.example.com/" }, "up": null })).expect("taken");
    assert_eq!(
        render(&down_only, &message(Status::Up), 1),
        Err(RenderError::NoCall)
    );
}

#[test]
fn guardian_signs_the_line_that_is_sent() {
    for (form, lines) in [("guardian-v1", 6), ("guardian-v2", 7)] {
        let webhook = read(&json!({
            "down": { "method": "GET", "url": "https://h.example.com/a b/$TAG1?é=$TAG1" },
            "signing": { "form": form, "secret": "0123456789abcdef", "key_id": "k1", "header_prefix": "X-My" },
        }))
        .expect("taken");
        let rendered = render(&webhook, &message(Status::Down), 1).expect("rendered");
        assert_eq!(header(&rendered, "webhook-signature"), None);
        let get = |name: &str| header(&rendered, name).expect("a header").to_owned();
        assert_eq!(get("X-My-Key-Id"), "k1");
        let (timestamp, nonce) = (get("X-My-Timestamp"), get("X-My-Nonce"));
        assert_eq!((timestamp.as_str(), nonce.len()), ("1769860900", 32));
        let form = if lines == 6 {
            guardian::Form::V1
        } else {
            guardian::Form::V2
        };
        let parts = guardian::Parts {
            method: "GET",
            path: "/a%20b/prod",
            query: "%C3%A9=prod",
            timestamp: "",
            nonce: "",
            body: b"",
            overrides: None,
        };
        let verifier = guardian::Verifier {
            form,
            secret: b"0123456789abcdef",
            prefix: "X-My",
            max_age: 300,
        };
        let find = |name: &str| header(&rendered, name);
        assert_eq!(verifier.verify(&parts, find, NOW.as_secs(), None), Ok(()));
    }
}

#[test]
fn a_replaced_secret_that_cannot_sign_in_a_new_form_stops_nothing() {
    let mut webhook = read(&json!({
        "down": { "url": "https://h.example.com/" },
        "signing": { "form": "guardian-v1", "secret": "no secret of the standard" },
    }))
    .expect("taken");
    let new = SigningSecret::generate(&mut Dice::from_number(20));
    webhook
        .signing
        .rotate(&new.to_text(), NOW, Span::from_secs(86_400));
    let patch = json!({ "signing": { "form": "standard-webhooks" } });
    let webhook = Webhook::read(&patch, Some(&webhook), &court(&allowed)).expect("taken");
    assert_eq!(
        webhook.shown(NOW)["signing"]["secrets"],
        json!([{ "signs_until": null }])
    );
    let rendered = webhook.render(
        &message(Status::Down),
        &attempt(1),
        &secrets(),
        &Sender::default(),
        &mut Dice::from_number(1),
    );
    assert!(rendered.is_ok(), "{rendered:?}");
}

#[test]
fn a_replaced_secret_signs_on_for_its_overlap() {
    let mut webhook = read(&json!({ "down": { "url": "https://h.example.com/" } })).expect("taken");
    let mut dice = Dice::from_number(20);
    let old = SigningSecret::parse(webhook.signing.current().unwrap().reveal()).unwrap();
    let new = SigningSecret::generate(&mut dice);
    webhook
        .signing
        .rotate(&new.to_text(), NOW, Span::from_secs(3_600));
    let signed_at = |secs: i64| {
        let attempt = AttemptInfo {
            now: NOW + Span::from_secs(secs),
            ..attempt(1)
        };
        let sender = Sender::default();
        let rendered = webhook
            .render(
                &message(Status::Down),
                &attempt,
                &secrets(),
                &sender,
                &mut Dice::from_number(1),
            )
            .expect("rendered");
        let received = Received {
            id: header(&rendered, "webhook-id").unwrap(),
            timestamp: header(&rendered, "webhook-timestamp").unwrap(),
            signature: header(&rendered, "webhook-signature").unwrap(),
            body: &rendered.request.body,
        };
        [&new, &old].map(|key| standard::verify(&[key], received, attempt.now.as_secs(), 0))
    };
    assert_eq!(signed_at(3_599), [Ok(()), Ok(())]);
    assert_eq!(signed_at(3_600), [Ok(()), Err(SignError::Signature)]);

    let third = SigningSecret::generate(&mut dice);
    let later = NOW + Span::from_secs(60);
    webhook
        .signing
        .rotate(&third.to_text(), later, Span::from_secs(86_400));
    let until = |at: Timestamp| json!({ "signs_until": at.to_rfc3339_micros() });
    assert_eq!(
        webhook.shown(later)["signing"]["secrets"],
        json!([
            { "signs_until": null },
            until(later + Span::from_secs(86_400)),
            until(NOW + Span::from_secs(3_600)),
        ]),
        "a second change shortens nothing and lengthens nothing"
    );
    webhook.signing.rotate(&new.to_text(), later, Span::ZERO);
    assert_eq!(
        webhook.shown(later)["signing"]["secrets"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn of_a_guardian_secret_that_is_replaced_nothing_is_said_to_sign() {
    for form in ["guardian-v1", "guardian-v2"] {
        let call = json!({ "url": "https://h.example.com/" });
        let mut webhook = read(&json!({ "down": call, "signing": { "form": form } })).expect("taken");
        let new = SigningSecret::generate(&mut Dice::from_number(3)).to_text();
        webhook.signing.rotate(&new, NOW, Span::from_secs(3_600));
        assert_eq!(
            webhook.shown(NOW)["signing"]["secrets"],
            json!([{ "signs_until": null }])
        );
        assert_eq!(
            webhook.signing.current().map(|key| key.reveal().clone()),
            Some(new.reveal().clone())
        );
    }
}

#[test]
fn broken_json_is_sent_with_a_warning() {
    let with = |content_type: &str, body: &str| {
        let webhook = read(&json!({ "down": {
            "url": "https://h.example.com/", "headers": { "content-type": content_type }, "body": body,
        } }))
        .expect("taken");
        let rendered = render(&webhook, &message(Status::Down), 1).expect("rendered");
        assert!(!rendered.request.body.is_empty());
        rendered.warnings
    };
    let broken = [Warning::BrokenJson];
    assert_eq!(with("application/json", r#"{"name": "$NAME"}"#), broken);
    assert_eq!(
        with("Application/cloudevents+JSON; charset=utf-8", "$NAME"),
        broken
    );
    assert_eq!(with("application/json", r#"{"name": $NAME_JSON}"#), []);
    assert_eq!(with("text/plain", "$NAME"), []);
}

#[test]
fn what_will_break_is_said_at_once() {
    let tried = |body: &str| {
        let json = json!({ "Content-Type": "application/json" });
        let call = json!({ "url": "https://h.example.com/", "headers": json, "body": body });
        let webhook = read(&json!({ "down": call, "up": { "url": "https://h.example.com/" } }));
        webhook.expect("taken").try_out().expect("sent")
    };
    assert_eq!(
        tried(r#"{"text": "$NAME is down"}"#),
        [("down", Warning::BrokenJson)]
    );
    assert_eq!(
        tried(r#"{"text": $NAME_JSON, "all": $JSON, "body": ${json:BODY}, "n": $EXITSTATUS}"#),
        []
    );
}

#[test]
fn what_cannot_be_made_is_said() {
    let mut webhook =
        read(&json!({ "down": { "url": "https://h.example.com/${secret:token}" } })).expect("taken");
    webhook.down.as_mut().unwrap().url = "https://h.example.com/${secret:gone}".to_owned();
    assert_eq!(
        render(&webhook, &message(Status::Down), 1)
            .unwrap_err()
            .to_string(),
        "the project has no secret called gone"
    );
    // Of nothing that could be cut.
    let headers: BTreeMap<String, String> = (0..32).map(|n| (format!("X-{n}"), "x".repeat(520))).collect();
    let call = json!({ "url": "https://h.example.com/", "headers": headers });
    let webhook = read(&json!({ "down": call, "up": call })).expect("taken");
    let error = TemplateError::TooLong(limits::REQUEST_HEADER_BYTES_MAX);
    assert_eq!(
        render(&webhook, &message(Status::Down), 1),
        Err(RenderError::Template(error))
    );
    let faults = webhook.try_out().expect_err("never sent");
    let told: Vec<(&str, &str)> = faults.iter().map(|fault| (&*fault.field, fault.rule)).collect();
    assert_eq!(told, [("down", "unsendable"), ("up", "unsendable")]);
    assert!(faults[0].sentence.contains("16384 bytes"), "{:?}", faults[0]);
}

/// A message of which everything is as long as it may be, or longer.
fn endless() -> Message {
    let mut long = message(Status::Down);
    let desc = "\u{3a9}\"\n".repeat(33_000);
    long.check_json =
        json!({ "name": HOSTILE, "desc": desc, "uuid": long.check.id.to_string(), "tags": "t ".repeat(250) })
            .to_string();
    long.check.settings.name = "\u{3a9}".repeat(limits::NAME_CHARS_MAX);
    long.check.settings.tags = "\u{3a9} ".repeat(limits::TAGS_CHARS_MAX / 2);
    long.last_ping.as_mut().unwrap().body = Some("\u{e9}\n".repeat(200_000).into_bytes());
    long.missed = (0..50_000)
        .map(|n| Missed {
            seq: n,
            status: Status::Up,
            at: NOW,
        })
        .collect();
    long
}

#[test]
fn no_value_is_so_long_that_the_alert_is_lost() {
    let long = endless();
    for template in [
        "$NAME",
        "$NAME_JSON",
        "$TAGS",
        "$TAG1",
        "$JSON",
        "$BODY",
        "$BODY_JSON",
        "${json:EVENT}",
        "${json:NAME}",
        "${json:TAGS}",
        "${json:CHECK}",
        "${json:BODY}",
        "${json:REASON}",
        "${json:MISSED}",
        "${json:PROJECT}",
        "${json:CHANNEL}",
        "$CODE",
        "$NOW",
        "$SLUG",
        "$STATUS",
        "$EXITSTATUS",
        "${json:SEQ}",
    ] {
        for places in [1, 400 / template.len()] {
            let text = template.repeat(places);
            let headers: BTreeMap<String, &str> = (0..4).map(|n| (format!("X-{n}"), &*text)).collect();
            let url = format!("https://h.example.com/?{text}");
            for name in ["standard-webhooks", "guardian-v2"] {
                let call =
                    json!({ "method": "PUT", "url": url, "headers": headers, "body": text.repeat(25) });
                let webhook = read(&json!({ "down": call, "signing": { "form": name } })).expect("taken");
                let request = render(&webhook, &long, 1).expect(template).request;
                assert!(request.body.len() <= limits::REQUEST_BODY_BYTES_MAX, "{template}");
                assert!(request.url.reveal().len() <= limits::URL_BYTES_MAX, "{template}");
                let headers = request.headers.iter();
                let bytes: usize = headers
                    .map(|header| header.name.len() + header.value.reveal().len())
                    .sum();
                assert!(bytes <= limits::REQUEST_HEADER_BYTES_MAX, "{template}");
            }
        }
    }
}

#[test]
fn what_is_cut_is_said_where_it_stands_and_on_the_attempt() {
    let long = endless();
    let sent = |body: &str| {
        let json = json!({ "Content-Type": "application/json" });
        let call = json!({ "url": "https://h.example.com/", "headers": json, "body": body });
        let webhook = read(&json!({ "down": call, "signing": { "form": "none" } })).expect("taken");
        let rendered = render(&webhook, &long, 1).expect("rendered");
        assert_eq!(
            rendered,
            render(&webhook, &long, 1).expect("rendered"),
            "each try sends the same"
        );
        assert_eq!(rendered.warnings, [Warning::Shortened], "{body}");
        serde_json::from_slice::<Value>(&rendered.request.body).expect("JSON")
    };
    let check = sent("$JSON");
    let (desc, cut) = (
        check["desc"].as_str().unwrap(),
        check["desc_cut"].as_u64().unwrap(),
    );
    assert_eq!((desc.chars().count(), cut), (65_536, 99_000 - 65_536));
    assert!(desc.starts_with("\u{3a9}\"\n\u{3a9}"), "{}", &desc[..9]);
    assert_eq!(check["uuid"], json!(long.check.id.to_string()));
    assert!(check.get("name_cut").is_none(), "{check}");

    let body = sent("$BODY_JSON");
    let body = body.as_str().unwrap();
    assert!(
        body.starts_with("\u{e9}\n\u{e9}") && body.ends_with(" [367232 more characters]"),
        "{}",
        body.len()
    );

    // The newest are told, of those that were missed.
    let event = sent("${json:EVENT}");
    assert_eq!(event["missed"].as_array().map(Vec::len), Some(2_048));
    assert_eq!(event["missed"][2_047]["seq"], 49_999);
    assert_eq!(event["missed_cut"], 50_000 - 2_048);
    assert_eq!(event["name"], long.check.settings.name);
}

#[test]
fn each_part_of_a_call_has_the_room_that_it_needs() {
    let long = endless();
    let webhook = read(&json!({ "down": {
        "url": "https://h.example.com/?$JSON", "headers": { "X-Check": "$JSON" }, "body": "${json:TAGS}",
    } }))
    .expect("taken");
    let rendered = render(&webhook, &long, 1).expect("rendered");
    assert_eq!(rendered.warnings, [Warning::Shortened]);
    let url = rendered.request.url.reveal().clone();
    assert!(
        url.ends_with("%7D") && url.contains("%22desc_cut%22%3A%20") && url.len() > 4_000,
        "{url}"
    );
    let check: Value = serde_json::from_str(header(&rendered, "X-Check").unwrap()).expect("JSON");
    assert!(check["desc_cut"].as_u64() > Some(90_000), "{check}");
    let tags: Value = serde_json::from_slice(&rendered.request.body).unwrap();
    assert_eq!(
        tags.as_array().map(Vec::len),
        Some(limits::TAGS_CHARS_MAX / 2),
        "the body had room"
    );
}

#[test]
fn a_signature_that_is_left_out_leaves_no_secret_that_cannot_sign() {
    for (secret, taken) in [
        ("correct horse battery staple!", false),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", true),
    ] {
        let with = json!({
            "down": { "url": "https://h.example.com/" }, "signing": { "form": "guardian-v1", "secret": secret },
        });
        let before = read(&with).expect("taken");
        let read = Webhook::read(&json!({ "signing": null }), Some(&before), &court(&allowed));
        match read {
            Ok(webhook) => {
                assert!(taken, "{secret}");
                assert_eq!(webhook.signing.form, Form::StandardWebhooks);
                assert!(render(&webhook, &message(Status::Down), 1).is_ok());
            }
            Err(faults) => {
                assert!(!taken, "{faults:?}");
                assert_eq!((&*faults[0].field, faults[0].rule), ("signing.secret", "secret"));
            }
        }
    }
}

#[test]
fn a_value_is_made_once_for_a_call_however_often_it_stands_there() {
    let (message, attempt, secrets) = (message(Status::Down), attempt(1), secrets());
    let event = Event::new(&message, &attempt, &secrets, Room::Whole);
    // Both are held: what is made anew stands elsewhere.
    let is_one = |one: std::borrow::Cow<'_, str>, other: std::borrow::Cow<'_, str>| {
        (one.as_ptr(), one.len()) == (other.as_ptr(), other.len())
    };
    for name in template::NAMES
        .iter()
        .filter(|name| name.starts_with("BODY") || **name == "JSON")
    {
        assert!(is_one(event.named(name), event.named(name)), "{name}");
    }
    for name in ["EVENT", "CHECK", "BODY", "TAGS"] {
        let [one, other] = [event.json(name), event.json(name)].map(|json| json.expect(name));
        assert!(is_one(one, other), "{name}");
    }
    assert!(is_one(event.named("JSON"), event.json("CHECK").unwrap()));
}

#[test]
fn an_alert_goes_out_without_the_body_that_cannot_be_read_and_says_so() {
    let mut damaged = message(Status::Down);
    damaged.last_ping.as_mut().unwrap().body = None;
    let sent = |body: &str| {
        let call = json!({ "url": "https://h.example.com/", "body": body });
        let rendered =
            render(&read(&json!({ "down": call })).expect("taken"), &damaged, 1).expect("rendered");
        (
            String::from_utf8(rendered.request.body).unwrap(),
            rendered.warnings,
        )
    };
    let marked = "[the body of ping 3 cannot be read]";
    let warning = vec![Warning::BodyUnreadable];
    assert_eq!(
        sent("$EXITSTATUS $BODY"),
        (format!("2 {marked}"), warning.clone())
    );
    for json in ["$BODY_JSON", "${json:BODY}"] {
        assert_eq!(sent(json), (format!("{marked:?}"), warning.clone()));
    }
    assert_eq!(sent("$EXITSTATUS"), ("2".to_owned(), vec![]));
}

#[test]
fn nothing_secret_comes_back() {
    let webhook = read(&json!({
        "down": { "url": "https://h.example.com:8443/hunter2?t=hunter2", "headers": { "X-A": "hunter2" }, "body": "hunter2" },
        "signing": { "form": "guardian-v1", "secret": "hunter2 hunter2 hunter2" },
    }))
    .expect("taken");
    let shown = webhook.shown(NOW);
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    assert!(!format!("{webhook:?}").contains("hunter2"), "{webhook:?}");
    assert_eq!(shown["down"]["url"], "https://h.example.com:8443/***");
    assert_eq!(shown["down"]["headers"], json!({ "X-A": "***" }));
    assert_eq!(Webhook::from_bytes(&webhook.to_bytes()), Some(webhook));
    assert_eq!(Webhook::from_bytes(b"{}"), None);
}

#[test]
fn each_refusal_names_the_field_and_the_rule() {
    let url = "https://h.example.com/";
    let long = |n: usize| "x".repeat(n);
    let down = |more: Value| {
        let mut call = json!({ "url": url });
        call.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({ "down": call })
    };
    let header = |name: &str, value: Value| down(json!({ "headers": { name: value } }));
    let signing = |signing: Value| json!({ "down": { "url": url }, "signing": signing });
    let many: BTreeMap<String, String> = (0..33).map(|n| (format!("X-{n}"), "v".to_owned())).collect();
    let table = [
        (json!([]), "", "type"),
        (json!({}), "down.url", "required"),
        (json!({ "down": {} }), "down.url", "required"),
        (json!({ "down": { "url": " " } }), "down.url", "required"),
        (json!({ "down": 1 }), "down", "type"),
        (json!({ "up": { "url": 1 } }), "up.url", "type"),
        (
            json!({ "down": { "url": url }, "sideways": {} }),
            "sideways",
            "unknown",
        ),
        (down(json!({ "verb": "GET" })), "down.verb", "unknown"),
        (down(json!({ "method": "DELETE" })), "down.method", "method"),
        (down(json!({ "method": "get" })), "down.method", "method"),
        (down(json!({ "method": 1 })), "down.method", "method"),
        (
            down(json!({ "url": format!("{url}{}", long(1_000)) })),
            "down.url",
            "length",
        ),
        (
            down(json!({ "url": "https://$NAME.example.com/" })),
            "down.url",
            "placeholder",
        ),
        (down(json!({ "url": "$NAME" })), "down.url", "placeholder"),
        (
            down(json!({ "url": "https://h.example.com:${secret:token}/" })),
            "down.url",
            "placeholder",
        ),
        (
            down(json!({ "url": format!("{url}${{json:NOPE}}") })),
            "down.url",
            "placeholder",
        ),
        (
            down(json!({ "url": format!("{url}${{secret:other}}") })),
            "down.url",
            "secret",
        ),
        (
            down(json!({ "url": format!("{url}refused") })),
            "down.url",
            "address",
        ),
        (down(json!({ "body": "${secret:" })), "down.body", "placeholder"),
        (
            down(json!({ "body": "${secret:a b}" })),
            "down.body",
            "placeholder",
        ),
        (down(json!({ "body": "${secret:other}" })), "down.body", "secret"),
        (down(json!({ "body": long(10_001) })), "down.body", "length"),
        (down(json!({ "body": [] })), "down.body", "type"),
        (down(json!({ "headers": "X: y" })), "down.headers", "type"),
        (down(json!({ "headers": many })), "down.headers", "length"),
        (header("X A", json!("v")), "down.headers.X A", "header_name"),
        (header("", json!("v")), "down.headers.", "header_name"),
        (header("X:", json!("v")), "down.headers.X:", "header_name"),
        (
            header("X\r\nY", json!("v")),
            "down.headers.X\\r\\nY",
            "header_name",
        ),
        (header("$NAMÉ", json!("v")), "down.headers.$NAMÉ", "header_name"),
        (header("Host", json!("v")), "down.headers.Host", "header_reserved"),
        (
            header("content-LENGTH", json!("1")),
            "down.headers.content-LENGTH",
            "header_reserved",
        ),
        (
            header("Transfer-Encoding", json!("v")),
            "down.headers.Transfer-Encoding",
            "header_reserved",
        ),
        (
            header("Connection", json!("v")),
            "down.headers.Connection",
            "header_reserved",
        ),
        (
            header("Proxy-Authorization", json!("v")),
            "down.headers.Proxy-Authorization",
            "header_reserved",
        ),
        (
            header("Webhook-Id", json!("v")),
            "down.headers.Webhook-Id",
            "header_reserved",
        ),
        (
            header("webhook-signature", json!("v")),
            "down.headers.webhook-signature",
            "header_reserved",
        ),
        (
            header("idempotency-key", json!("v")),
            "down.headers.idempotency-key",
            "header_reserved",
        ),
        (
            header("x-allswell-attempt", json!("v")),
            "down.headers.x-allswell-attempt",
            "header_reserved",
        ),
        (
            header("X-WEBHOOK-SIGNATURE", json!("v")),
            "down.headers.X-WEBHOOK-SIGNATURE",
            "header_reserved",
        ),
        (
            down(json!({ "headers": { "X-a": "1", "x-A": "2" } })),
            "down.headers.x-A",
            "header_twice",
        ),
        (
            header("X-A", json!("a\r\nX-B: c")),
            "down.headers.X-A",
            "characters",
        ),
        (header("X-A", json!("")), "down.headers.X-A", "required"),
        (header("X-A", json!(1)), "down.headers.X-A", "type"),
        (header("X-A", json!(long(1_001))), "down.headers.X-A", "length"),
        (
            header("X-A", json!("${secret:other}")),
            "down.headers.X-A",
            "secret",
        ),
        (signing(json!("none")), "signing", "type"),
        (signing(json!({ "form": "md5" })), "signing.form", "form"),
        (
            signing(json!({ "secret": "hunter2" })),
            "signing.secret",
            "secret",
        ),
        (
            signing(json!({ "secret": "whsec_AAAA" })),
            "signing.secret",
            "secret",
        ),
        (
            signing(json!({ "form": "guardian-v1", "secret": "short" })),
            "signing.secret",
            "secret",
        ),
        (
            signing(json!({ "form": "guardian-v1", "key_id": "a b" })),
            "signing.key_id",
            "token",
        ),
        (
            signing(json!({ "form": "guardian-v1", "header_prefix": "" })),
            "signing.header_prefix",
            "token",
        ),
        (
            signing(json!({ "form": "guardian-v1", "header_prefix": "Proxy" })),
            "signing.header_prefix",
            "header_reserved",
        ),
        (
            signing(json!({ "form": "guardian-v2", "header_prefix": "webhook" })),
            "signing.header_prefix",
            "header_reserved",
        ),
        (
            signing(json!({ "form": "guardian-v1", "header_prefix": "x-webhook" })),
            "signing.header_prefix",
            "header_reserved",
        ),
        (
            json!({ "down": { "url": url, "headers": { "x-health-NONCE": "v" } }, "signing": { "form": "guardian-v1" } }),
            "down.headers.x-health-NONCE",
            "header_reserved",
        ),
    ];
    let judge = |url: &str| match url {
        url if url.contains("refused") => Err(Refusal::about(Rule::Address, "10.0.0.1").remedy("allow it")),
        url => allowed(url),
    };
    for (input, field, rule) in table {
        let faults = Webhook::read(&input, None, &court(&judge)).expect_err(&format!("{input} was taken"));
        let found: Vec<(&str, &str)> = faults.iter().map(|f| (f.field.as_str(), f.rule)).collect();
        assert!(found.contains(&(field, rule)), "{input}: {found:?}");
        for fault in &faults {
            assert!(!fault.to_string().contains("10.0.0.1"), "{fault}");
            assert!(!fault.to_string().contains("hunter2"), "{fault}");
        }
    }
}

#[test]
fn all_faults_are_told_at_once_and_administrators_learn_more() {
    let judge = |_: &str| Err(Refusal::about(Rule::Address, "10.0.0.1").remedy("allow it"));
    let input = json!({ "down": { "url": "https://h.example.com/", "method": "PATCH" }, "up": { "url": "http:" }, "x": 1 });
    let faults = Webhook::read(&input, None, &court(&judge)).expect_err("refused");
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["x", "down.method", "down.url", "up.url"]);
    let told = faults[2].for_administrators.as_deref().expect("more");
    assert!(told.contains("10.0.0.1") && told.contains("allow it"), "{told}");
}

#[test]
fn what_is_kept_of_a_url_begins_as_it_is_called() {
    let normal = |_: &str| Ok("http://127.0.0.1:8080".to_owned());
    for rest in ["/a/../$NAME?x=${secret:token}#frag", "?x=$CODE", "#$NAME", ""] {
        let input = json!({ "down": { "url": format!("HTTP://0x7F.1:8080{rest}") } });
        let webhook = Webhook::read(&input, None, &court(&normal)).expect("taken");
        let down = webhook.down.as_ref().expect("a call");
        assert_eq!(down.url, format!("http://127.0.0.1:8080{rest}"));
        assert_eq!(webhook.shown(NOW)["down"]["url"], "http://127.0.0.1:8080/***");
    }
}

#[test]
fn a_guardian_secret_signs_as_it_is_also_with_a_line_end() {
    let with = |secret: &str| {
        let signing = json!({ "form": "guardian-v1", "secret": secret });
        read(&json!({ "down": { "url": "https://h.example.com/" }, "signing": signing })).expect("taken")
    };
    let space = ("signing.secret", Warning::SecretSpace);
    let webhook = with("correct horse battery staple\n");
    assert!(webhook.try_out().expect("sent").contains(&space));
    assert!(
        !with("correct horse battery staple")
            .try_out()
            .expect("sent")
            .contains(&space)
    );
    let secret = webhook.signing.current().expect("a secret");
    assert_eq!(secret.reveal(), "correct horse battery staple\n");
}

#[test]
fn an_edit_changes_what_it_names() {
    let before = read(&json!({
        "down": { "url": "https://h.example.com/a", "headers": { "X-A": "1", "X-B": "2" }, "body": "b" },
        "up": { "url": "https://h.example.com/b" },
    }))
    .expect("taken");
    let edit = |patch: Value| {
        let court = court(&allowed);
        Webhook::read(&patch, Some(&before), &court)
    };
    let after = edit(json!({
        "down": { "method": "PUT", "headers": { "X-A": null, "X-C": "3" } },
        "up": null,
    }))
    .expect("taken");
    let down = after.down.as_ref().unwrap();
    assert_eq!(
        (down.method.word(), down.url.as_str(), down.body.as_str()),
        ("PUT", "https://h.example.com/a", "b")
    );
    assert_eq!(down.headers.keys().collect::<Vec<_>>(), ["X-B", "X-C"]);
    assert_eq!(after.up, None);
    assert_eq!(after.signing, before.signing, "the secret is kept");
    assert_eq!(edit(json!({})).expect("taken"), before);

    let other =
        edit(json!({ "signing": { "form": "guardian-v1", "secret": "0123456789abcdef" } })).expect("taken");
    assert_eq!(other.signing.current().unwrap().reveal(), "0123456789abcdef");
    let faults = Webhook::read(
        &json!({ "signing": { "form": "standard-webhooks" } }),
        Some(&other),
        &court(&allowed),
    )
    .expect_err("a Guardian secret is none of the standard's");
    assert_eq!(faults[0].field, "signing.secret");
    assert!(edit(json!({ "down": null, "up": null })).is_err());
}

#[test]
fn the_secrets_it_uses_are_known() {
    let webhook = read(&json!({
        "down": { "url": "https://h.example.com/${secret:token}", "headers": { "X": "${secret:token}" } },
    }))
    .expect("taken");
    assert_eq!(webhook.secret_names(), ["token"]);
}
