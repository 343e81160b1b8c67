//! `allswell outbound check`: what the policy says of a URL, step by step, and with `--send` what comes of calling it.
//!
//! It goes through the same door as everything else, so what it says is what a webhook will meet.

use allswell_core::exchange::{Class, End, Method, Outcome, Request, escaped};
use allswell_core::refusal::Refusal;
use allswell_core::time::Span;
use allswell_outbound::{Client, Looked};
use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Answer, printable};
use crate::cli::OutboundCommand;
use crate::config::Config;
use crate::outward;

/// `allswell outbound check`
pub async fn check(config: &Config, answer: Answer, command: OutboundCommand) -> Result<()> {
    let OutboundCommand::Check {
        url,
        class,
        send,
        method,
        headers,
        redirects,
        repeat,
    } = command;
    let Some(class) = Class::from_word(&class) else {
        let known = Class::ALL.map(Class::word).join(", ");
        bail!("--class: {class:?} is not one of {known}");
    };
    let Some(method) = Method::from_word(&method) else {
        let known = Method::ALL.map(Method::word).join(", ");
        bail!("--method: {method:?} is not one of {known}");
    };
    let mut request = Request::new(class, method, url.clone());
    request.redirects_max = redirects;
    for header in &headers {
        let Some((name, value)) = header.split_once(':') else {
            bail!("--header: a header is written NAME:VALUE");
        };
        request = request.header(name, value.strip_prefix(' ').unwrap_or(value));
    }
    let client = outward::client(config, &outward::ports_of(config))?;
    let mut report = Report::default();
    if send {
        for _ in 0..repeat {
            report.sent(&client.send(request.clone()).await);
        }
    } else {
        report.look(&client, class, &url).await;
    }
    report.give(answer, class)
}

/// What is printed, for people and for programs.
#[derive(Default)]
struct Report {
    lines: String,
    fields: serde_json::Map<String, Value>,
    sent: Vec<Value>,
    failure: Option<String>,
}

impl Report {
    async fn look(&mut self, client: &Client, class: Class, url: &str) {
        match client.look(class, url).await {
            Ok(looked) => self.looked(&looked),
            Err(refusal) => {
                self.line(&format!("refused     {}", refusal.for_administrators()));
                self.fields.insert("refused".to_owned(), shown(&refusal));
                self.failure = Some(refusal.to_string());
            }
        }
    }

    fn looked(&mut self, looked: &Looked) {
        let url = looked.target.url();
        self.line(&format!("url         {url}"));
        self.fields.insert("url".to_owned(), json!(url));
        let mut addresses = Vec::new();
        for (address, verdict) in &looked.addresses {
            match verdict {
                Ok(()) => {
                    self.line(&format!("allowed     {address}"));
                    addresses.push(json!({ "address": address.to_string(), "allowed": true }));
                }
                Err(refusal) => {
                    self.line(&format!(
                        "refused     {address}: {}",
                        refusal.for_administrators()
                    ));
                    addresses.push(json!({
                        "address": address.to_string(), "allowed": false, "refused": shown(refusal)
                    }));
                    // One refuses all.
                    self.failure = Some(refusal.to_string());
                }
            }
        }
        self.fields.insert("addresses".to_owned(), json!(addresses));
        match &looked.unresolved {
            Some(why) => {
                self.line(&format!("unresolved  {}", printable(why)));
                self.fields.insert("unresolved".to_owned(), json!(why));
                self.failure = Some("The name has no address.".to_owned());
            }
            None if looked.addresses.is_empty() => {
                self.line("addresses   the proxy looks for them, and is responsible for them");
            }
            None => {}
        }
    }

    fn sent(&mut self, outcome: &Outcome) {
        let error = outcome.error_class();
        let word = error.map_or("ok", |class| class.word());
        let status = outcome
            .status()
            .map_or(String::new(), |status| format!(" {status}"));
        self.line(&format!("outcome     {word}{status}"));
        if let Some(peer) = outcome.peer {
            self.line(&format!("connected   {peer}"));
        }
        if !outcome.detail.is_empty() {
            self.line(&format!("detail      {}", printable(&outcome.detail)));
        }
        let phases = outcome.phases;
        let parts = [
            ("dns", phases.dns),
            ("connect", phases.connect),
            ("tls", phases.tls),
            ("first_byte", phases.first_byte),
            ("body", phases.body),
            ("total", Some(phases.total)),
        ];
        let parts = parts
            .iter()
            .filter_map(|(name, took)| took.map(|took| (*name, took)));
        let millis = |took: Span| took.as_micros() as f64 / 1_000.0;
        let words: Vec<String> = parts
            .clone()
            .map(|(name, took)| format!("{name} {:.1} ms", millis(took)))
            .collect();
        self.line(&format!("took        {}", words.join(", ")));
        let micros: serde_json::Map<String, Value> = parts
            .map(|(name, took)| (name.to_owned(), json!(took.as_micros())))
            .collect();
        let (excerpt, location, refused) = match &outcome.end {
            End::Answered(answer) => (escaped(&answer.excerpt), answer.location.clone(), Value::Null),
            End::Blocked(refusal) => (String::new(), None, shown(refusal)),
            _ => (String::new(), None, Value::Null),
        };
        if let Some(location) = &location {
            self.line(&format!("location    {} (not followed)", printable(location)));
        }
        if !excerpt.is_empty() {
            self.line(&format!("answer      {} bytes of it:\n{excerpt}", excerpt.len()));
        }
        self.sent.push(json!({
            "error": error.map(|class| class.word()),
            "status": outcome.status(),
            "peer": outcome.peer.map(|peer| peer.to_string()),
            "refused": refused,
            "detail": outcome.detail,
            "micros": micros,
            "location": location,
            "excerpt": excerpt,
        }));
        if let Some(class) = error {
            self.failure = Some(class.sentence().to_owned());
        }
    }

    fn line(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
    }

    fn give(mut self, answer: Answer, class: Class) -> Result<()> {
        self.fields.insert("class".to_owned(), json!(class.word()));
        if !self.sent.is_empty() {
            self.fields.insert("sent".to_owned(), json!(self.sent));
        }
        answer.give(&Value::Object(self.fields), &self.lines)?;
        match self.failure {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }
}

/// The operator reads this, so it is the part for administrators.
fn shown(refusal: &Refusal) -> Value {
    json!({
        "rule": refusal.rule.code(),
        "sentence": refusal.to_string(),
        "subject": refusal.subject,
        "remedy": refusal.remedy,
    })
}
