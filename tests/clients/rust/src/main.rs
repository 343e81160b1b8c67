//! What a Rust program does with the crate `healthchecks`; the outcome goes to standard output as JSON.
//!
//!     client BASE_URL API_KEY

use healthchecks::errors::HealthchecksApiError;
use healthchecks::manage::{self, UpsertResult};
use healthchecks::model::{NewCheck, UpdatedCheck};
use healthchecks::ping;
use serde_json::json;
use uuid::Uuid;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(base), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("usage: client BASE_URL API_KEY".into());
    };
    let api = manage::get_client_with_url(key, None, format!("{base}/api/v3"))?;
    let new = || NewCheck {
        name: Some("cargo".to_owned()),
        tags: Some("cargo".to_owned()),
        timeout: Some(3600),
        grace: Some(120),
        channels: Some("*".to_owned()),
        unique: Some(vec!["name".to_owned()]),
        ..NewCheck::default()
    };
    let made = api.create_check(new())?;
    let id = made.id().ok_or("the answer has no ping address")?;
    let again = matches!(api.upsert_check(new())?.0, UpsertResult::Updated);
    let existing = matches!(api.create_check(new()), Err(HealthchecksApiError::ExistingCheckMatched));

    let pings = ping::get_client_with_url(&id, &format!("{base}/ping"))?.set_user_agent("cargo's client");
    let run = Uuid::from_u128(0x5e3f_9a1c_0b7d_4c52_9d3a_6f1e_2b8c_4a70);
    let answers = [
        pings.start_timer_with_run_id(Some(&run)),
        pings.report_success_with_run_id(Some(&run)),
        pings.report_failure_with_logs("it broke"),
        pings.report_success(),
    ];

    let updated = api.update_check(
        UpdatedCheck {
            desc: Some("changed".to_owned()),
            ..UpdatedCheck::default()
        },
        &id,
    )?;
    // Lists are asked for without the final slash, that of the pings even with a POST.
    let listed = api.get_checks()?;
    let logged = api.list_logged_pings(&id)?;
    let channels = api.get_channels()?;
    let shown = api.get_check(&id)?;
    let paused = api.pause(&id)?;
    let deleted = api.delete(&id)?;
    let gone = matches!(api.get_check(&id), Err(HealthchecksApiError::NoCheckFound(_)));
    let stranger = manage::get_client_with_url("x".repeat(32), None, format!("{base}/api/v3"))?;
    let wrong_key = matches!(stranger.get_checks(), Err(HealthchecksApiError::InvalidApiKey));

    let told = json!({
        "again": again,
        "existing": existing,
        "answers": answers,
        "desc": updated.desc,
        "listed": listed.iter().map(|check| &check.name).collect::<Vec<_>>(),
        "pings": logged.iter().map(|ping| &ping.type_field).collect::<Vec<_>>(),
        "agents": logged.iter().map(|ping| &ping.ua).collect::<Vec<_>>(),
        "channels": channels.iter().map(|channel| &channel.name).collect::<Vec<_>>(),
        "n_pings": shown.n_pings,
        "paused": paused.status,
        "deleted": deleted.name,
        "gone": gone,
        "wrong_key": wrong_key,
    });
    println!("{told}");
    Ok(())
}
