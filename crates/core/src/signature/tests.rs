//! The vectors of `tests/vectors`, all of them, and what they leave open.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::guardian::{Form, Nonces, Parts, Signer, Verifier};
use super::standard::{self, Received, SigningSecret};
use super::{SignError, body_sha256, body_sha256_verify, sha256_hex};
use crate::chance::Dice;

const HMAC: &str = include_str!("../../../../tests/vectors/hmac_vectors.json");
const SIGNING: &str = include_str!("../../../../tests/vectors/signing_vectors.json");

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    let list = value[key].as_array().expect("a list");
    assert!(!list.is_empty(), "{key}");
    list
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

fn bytes(value: &Value, key: &str) -> Vec<u8> {
    STANDARD.decode(text(value, key)).expect("base64")
}

fn parts<'v>(vector: &'v Value, target: &'v str, body: &'v [u8]) -> Parts<'v> {
    let (path, query) = Parts::split_target(target);
    Parts {
        method: text(vector, "method"),
        path,
        query,
        timestamp: text(vector, "timestamp"),
        nonce: text(vector, "nonce"),
        body,
        overrides: vector["override_header"].as_str(),
    }
}

fn signature_of(vector: &Value, form: Form) -> String {
    let body = bytes(vector, "body_b64");
    let signer = Signer {
        form,
        secret: text(vector, "secret").as_bytes(),
        key_id: text(vector, "key_id"),
        prefix: text(vector, "header_prefix"),
    };
    let headers = signer
        .sign(&parts(vector, text(vector, "request_target"), &body))
        .expect("signed");
    headers[0].1.clone()
}

#[test]
fn both_forms_of_guardian_sign_as_the_vectors_say() {
    for vector in list(&vectors(HMAC), "sign") {
        let (name, body) = (text(vector, "name"), bytes(vector, "body_b64"));
        let parts = parts(vector, text(vector, "request_target"), &body);
        assert_eq!(parts.path, text(vector, "signed_path"), "{name}");
        assert_eq!(parts.query, text(vector, "signed_query"), "{name}");
        assert_eq!(sha256_hex(&body), text(vector, "body_sha256"), "{name}");
        for (form, n) in [(Form::V1, "v1"), (Form::V2, "v2")] {
            let signer = Signer {
                form,
                secret: text(vector, "secret").as_bytes(),
                key_id: text(vector, "key_id"),
                prefix: text(vector, "header_prefix"),
            };
            let canonical = parts.canonical(form).expect("canonical");
            assert_eq!(canonical, text(vector, &format!("canonical_{n}")), "{name}");
            let headers = signer.sign(&parts).expect("signed");
            assert_eq!(headers[0].1, text(vector, &format!("signature_{n}")), "{name}");
            let wanted = vector[format!("headers_{n}")].as_object().expect("headers");
            for (header, value) in &headers {
                assert_eq!(wanted[header], **value, "{name} {header}");
            }
            // v2 vectors also hold the override header, which is the caller's to send.
            assert!(
                wanted.len() == 4 || vector["override_header"].is_string(),
                "{name}"
            );
        }
    }
}

#[test]
fn signatures_are_alike_and_different_where_the_vectors_say() {
    let all = vectors(HMAC);
    let named = |name: &Value| {
        let vector = list(&all, "sign").iter().find(|v| v["name"] == *name);
        signature_of(vector.expect("a vector"), Form::V1)
    };
    for pair in list(&all, "same_signature") {
        assert_eq!(named(&pair[0]), named(&pair[1]), "{pair}");
    }
    for pair in list(&all, "different_signature") {
        assert_ne!(named(&pair[0]), named(&pair[1]), "{pair}");
    }
}

#[test]
fn the_second_set_of_guardian_vectors_signs_alike() {
    for vector in list(&vectors(SIGNING), "guardian") {
        let (path, query) = Parts::split_target(text(vector, "target"));
        let timestamp = vector["timestamp"].to_string();
        // "lower_method_is_sent_upper": what is sent is in upper case, and what is sent is signed.
        let method = text(vector, "method").to_ascii_uppercase();
        let parts = Parts {
            method: &method,
            path,
            query,
            timestamp: &timestamp,
            nonce: text(vector, "nonce"),
            body: text(vector, "body").as_bytes(),
            overrides: vector["overrides"].as_str(),
        };
        let form = if vector["lines"] == 7 { Form::V2 } else { Form::V1 };
        let signer = Signer {
            form,
            secret: text(vector, "secret").as_bytes(),
            key_id: "default",
            prefix: "X-Health",
        };
        let signed = signer.sign(&parts).expect("signed");
        assert_eq!(signed[0].1, text(vector, "signature"), "{}", vector["name"]);
    }
}

