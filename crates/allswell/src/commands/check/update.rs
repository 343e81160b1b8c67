//! `allswell check update`

use allswell_core::check::{Event, Settings, TimingKind};
use allswell_core::limits;
use allswell_core::schedule::Zones;
use allswell_core::time::Span;
use allswell_engine::record;
use anyhow::{Result, bail};

use super::show::summary;
use super::told::{self, Note};
use super::{agreeing, bounded, checked_slug, chosen_channels, give_with, not_here, timing};
use crate::cli::EditCheck;
use crate::commands::{Answer, name_for_people, operators_act, printable, scope_of};
use crate::config::Config;
use crate::{house, tzdata};

/// Changes what is named and leaves the rest.
pub async fn update(config: &Config, answer: Answer, edit: EditCheck) -> Result<()> {
    if edit.names_nothing() {
        bail!("nothing was named to change; `allswell check update --help` lists what can be");
    }
    // Judged before anything is opened; put into the true settings within the transaction.
    change(&mut Settings::default(), &edit, &tzdata::zones(config)?)?;
    let mut house = house::open(config).await?;
    let (now, mut dice, zones) = (house.now, house.dice.fork(), house.zones.clone());
    let (project, id) = (edit.one.project, edit.one.check);
    let (check, told, notes) = house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, project).await?;
            tx.check_lock(scope, id).await?;
            let mut check = tx.check(scope, id).await?.ok_or_else(|| not_here(id, project))?;
            change(&mut check.settings, &edit, &zones)?;
            agreeing(&check.settings)?;
            tx.check_save_settings(scope, &mut check).await?;
            record::apply_and_save(tx, &mut check, Event::Edit, now, &mut dice, &zones).await?;
            let known = told::channels(tx, scope).await?;
            let edits_channels = !(edit.channels.is_empty() && edit.add_channels.is_empty());
            if edits_channels {
                let mut chosen = match edit.channels.as_slice() {
                    [] => tx.check_channels(scope, id).await?,
                    [none] if none == "none" => Vec::new(),
                    some => chosen_channels(some, &known)?,
                };
                let more = chosen_channels(&edit.add_channels, &known)?;
                chosen.extend(more);
                chosen.sort_unstable();
                chosen.dedup();
                tx.check_set_channels(scope, id, &chosen).await?;
            }
            let seq = tx.change_next(scope).await?;
            tx.check_mark_changed(scope, &check, seq).await?;
            let act = operators_act(now, Some(project), "check.update", format!("check:{id}"));
            tx.audit(dice.id_at(now), &act).await?;
            let told = told::by(tx, scope, id).await?;
            let mut notes = Vec::new();
            if edit.slug.is_some() {
                notes.extend(Note::of_slug(tx, scope, &check).await?);
            }
            if edits_channels {
                notes.extend(Note::of_nobody(&check, &told, !known.is_empty()));
            }
            Ok::<_, anyhow::Error>((check, told, notes))
        })
        .await?;
    give_with(
        answer,
        summary(&check, &told, now, &house.zones),
        format!("Changed {} ({id})\n", printable(&check.settings.name)),
        &notes,
    )
}

fn change(settings: &mut Settings, edit: &EditCheck, zones: &Zones) -> Result<()> {
    if let Some(name) = &edit.name {
        settings.name = name_for_people("--name", name)?;
    }
    if let Some(slug) = &edit.slug {
        settings.slug = checked_slug(slug.clone())?;
    }
    if let Some(tags) = &edit.tags {
        settings.tags = bounded("--tags", tags.clone(), limits::TAGS_CHARS_MAX)?;
    }
    if let Some(description) = &edit.description {
        settings.description = bounded(
            "--description",
            description.clone(),
            limits::DESCRIPTION_BYTES_MAX,
        )?;
    }
    let before = &mut settings.timing;
    if let Some(expression) = &edit.schedule {
        let zone = edit.tz.as_deref().unwrap_or(&before.zone);
        *before = timing(before.period.as_secs(), Some(expression.clone()), zone, zones)?;
    } else if let Some(period) = edit.period {
        // The expression and its zone stay for the day when somebody wants them back.
        before.kind = TimingKind::Period;
        before.period = Span::from_secs(period);
    }
    if let Some(grace) = edit.grace {
        settings.grace = Span::from_secs(grace);
    }
    edit.rules.apply(&mut settings.rules);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, CheckCommand, Command};

    const ID: &str = "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70";

    fn changed(settings: &mut Settings, flags: &[&str]) {
        let words = ["allswell", "check", "update", "--project", ID, ID];
        let typed = words.iter().chain(flags);
        let Command::Check(CheckCommand::Update(edit)) = Arguments::parse_from(typed).command else {
            panic!("it is no update");
        };
        change(settings, &edit, &Zones::Bundled).expect("good flags");
    }

    #[test]
    fn a_schedule_keeps_its_zone_and_a_period_keeps_both_for_later() {
        let mut settings = Settings::default();
        changed(&mut settings, &["--schedule", "5 3 * * *", "--tz", "Europe/Riga"]);
        changed(&mut settings, &["--schedule", "7 4 * * *"]);
        let timing = settings.timing.clone();
        assert_eq!(
            (timing.kind, timing.zone.as_str()),
            (TimingKind::Expression, "Europe/Riga")
        );
        assert_eq!(timing.expression, "7 4 * * *");
        changed(&mut settings, &["--period", "600"]);
        let timing = settings.timing.clone();
        assert_eq!(
            (timing.kind, timing.period),
            (TimingKind::Period, Span::from_secs(600))
        );
        assert_eq!(
            (timing.expression.as_str(), timing.zone.as_str()),
            ("7 4 * * *", "Europe/Riga")
        );
        changed(&mut settings, &["--schedule", "5 3 * * *", "--tz", "UTC"]);
        assert_eq!(
            (settings.timing.zone.as_str(), settings.timing.period),
            ("UTC", Span::from_secs(600))
        );
    }
}
