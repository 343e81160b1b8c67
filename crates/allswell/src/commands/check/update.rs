//! `allswell check update`

use allswell_core::check::{Event, Settings};
use allswell_core::id::ChannelId;
use allswell_core::limits;
use allswell_core::schedule::Zones;
use allswell_core::time::Span;
use allswell_engine::record;
use anyhow::Result;

use super::{agreeing, bounded, checked_slug, chosen_channels, not_here, summary, timing};
use crate::cli::EditCheck;
use crate::commands::{Answer, name_for_people, operators_act, printable, scope_of};
use crate::config::Config;
use crate::{house, tzdata};

/// Changes what is named and leaves the rest.
pub async fn update(config: &Config, answer: Answer, edit: EditCheck) -> Result<()> {
    // Judged before anything is opened; put into the true settings within the transaction.
    change(&mut Settings::default(), &edit, &tzdata::zones(config)?)?;
    let mut house = house::open(config).await?;
    let (now, mut dice, zones) = (house.now, house.dice.fork(), house.zones.clone());
    let (project, id) = (edit.one.project, edit.one.check);
    let check = house
        .store
        .write(async move |tx| {
            let scope = scope_of(tx, project).await?;
            tx.check_lock(scope, id).await?;
            let mut check = tx.check(scope, id).await?.ok_or_else(|| not_here(id, project))?;
            change(&mut check.settings, &edit, &zones)?;
            agreeing(&check.settings)?;
            tx.check_save_settings(&check).await?;
            record::apply_and_save(tx, &mut check, Event::Edit, now, &mut dice, &zones).await?;
            if !edit.channels.is_empty() {
                let known = tx.channels(scope).await?;
                let known: Vec<ChannelId> = known.into_iter().map(|channel| channel.id).collect();
                let chosen = match edit.channels.as_slice() {
                    [none] if none == "none" => Vec::new(),
                    some => chosen_channels(some, &known)?,
                };
                tx.check_set_channels(id, &chosen).await?;
            }
            let seq = tx.change_next(scope).await?;
            tx.check_mark_changed(&check, seq).await?;
            let act = operators_act(now, Some(project), "check.update", format!("check:{id}"));
            tx.audit(dice.id_at(now), &act).await?;
            Ok::<_, anyhow::Error>(check)
        })
        .await?;
    answer.give(
        &summary(&check, now, &house.zones),
        &format!("Changed {} ({id})\n", printable(&check.settings.name)),
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
    if edit.period.is_some() || edit.schedule.is_some() {
        let period = edit.period.unwrap_or(settings.timing.period.as_secs());
        let wanted = timing(period, edit.schedule.clone(), &edit.tz, zones)?;
        settings.timing = wanted;
    }
    if let Some(grace) = edit.grace {
        settings.grace = Span::from_secs(grace);
    }
    edit.rules.apply(&mut settings.rules);
    Ok(())
}