/// Judges one vector as a receiver would.
fn judge(vector: &Value, nonces: Option<&mut Nonces>) -> Result<(), SignError> {
    let request = &vector["request"];
    let body = bytes(request, "body_b64");
    let parts = Parts {
        method: text(request, "method"),
        path: text(request, "path"),
        query: text(request, "query"),
        timestamp: "",
        nonce: "",
        body: &body,
        overrides: None,
    };
    let headers = request["headers"].as_object().expect("headers");
    let header = |name: &str| {
        let found = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_str())
    };
    let verifier = Verifier {
        form: if vector["canonical_version"] == 2 {
            Form::V2
        } else {
            Form::V1
        },
        secret: text(vector, "secret").as_bytes(),
        prefix: text(vector, "header_prefix"),
        max_age: vector["max_age"].as_i64().expect("seconds"),
    };
    verifier.verify(&parts, header, vector["now"].as_i64().expect("seconds"), nonces)
}

#[test]
fn a_verifier_judges_as_the_vectors_say() {
    let all = vectors(HMAC);
    let (sequences, single): (Vec<_>, Vec<_>) = list(&all, "verify")
        .iter()
        .partition(|vector| vector["kind"] == "verify_sequence");
    assert!(!sequences.is_empty());
    for vector in &single {
        let verdict = judge(vector, None);
        assert_eq!(
            vector["expect_valid"],
            verdict.is_ok(),
            "{}: {verdict:?}",
            vector["name"]
        );
    }
    for sequence in sequences {
        let mut nonces = Nonces::new(10);
        for (step, expected) in list(sequence, "steps").iter().zip(list(sequence, "expect_valid")) {
            let vector = single.iter().find(|v| v["name"] == *step).expect("a step");
            assert_eq!(*expected, judge(vector, Some(&mut nonces)).is_ok(), "{step}");
        }
    }
}

#[test]
fn a_signer_refuses_what_the_vectors_refuse() {
    for vector in list(&vectors(HMAC), "refuse") {
        let (field, value) = (text(vector, "field"), text(vector, "value"));
        let given = |name: &str, usual: &'static str| if field == name { value } else { usual }.to_owned();
        let (method, path, query) = (given("method", "GET"), given("path", "/"), given("query", "a=1"));
        let (timestamp, nonce) = (given("timestamp", "1777508123"), given("nonce", "abc"));
        let (secret, key_id) = (given("secret", "a secret"), given("key_id", "default"));
        let prefix = given("header_prefix", "X-Health");
        let parts = Parts {
            method: &method,
            path: &path,
            query: &query,
            timestamp: &timestamp,
            nonce: &nonce,
            body: b"",
            overrides: None,
        };
        let signer = Signer {
            form: Form::V1,
            secret: secret.as_bytes(),
            key_id: &key_id,
            prefix: &prefix,
        };
        let refused = signer.sign(&parts).expect_err(text(vector, "name"));
        let SignError::Part(part) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(part, field.replace('_', " "), "{}", vector["name"]);
    }
}

#[test]
fn standard_webhooks_sign_as_the_vectors_say() {
    let (first, second) = (vectors(HMAC), vectors(SIGNING));
    let all = [
        list(&first, "standard_webhooks"),
        list(&second, "standard_webhooks"),
    ]
    .concat();
    for vector in all {
        let secret = SigningSecret::parse(text(&vector, "secret")).expect("a secret");
        let body = match vector["body_b64"].as_str() {
            Some(_) => bytes(&vector, "body_b64"),
            None => text(&vector, "body").as_bytes().to_vec(),
        };
        let timestamp = vector["timestamp"].to_string().replace('"', "");
        let (id, at) = (text(&vector, "id"), timestamp.parse().expect("a number"));
        let signature = standard::sign(&[&secret], id, at, &body).expect("signed");
        assert_eq!(signature, text(&vector, "signature"), "{id}");
        let received = Received {
            id,
            timestamp: &timestamp,
            signature: &signature,
            body: &body,
        };
        assert_eq!(standard::verify(&[&secret], received, at + 300, 300), Ok(()));
        assert_eq!(
            standard::verify(&[&secret], received, at + 301, 300),
            Err(SignError::Time)
        );
        let other = Received {
            body: b"another",
            ..received
        };
        assert_eq!(
            standard::verify(&[&secret], other, at, 300),
            Err(SignError::Signature)
        );
    }
}

