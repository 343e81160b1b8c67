//! Checks that a ping makes: what is wished of them, and what they must be.

use std::collections::BTreeMap;

use allswell_core::check::{Check, Wish, WishedChannels};
use allswell_core::schedule::Zones;
use allswell_engine::ingest::Wished;
use allswell_store::simulated::Stored;

use crate::model::{Channel, Model};
use crate::rules::{Held, MADE, broken, holds};
use crate::users::{Ticket, To};
use crate::world::World;

impl World {
    /// What somebody wishes of a check that is to be made: some of it in words that nobody understands.
    pub(crate) fn a_wish(&mut self, slug: &str) -> Wished {
        let mut given: BTreeMap<&str, String> = BTreeMap::new();
        let mut some = |name, choice: &[&str]| {
            let n = self.roll(2 * choice.len() as u32) as usize;
            if let Some(one) = choice.get(n) {
                given.insert(name, (*one).to_owned());
            }
        };
        some("timeout", &["60", "300", "3600", "59"]);
        some("grace", &["60", "90", "1200", "soon"]);
        some("tags", &["prod", "prod db"]);
        if !given.contains_key("timeout") {
            let mut some = |name, choice: &[&str]| {
                let n = self.roll(2 * choice.len() as u32) as usize;
                if let Some(one) = choice.get(n) {
                    given.insert(name, (*one).to_owned());
                }
            };
            some("schedule", &["*/5 * * * *", "7 * * * *", "61 * * * *"]);
            some("tz", &["Europe/Riga", "UTC", "Moon"]);
        }
        let of_project: Vec<String> = self.channels.iter().map(|one| one.id.to_string()).collect();
        let named = match self.roll(6) {
            0 | 1 => None,
            2 => Some("*".to_owned()),
            3 => Some(String::new()),
            _ => {
                let names = of_project.into_iter().chain(["silent".to_owned()]);
                let mut names: Vec<String> = names.filter(|_| self.roll(3) == 0).collect();
                if self.roll(8) == 0 {
                    // One of several, or none.
                    names.push(["log", "nobody"][self.roll(2) as usize].to_owned());
                }
                Some(names.join(", "))
            }
        };
        given.extend(named.map(|named| ("channels", named)));
        let wish = Wish::judge(slug, |name| given.get(name).map(String::as_str), &Zones::Bundled);
        Wished {
            key: self.ping_key.clone(),
            slug: slug.to_owned(),
            wish,
        }
    }

    /// The channels that are wished for, if each name is that of one that is there.
    fn wished_channels(&self, wish: &Wish, is_gone: impl Fn(&Channel) -> bool) -> Option<Vec<Channel>> {
        let WishedChannels::Named(names) = &wish.channels else {
            return Some(self.channels.clone());
        };
        let mut all = true;
        let named = |one: &Channel| {
            let mut names = names.iter();
            names.any(|name| *name == one.id.to_string() || (one.silent && name == "silent"))
        };
        for name in names {
            let is_it = |one: &Channel| one.id.to_string() == *name && !is_gone(one);
            all &= name == "silent" || self.channels.iter().any(is_it);
        }
        all.then(|| self.channels.iter().filter(|one| named(one)).copied().collect())
    }

    /// The parameter of a ping that wishes for something that cannot be.
    pub(crate) fn wished_in_vain(&self, ticket: &Ticket) -> Option<&'static str> {
        let To::Wished(wished) = &ticket.errand.to else {
            return None;
        };
        match &wished.wish {
            Err(fault) => Some(fault.parameter),
            Ok(wish) => {
                let gone = |one: &Channel| self.switches.is_deleted(one.id);
                self.wished_channels(wish, gone).is_none().then_some("channels")
            }
        }
    }

    /// Whether there was no check of the name that a ping is addressed to at some time between its being sent and now: one
    /// that is there by now was not there when it was sent, or it was deleted and made anew.
    pub(crate) fn was_not_there(&self, ticket: &Ticket) -> bool {
        let slug = match &ticket.errand.to {
            To::Check(_) => return false,
            To::Slug { slug, .. } => slug,
            To::Wished(wished) => &wished.slug,
        };
        let is_it = |model: &&Model| {
            let named = model.project == self.project && model.settings.slug == *slug;
            named && !model.deleted && model.made_in <= ticket.look
        };
        self.models.values().find(is_it).is_none()
    }

    /// A check that was made: its first ping asked for it, and it is as that one wished. Gives the channels that it tells.
    pub(crate) fn is_as_wished(&self, check: &Check, pings: &[Stored]) -> Held<Vec<Channel>> {
        let made_by = pings.first().and_then(|ping| self.ticket_of(&ping.user_agent));
        let ticket = made_by.and_then(|ticket| self.tickets.get(&ticket));
        let plain = Wish::plain(&check.settings.slug);
        let wish = match ticket.map(|ticket| &ticket.errand.to) {
            Some(To::Slug { create: true, .. }) => Some(&plain),
            Some(To::Wished(wished)) => wished.wish.as_ref().ok(),
            _ => None,
        };
        let tell = || format!("{check:?} was made for {ticket:?}");
        let gone = |one: &Channel| self.switches.was_deleted(one.id);
        let Some((wish, channels)) = wish.and_then(|wish| Some((wish, self.wished_channels(wish, gone)?)))
        else {
            return broken(MADE, tell());
        };
        holds(MADE, check.settings == wish.settings, tell)?;
        Ok(channels)
    }
}
