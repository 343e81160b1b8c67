//! Every bound of the system, named, in one place. Bounds that an operator may move are settings; their defaults and
//! reasons stand in `allswell.example.toml`.

/// Characters of a check's, channel's or project's name.
pub const NAME_CHARS_MAX: usize = 100;
/// Characters of a slug.
pub const SLUG_CHARS_MAX: usize = 100;
/// Characters of the tags of a check, spaces included.
pub const TAGS_CHARS_MAX: usize = 500;
/// Bytes of a check's description.
pub const DESCRIPTION_BYTES_MAX: usize = 100_000;
/// Characters of a list of keywords.
pub const KEYWORDS_CHARS_MAX: usize = 200;
/// Characters of a cron or OnCalendar expression.
pub const EXPRESSION_CHARS_MAX: usize = 100;
/// Days for which a check may be paused until an instant; a pause without an end has none.
pub const PAUSE_DAYS_MAX: i64 = 366;
/// Seconds of the shortest period and grace.
pub const PERIOD_SECS_MIN: i64 = 60;
/// Seconds of the longest period and grace: 365 days.
pub const PERIOD_SECS_MAX: i64 = 31_536_000;
/// Seconds of the period of a check that was made without one: a day.
pub const PERIOD_SECS_DEFAULT: i64 = 86_400;
/// Seconds of the grace of a check that was made without one: an hour.
pub const GRACE_SECS_DEFAULT: i64 = 3_600;
/// Characters of a user agent that are kept with a ping.
pub const USER_AGENT_CHARS_MAX: usize = 200;
/// Bytes of a request method that are kept with a ping.
pub const METHOD_BYTES_MAX: usize = 16;
/// Bytes of a forwarded scheme that are kept with a ping.
pub const SCHEME_BYTES_MAX: usize = 8;
/// Pings that the compatible API shows.
pub const PINGS_SHOWN_MAX: i64 = 100;
/// Hours between a start and its end for which a duration is still told.
pub const RUN_HOURS_MAX: i64 = 72;
/// Log entries for which a duration is looked up beyond the page that is shown (`healthchecks.md` section 2).
pub const DURATION_LOOKUPS_MAX: usize = 10;
/// Checks an owner may have unless told otherwise.
pub const CHECKS_PER_OWNER_DEFAULT: i64 = 10_000;
/// Hours after its flip for which an alert is tried.
pub const ALERT_HOURS_MAX: i64 = 24;
/// Flips that one alert tells: its own, and of those that it overtook the newest.
pub const ALERT_FLIPS_MAX: u64 = 100;
/// Characters of an e-mail address (RFC 5321 section 4.5.3.1).
pub const EMAIL_CHARS_MAX: usize = 254;
/// Bytes of the shortest and longest password.
pub const PASSWORD_BYTES_MIN: usize = 12;
/// Bytes of the longest password: hashing must not become somebody's lever.
pub const PASSWORD_BYTES_MAX: usize = 1_024;
/// Minutes for which a start link opens.
pub const START_LINK_MINUTES: i64 = 30;
/// Days after which a key that expires may do so at the latest.
pub const KEY_DAYS_MAX: i64 = 3_650;
/// Hours for which a regenerated key may stay good beside the new one.
pub const KEY_OVERLAP_HOURS_MAX: i64 = 24;
/// Seconds that pass before the use of a key is noted again.
pub const KEY_USE_NOTED_SECS: i64 = 60;
/// Networks to which a key may be bound.
pub const KEY_NETWORKS_MAX: usize = 64;
/// Channels of a project.
pub const CHANNELS_MAX: usize = 500;
/// Named secrets of a project.
pub const SECRETS_MAX: usize = 100;
/// Bytes of the value of a named secret.
pub const SECRET_BYTES_MAX: usize = 4_096;
/// Seconds of one attempt to call outward, with everything (`delivery.md` section 3).
pub const ATTEMPT_SECS_MAX: i64 = 30;
/// Seconds of it in which the name must have become addresses.
pub const RESOLVE_SECS_MAX: i64 = 5;
/// Seconds of it in which a connection must stand.
pub const CONNECT_SECS_MAX: i64 = 5;
/// Seconds of it in which the TLS handshake must be done.
pub const TLS_SECS_MAX: i64 = 5;
/// Bytes of an answer's body that are read.
pub const ANSWER_BYTES_MAX: usize = 65_536;
/// Bytes of an answer's body that are kept.
pub const EXCERPT_BYTES_MAX: usize = 4_096;
/// Bytes that the head of an answer may have.
pub const ANSWER_HEAD_BYTES_MAX: usize = 32_768;
/// Lines that the head of an answer may have.
pub const ANSWER_HEADERS_MAX: usize = 100;
/// Bytes of a request's body.
pub const REQUEST_BODY_BYTES_MAX: usize = 262_144;
/// Headers of a request.
pub const REQUEST_HEADERS_MAX: usize = 64;
/// Bytes of a request's headers, names and values.
pub const REQUEST_HEADER_BYTES_MAX: usize = 16_384;
/// Bytes of a URL that is called: 1,000 characters of a webhook's, and what stands for its placeholders, of which a letter
/// may be twelve bytes once it is percent-encoded.
pub const URL_BYTES_MAX: usize = 16_384;
/// Characters of why a secure connection failed: certificates bear many names, and errors tell all of them.
pub const TLS_DETAIL_CHARS_MAX: usize = 500;
/// Redirects that a probe may follow (DECISIONS 21).
pub const REDIRECTS_MAX: u8 = 5;
/// Addresses that a name may have; one with more is refused.
pub const ADDRESSES_MAX: usize = 32;
/// Names that a name may lead through before its addresses.
pub const CNAME_DEPTH_MAX: usize = 8;
/// Bytes of the URL of a mail relay.
pub const RELAY_BYTES_MAX: usize = 1_000;
/// Bytes of the name that somebody signs in to a relay with.
pub const RELAY_USER_BYTES_MAX: usize = 255;
/// Bytes of a password for a relay.
pub const RELAY_PASSWORD_BYTES_MAX: usize = 1_024;
/// Seconds of a dialogue with a relay that is only asked, from its name to QUIT.
pub const RELAY_SECS_MAX: i64 = 15;
/// Seconds that the answer to QUIT is waited for.
pub const SMTP_QUIT_SECS_MAX: u64 = 2;
/// Characters of a relay's reply that are shown.
pub const SMTP_REPLY_CHARS_SHOWN_MAX: usize = 200;
/// Characters of what was typed wrongly that are repeated.
pub const TYPED_CHARS_SHOWN_MAX: usize = 100;
/// Mechanisms of sign-in that are noted of what a relay offers.
pub const SMTP_MECHANISMS_MAX: usize = 20;
/// Bytes of a mechanism's name (RFC 4422 section 3.1).
pub const SMTP_MECHANISM_BYTES_MAX: usize = 20;
/// Bytes of a command of SMTP, its line end included (RFC 5321 section 4.5.3.1.4).
pub const SMTP_COMMAND_BYTES_MAX: usize = 512;
/// Bytes of a line of a reply of SMTP, its line end included. The standard has 512; some relays say more.
pub const SMTP_REPLY_LINE_BYTES_MAX: usize = 1_000;
/// Lines of a reply of SMTP.
pub const SMTP_REPLY_LINES_MAX: usize = 100;
/// Subjects of which one quota remembers what they have used.
pub const QUOTA_SUBJECTS_MAX: usize = 100_000;
/// Items on a page of the native API, unless the caller asks for another number.
pub const PAGE_DEFAULT: i64 = 100;
/// Items on a page of the native API at most.
pub const PAGE_MAX: i64 = 500;
/// Hours for which the answer to a request with an `Idempotency-Key` is kept.
pub const ONCE_HOURS: i64 = 24;
/// Bytes of an `Idempotency-Key`.
pub const ONCE_KEY_BYTES_MAX: usize = 255;
/// Listeners to `/v1/events` at once, in one process.
pub const LISTENERS_MAX: usize = 2_000;
/// Listeners to `/v1/events` at once, in one process and of one project.
pub const LISTENERS_PER_PROJECT_MAX: usize = 500;
/// Pings whose bodies are opened for one page of a search.
pub const SEARCH_PINGS_MAX: i64 = 1_000;
/// Failures that may be counted before one takes a check down.
pub const FAILURES_MAX: i64 = 100;
/// Outcomes of the shortest window over which a failure rate is taken.
pub const FAILURE_WINDOW_MIN: i64 = 2;
/// Outcomes of the longest window over which a failure rate is taken.
pub const FAILURE_WINDOW_MAX: i64 = 100;
/// Seconds of the longest run, and of the latest start, that a rule may allow: 365 days.
pub const RULE_SECS_MAX: i64 = PERIOD_SECS_MAX;
/// Tenths of the usual length from which on a run may be called unusual: 1.1 times.
pub const UNUSUAL_TENTHS_MIN: u16 = 11;
/// Tenths of the usual length beyond which a rule would find nothing any more: a hundred times.
pub const UNUSUAL_TENTHS_MAX: u16 = 1_000;
/// Seconds by which an unusual run is at least longer than the usual one.
pub const UNUSUAL_RUN_SECS_MIN: i64 = 10;
/// Successful runs of which a median says something.
pub const RUN_SAMPLES_MIN: i64 = 3;
/// Successful runs that are known unless told otherwise, before one is called unusual.
pub const RUN_SAMPLES_DEFAULT: u8 = 5;
/// Successful runs whose length a check remembers.
pub const RUN_SAMPLES_MAX: usize = 20;
/// Tests of channels that a project may ask for in a minute through the API: each is a call to whatever target it names.
pub const CHANNEL_TESTS_PER_MINUTE: u32 = 30;
