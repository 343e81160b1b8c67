//! Whether a URL may be called, and why not: judged by the same door that calls go through. Nobody but a name server is
//! asked.

use allswell_core::exchange::Class;
use allswell_outbound::Client;

use super::Findings;
use crate::config::Config;
use crate::outward;

const AREA: &str = "url";

pub async fn look(client: &Client, class: Class, url: &str, findings: &mut Findings) {
    let looked = match client.look(class, url).await {
        Ok(looked) => looked,
        Err(refusal) => {
            let found = format!("a {} may not call {url}: {refusal}", class.word());
            return findings.fail(AREA, &found, &refusal.for_administrators());
        }
    };
    let url = looked.target.url();
    if let Some(why) = &looked.unresolved {
        let found = format!("{url} cannot be called: {why}");
        return findings.fail(
            AREA,
            &found,
            "look at the name, and at the name servers (dns.nameservers)",
        );
    }
    if looked.addresses.is_empty() {
        let found = format!("{url} may be called; the proxy looks for its addresses");
        return findings.note(
            AREA,
            &found,
            "the proxy has to refuse private addresses by itself",
        );
    }
    for (address, verdict) in &looked.addresses {
        match verdict {
            Ok(()) => findings.ok(AREA, &format!("a {} may call {url} at {address}", class.word())),
            // One refuses all.
            Err(refusal) => findings.fail(
                AREA,
                &format!("a {} may not call {url} at {address}: {refusal}", class.word()),
                &refusal.for_administrators(),
            ),
        }
    }
}

/// The door that everything else goes through, or what keeps it from being made.
pub fn door(config: &Config, findings: &mut Findings) -> Option<Client> {
    outward::client(config, &outward::ports_of(config))
        .map_err(|error| {
            findings.fail(
                "outbound",
                &format!("{error:#}"),
                "mend the settings of [outbound]",
            );
        })
        .ok()
}