#[test]
fn a_receiver_with_either_secret_is_content_while_one_is_changed() {
    let mut dice = Dice::from_number(5);
    let (new, old) = (
        SigningSecret::generate(&mut dice),
        SigningSecret::generate(&mut dice),
    );
    let signature = standard::sign(&[&new, &old], "id", 1_000, b"body").expect("signed");
    assert_eq!(signature.split(' ').count(), 2);
    let received = Received {
        id: "id",
        timestamp: "1000",
        signature: &signature,
        body: b"body",
    };
    for secret in [&new, &old] {
        assert_eq!(standard::verify(&[secret], received, 1_000, 300), Ok(()));
    }
    let stranger = SigningSecret::generate(&mut dice);
    assert_eq!(
        standard::verify(&[&stranger], received, 1_000, 300),
        Err(SignError::Signature)
    );
}

#[test]
fn a_standard_signature_needs_an_id_that_cannot_be_split_otherwise() {
    let secret = SigningSecret::generate(&mut Dice::from_number(6));
    for id in ["", "a.b", "a b", "a\r\nb", "é"] {
        let refused = standard::sign(&[&secret], id, 1, b"");
        assert_eq!(refused, Err(SignError::Part("id")), "{id:?}");
    }
    assert_eq!(
        standard::sign(&[&secret], "a", -1, b""),
        Err(SignError::Part("timestamp"))
    );
    assert_eq!(standard::sign(&[], "a", 1, b""), Err(SignError::Part("secret")));
}

#[test]
fn a_secret_survives_its_text_and_has_bounds() {
    let secret = SigningSecret::generate(&mut Dice::from_number(7));
    assert_eq!(SigningSecret::parse(secret.to_text().reveal()), Ok(secret));
    let encoded = |len: usize| format!("whsec_{}", STANDARD.encode(vec![7; len]));
    for (text, good) in [
        (encoded(23), false),
        (encoded(24), true),
        (encoded(64), true),
        (encoded(65), false),
        (STANDARD.encode([7; 32]), false),
        ("whsec_".to_owned(), false),
        ("whsec_***".to_owned(), false),
    ] {
        assert_eq!(SigningSecret::parse(&text).is_ok(), good, "{text}");
    }
}

#[test]
fn the_body_alone_is_signed_as_others_do() {
    // printf 'Hello, World!' | openssl dgst -sha256 -hmac "It's a Secret to Everybody", as GitHub documents it.
    let value = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let (secret, body) = (b"It's a Secret to Everybody", b"Hello, World!");
    assert_eq!(body_sha256(secret, body), value);
    assert_eq!(body_sha256_verify(secret, body, value), Ok(()));
    assert_eq!(
        body_sha256_verify(secret, b"Hello", value),
        Err(SignError::Signature)
    );
}

#[test]
fn nonces_are_kept_for_twice_the_age_and_in_bounded_number() {
    let mut nonces = Nonces::new(2);
    let verifier = |nonces: &mut Nonces, nonce: &str, now: i64| {
        let timestamp = now.to_string();
        let parts = Parts {
            method: "GET",
            path: "/",
            query: "",
            timestamp: &timestamp,
            nonce,
            body: b"",
            overrides: None,
        };
        let signer = Signer {
            form: Form::V2,
            secret: b"secret",
            key_id: "k",
            prefix: "X-A",
        };
        let headers = signer.sign(&parts).expect("signed");
        let verifier = Verifier {
            form: Form::V2,
            secret: b"secret",
            prefix: "x-a",
            max_age: 300,
        };
        let header = |name: &str| {
            let found = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.as_str())
        };
        verifier.verify(&parts, header, now, Some(nonces))
    };
    assert_eq!(verifier(&mut nonces, "a", 1_000), Ok(()));
    assert_eq!(verifier(&mut nonces, "a", 1_600), Err(SignError::Replayed));
    assert_eq!(
        verifier(&mut nonces, "a", 1_601),
        Ok(()),
        "forgotten after twice the age"
    );
    assert_eq!(verifier(&mut nonces, "b", 1_601), Ok(()));
    assert_eq!(verifier(&mut nonces, "c", 1_601), Ok(()));
    assert_eq!(
        verifier(&mut nonces, "a", 1_602),
        Ok(()),
        "no room: the oldest went"
    );
    assert_eq!(verifier(&mut nonces, "c", 1_602), Err(SignError::Replayed));
}
