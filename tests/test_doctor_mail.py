"""`allswell doctor --mail` against the real binary and relays that are good, unwilling, careless and hostile."""

from __future__ import annotations

import base64
import socket
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))

from house import ROOT, House  # noqa: E402
from postgres import free_port  # noqa: E402
from relay import Relay, certificate  # noqa: E402
from test_doctor import doctor, of  # noqa: E402

PASSWORD = "open sesame, c4n4ry"
US = "allswell.example.org"
AREAS = ["mail policy", "mail connect", "mail greeting", "mail tls", "mail offers", "mail sign-in", "mail sender", "mail recipient"]

GREETING = "220 relay.example ESMTP\r\n"
EHLO = ("hear", f"EHLO {US}\r\n")
OFFERS = "250-relay.example\r\n250-SIZE 1048576\r\n250-AUTH CRAM-MD5 PLAIN LOGIN\r\n250 8BITMIME\r\n"
UNTIL_TLS = [GREETING, EHLO, "250-relay.example\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n", ("hear", "STARTTLS\r\n"), "220 go ahead\r\n", ("shake",)]
BLOB = base64.b64encode(f"\0alice@example.org\0{PASSWORD}".encode()).decode()
PLAIN = "AUTH PLAIN " + BLOB
LOGIN = [base64.b64encode(text.encode()).decode() for text in ("alice@example.org", PASSWORD)]
SIGN_IN = [("hear", PLAIN + "\r\n"), "235 2.7.0 welcome\r\n"]
LETTER = ("--mail-from", "allswell@example.org", "--mail-to", "bob@example.net")
TAKE_BACK = [("hear", "RSET\r\n"), "250 ok\r\n"]
QUIT = [("hear", "QUIT\r\n"), "221 bye\r\n"]


@pytest.fixture(scope="module")
def house():
    house = House(settings={"SITE_URL": f"https://{US}"})
    house.port = free_port()
    yield house
    house.remove()


@pytest.fixture(scope="module")
def cert(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def no_password_of_the_developer(monkeypatch):
    for name in ("SMTP_PASSWORD", "EMAIL_HOST_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nanother line\n")
    file.chmod(0o600)
    return file


def canaries(password: str) -> set[str]:
    """What gives a password away: every eight letters of it, and of its base64, which looks otherwise after one or two more."""
    forms = [password, base64.b64encode(f"\0alice@example.org\0{password}".encode()).decode()]
    # What stands before takes part in the first letters, and so does what follows in the last ones.
    forms += [base64.b64encode(b"\0" * before + password.encode()).decode()[skip:].rstrip("=")[:-1] for before, skip in ((0, 0), (1, 2), (2, 3))]
    return {form[at:at + 8].lower() for form in forms for at in range(len(form) - 7)}


def assert_hidden(text: str) -> None:
    shown = [canary for canary in canaries(PASSWORD) if canary in text.lower()]
    assert not shown, (shown, text)


def ask(house, relay, cert, *args, user="alice%40example.org", scheme="smtp"):
    """The levels of the mail areas, and all findings of them. No password is ever shown."""
    at = f"{user}@" if user else ""
    begun = time.monotonic()
    status, answer = doctor(house, "--mail", f"{scheme}://{at}127.0.0.1:{relay.port}", *args, OUTBOUND_EXTRA_CA_FILE=str(cert))
    assert time.monotonic() - begun < 25
    assert_hidden(str(answer))
    mail = [f for f in answer["findings"] if f["area"].startswith("mail")]
    assert [f["level"] for f in mail if f["area"] == "mail"] == ["NOTE"], mail
    for finding in mail:
        assert finding["advice"] or finding["level"] in ("OK", "NOTE"), finding
        assert all(ord(c) >= 32 for c in finding["found"]), finding
    assert "sends no mail yet" in of(answer, "mail", "NOTE")[0]["found"]
    assert status == 2 if any(f["level"] == "FAIL" for f in mail) else status < 2
    return {f["area"]: f["level"] for f in mail if f["area"] != "mail"}, {f["area"]: f["found"] for f in mail}


def failed(house, relay, cert, secret, **kwargs) -> tuple[str, str]:
    """The one area that failed, which is the last, and what was found."""
    levels, found = ask(house, relay, cert, "--mail-password-file", str(secret), **kwargs)
    *before, last = levels
    assert levels[last] == "FAIL" and all(levels[area] == "OK" for area in before), (levels, found)
    return last, found[last]


def test_a_good_relay_is_asked_for_everything_and_sent_nothing(house, cert, secret):
    script = [*UNTIL_TLS, EHLO, OFFERS, *SIGN_IN, ("hear", "MAIL FROM:<allswell@example.org>\r\n"), "250 ok\r\n",
              ("hear", "RCPT TO:<bob@example.net>\r\n"), "250 ok\r\n", *TAKE_BACK, *QUIT]
    with Relay(script, cert) as relay:
        levels, found = ask(house, relay, cert, "--mail-password-file", str(secret), *LETTER)
        assert levels == dict.fromkeys(AREAS, "OK"), found
        assert relay.heard[-1] == "QUIT\r\n" and not any(line.startswith("DATA") for line in relay.heard)
    assert f"127.0.0.1:{relay.port} in " in found["mail connect"]
    assert "220 relay.example ESMTP" in found["mail greeting"]
    assert found["mail tls"].startswith("TLS 1.3") and "127.0.0.1" in found["mail tls"]
    assert "1048576 bytes" in found["mail offers"] and "CRAM-MD5, PLAIN, LOGIN" in found["mail offers"]
    assert '"alice@example.org" by PLAIN' in found["mail sign-in"] and str(secret) in found["mail sign-in"]


@pytest.mark.parametrize("name", ["SMTP_PASSWORD", "EMAIL_HOST_PASSWORD"])
def test_tls_at_once_and_a_password_of_the_environment(house, cert, name, monkeypatch):
    monkeypatch.setenv("EMAIL_HOST_PASSWORD", "another" if name == "SMTP_PASSWORD" else PASSWORD)
    monkeypatch.setenv("SMTP_PASSWORD", PASSWORD if name == "SMTP_PASSWORD" else "")
    script = [("shake",), GREETING, EHLO, "250-relay.example\r\n250 AUTH LOGIN\r\n", ("hear", "AUTH LOGIN\r\n"), "334 VXNlcm5hbWU6\r\n",
              ("hear", LOGIN[0] + "\r\n"), "334 UGFzc3dvcmQ6\r\n", ("hear", LOGIN[1] + "\r\n"), "235 ok\r\n", *QUIT]
    with Relay(script, cert) as relay:
        levels, found = ask(house, relay, cert, scheme="smtps")
        assert levels == dict.fromkeys(AREAS[:6], "OK"), found
        assert f"the password of {name}" in found["mail sign-in"]


def test_without_tls_no_password_is_sent_and_without_password_a_relay_of_this_machine_will_do(house, cert, secret):
    clear = [GREETING, EHLO, "250-relay.example\r\n250 AUTH PLAIN LOGIN\r\n"]
    with Relay(clear, cert) as relay:
        area, found = failed(house, relay, cert, secret)
        assert area == "mail tls" and "was not sent" in found
        assert relay.heard == [EHLO[1], "QUIT\r\n"]
    script = [*clear, ("hear", "MAIL FROM"), "250 ok\r\n", ("hear", "RCPT TO"), "250 ok\r\n", *TAKE_BACK, *QUIT]
    with Relay(script, cert) as relay:
        levels, _ = ask(house, relay, cert, *LETTER, user="")
        assert levels == {**dict.fromkeys((*AREAS[:5], *AREAS[6:]), "OK"), "mail tls": "WARN"}


def test_a_certificate_for_somebody_else_or_of_nobody_is_not_believed(house, cert, secret, tmp_path):
    other = certificate(tmp_path, "DNS:other.example")
    for served, believed in ((other, other), (cert, other)):
        for scheme, script in (("smtp", UNTIL_TLS), ("smtps", [("shake",)])):
            with Relay(script, served) as relay:
                area, found = failed(house, relay, believed, secret, scheme=scheme)
                assert area == "mail tls" and "certificate" in found
                assert not any("AUTH" in line for line in relay.heard)


def test_a_relay_of_this_machine_may_have_a_certificate_of_nobody_if_nobody_signs_in(house, cert, tmp_path):
    other = certificate(tmp_path, "DNS:debian")
    clear = [GREETING, EHLO, "250-relay.example\r\n250-STARTTLS\r\n250 SIZE 1000\r\n", ("hear", "MAIL FROM"), "250 ok\r\n",
             ("hear", "RCPT TO"), "554 5.7.1 relay access denied\r\n", *TAKE_BACK, *QUIT]
    with Relay(UNTIL_TLS, other, [clear]) as relay:
        levels, found = ask(house, relay, cert, *LETTER, user="")
        assert levels == {**dict.fromkeys((*AREAS[:5], "mail sender"), "OK"), "mail tls": "WARN", "mail recipient": "FAIL"}, found
        assert "certificate" in found["mail tls"] and "on this machine and nobody signs in" in found["mail tls"]
        assert "1000 bytes" in found["mail offers"]
    # The other connection may go wrong as well.
    with Relay(UNTIL_TLS, other, [["554 not twice\r\n"]]) as relay:
        levels, found = ask(house, relay, cert, user="")
        assert levels["mail greeting"] == "FAIL" and "554 not twice" in found["mail greeting"]
    # Who writes smtps:// wants TLS.
    with Relay([("shake",)], other) as relay:
        levels, _ = ask(house, relay, cert, user="", scheme="smtps")
        assert levels["mail tls"] == "FAIL"


def test_a_scheme_for_the_other_kind_of_port_is_told(house, cert, secret):
    with Relay([GREETING], cert) as relay:
        status, answer = doctor(house, "--mail", f"smtps://127.0.0.1:{relay.port}")
        assert status == 2 and "smtp:// instead of smtps://" in of(answer, "mail tls", "FAIL")[0]["advice"]
    # A relay that begins with TLS waits, and so do we, for as long as all of it may take.
    with Relay([("shake",)], cert) as relay:
        begun = time.monotonic()
        status, answer = doctor(house, "--mail", f"smtp://127.0.0.1:{relay.port}")
        assert 14 < time.monotonic() - begun < 25
        refused = of(answer, "mail greeting", "FAIL")[0]
        assert status == 2 and "no answer in time" in refused["found"] and "write smtps://" in refused["advice"]
        assert "lets strangers wait longer than 15 s" in refused["advice"]


def test_what_a_relay_says_is_bounded_and_does_nothing_to_a_terminal(house, cert, secret):
    long = "\x1b[2J\u202e" + "x" * 900
    script = [*UNTIL_TLS, EHLO, f"550-5.7.1 no\r\n550 {long}\r\n", *QUIT]
    with Relay(script, cert) as relay:
        area, found = failed(house, relay, cert, secret)
        assert area == "mail offers" and "550 5.7.1 no / \\u{1b}[2J\\u{202e}xxx" in found and len(found) < 400
        done = printed(house, relay, cert, secret)
        assert done.returncode == 2 and "550 5.7.1 no" in done.stdout
        assert "\x1b" not in done.stdout and "\u202e" not in done.stdout


def printed(house, relay, cert, secret, *args):
    """The same as text."""
    house.settings["OUTBOUND_EXTRA_CA_FILE"] = str(cert)
    try:
        return house.run("doctor", "--mail", f"smtp://alice%40example.org@127.0.0.1:{relay.port}", "--mail-password-file", str(secret), *args)
    finally:
        del house.settings["OUTBOUND_EXTRA_CA_FILE"]


def test_the_canaries_see_a_password():
    for text in (PASSWORD, PLAIN, PLAIN[:-9], LOGIN[1], LOGIN[1][:12], base64.b64encode(f"x {PASSWORD} y".encode()).decode(), PASSWORD.upper()):
        with pytest.raises(AssertionError):
            assert_hidden(text)


@pytest.mark.parametrize(("mechanism", "acts"), [
    ("PLAIN", [("hear", PLAIN), f'500 5.5.1 Command unrecognized: "{PLAIN}"\r\n']),
    ("PLAIN", [("hear", PLAIN), f"535-5.7.8 wrong: {PASSWORD}\r\n535 5.7.8 {BLOB[:30]}\r\n"]),
    ("PLAIN", [("hear", PLAIN), f"535 {BLOB}\r\n"]),
    ("LOGIN", [("hear", "AUTH LOGIN"), "334\r\n", ("hear", LOGIN[0]), f"334 {LOGIN[1]}\r\n", ("hear", LOGIN[1]), f'500 5.5.1 "{LOGIN[1]}"\r\n']),
    ("LOGIN", [("hear", "AUTH LOGIN"), "334\r\n", ("hear", LOGIN[0]), "334\r\n", ("hear", LOGIN[1]), f"535 5.7.8 wrong: {PASSWORD}\r\n"]),
])
def test_a_relay_that_repeats_the_sign_in_is_not_repeated(house, cert, secret, mechanism, acts):
    """Each reply is made to hold the password, or what it was sent as; a user of the terminal sees none of it."""
    script = [*UNTIL_TLS, EHLO, f"250-relay.example\r\n250 AUTH {mechanism}\r\n", *acts, *QUIT]
    with Relay(script, cert) as relay:
        area, found = failed(house, relay, cert, secret)
        code = acts[-1][:9].replace("-", " ") if acts[-1][4] == "5" else acts[-1][:3]
        assert area == "mail sign-in" and f"by {mechanism} with the password of {secret}: {code} (its words" in found, found
        assert_hidden(printed(house, relay, cert, secret).stdout)


def test_a_sign_in_that_proves_nothing_or_never_ends_is_told(house, cert, secret):
    begin = [*UNTIL_TLS, EHLO, "250-relay.example\r\n250 AUTH LOGIN\r\n", ("hear", "AUTH LOGIN"), "334\r\n", ("hear", LOGIN[0])]
    with Relay([*begin, "235 welcome\r\n", *QUIT], cert) as relay:
        levels, found = ask(house, relay, cert, "--mail-password-file", str(secret))
        assert levels["mail sign-in"] == "WARN" and "before it was told the password" in found["mail sign-in"]
    with Relay([*begin, "334\r\n", ("hear", LOGIN[1]), f"334 {LOGIN[1]}\r\n", ("hear", "*\r\n"), f"501 {PASSWORD}\r\n", *QUIT], cert) as relay:
        area, found = failed(house, relay, cert, secret)
        assert area == "mail sign-in" and "asks for more" in found
        assert relay.heard[-2:] == ["*\r\n", "QUIT\r\n"]


@pytest.mark.parametrize("user_told", [False, True])
def test_a_password_that_was_not_told_is_not_blamed(house, cert, secret, user_told):
    asked = ["334\r\n", ("hear", LOGIN[0])] if user_told else []
    for code, advice in (("535 5.7.8", "look at the user"), ("454 4.7.0", "try again later")):
        script = [*UNTIL_TLS, EHLO, "250-relay.example\r\n250 AUTH LOGIN\r\n", ("hear", "AUTH LOGIN"), *asked, f"{code} not you\r\n", *QUIT]
        with Relay(script, cert) as relay:
            area, found = failed(house, relay, cert, secret)
            assert area == "mail sign-in" and f'"alice@example.org" by LOGIN before it was told the password: {code} (' in found, found
            assert str(secret) not in found and "not you" not in found and "repeat" not in found
            text = printed(house, relay, cert, secret).stdout
            assert advice in text and "look at user and password" not in text, text
            assert not any(LOGIN[1] in line for line in relay.heard)


def test_what_is_repeated_later_is_covered(house, cert, secret):
    sign_in = [("hear", PLAIN), f"235 welcome {PASSWORD}\r\n"]
    script = [*UNTIL_TLS, EHLO, OFFERS, *sign_in, ("hear", "MAIL FROM"), f"250 ok, {LOGIN[1]}\r\n",
              ("hear", "RCPT TO"), f"550-5.7.1 not after {PLAIN[:25]}\r\n550 and {PASSWORD}!\r\n", *TAKE_BACK, *QUIT]
    with Relay(script, cert) as relay:
        levels, found = ask(house, relay, cert, "--mail-password-file", str(secret), *LETTER)
        assert levels["mail recipient"] == "FAIL"
        assert "550 5.7.1 not after AUTH PLAIN [hidden] / and [hidden]!" in found["mail recipient"]
        assert "250 ok, [hidden]" in found["mail sender"]
        assert_hidden(printed(house, relay, cert, secret, *LETTER).stdout)


def test_words_between_starttls_and_the_handshake_are_not_believed(house, cert, secret):
    script = list(UNTIL_TLS)
    script[4] = "220 go ahead\r\n250-relay.example\r\n250 AUTH PLAIN\r\n"
    with Relay(script, cert) as relay:
        area, found = failed(house, relay, cert, secret)
        assert area == "mail tls" and "between the answer to STARTTLS and the handshake" in found
    assert not any("AUTH" in line for line in relay.heard)


@pytest.mark.parametrize(("script", "area", "words"), [
    ([("close",)], "mail greeting", "the connection was closed"),
    (["220 rel", ("close",)], "mail greeting", "the connection was closed"),
    ([("repeat", "220-relay\r\n")], "mail greeting", "too many lines"),
    ([("repeat", "220 relay ")], "mail greeting", "too long"),
    (["421 4.3.2 too busy\r\n"], "mail greeting", "421 4.3.2 too busy"),
    (["554 not from you\r\n"], "mail greeting", "554 not from you"),
    (["SSH-2.0-OpenSSH_9.2p1\r\n"], "mail greeting", "no SMTP"),
    (["220-relay\r\n250 relay\r\n"], "mail greeting", "two codes"),
    (["220 relay\n"], "mail greeting", "CR LF"),
    ([GREETING + "250 relay.example\r\n"], "mail offers", "nobody had asked for"),
    ([GREETING, EHLO, "550 who are you\r\n"], "mail offers", "550 who are you"),
    ([GREETING, EHLO, "250-relay.example\r\n250 STARTTLS\r\n", ("hear", "STARTTLS\r\n"), "454 no key\r\n"], "mail tls", "454 no key"),
    ([*UNTIL_TLS, EHLO, ("close",)], "mail offers", "the connection was closed"),
])
def test_a_relay_that_is_none_or_does_not_want_is_told_where(house, cert, secret, script, area, words):
    with Relay(script, cert) as relay:
        where, found = failed(house, relay, cert, secret)
        assert where == area and words in found
        assert not any("AUTH" in line for line in relay.heard)


def test_a_relay_without_a_sign_in_that_we_know_is_told(house, cert, secret):
    for auth in ("250-AUTH CRAM-MD5 XOAUTH2\r\n", ""):
        with Relay([*UNTIL_TLS, EHLO, f"250-relay.example\r\n{auth}250 SIZE 0\r\n", *QUIT], cert) as relay:
            levels, found = ask(house, relay, cert, "--mail-password-file", str(secret))
            assert levels["mail sign-in"] == "FAIL" and "PLAIN or LOGIN" in found["mail sign-in"]
            assert "messages of any size" in found["mail offers"]


def test_who_is_refused_and_for_whom_is_told(house, cert, secret):
    begin = [*UNTIL_TLS, EHLO, OFFERS]
    sender, recipient = ("hear", "MAIL FROM"), ("hear", "RCPT TO")
    cases = [
        ([sender, "530 5.7.0 authentication required\r\n"], "mail sender", "FAIL", "530 5.7.0"),
        ([sender, "250 ok\r\n", recipient, "554 5.7.1 relay access denied\r\n"], "mail recipient", "FAIL", "554 5.7.1 relay access denied"),
        ([sender, "250 ok\r\n", recipient, "450 4.2.0 greylisted\r\n"], "mail recipient", "WARN", "450 4.2.0 greylisted"),
    ]
    for script, area, level, words in cases:
        with Relay([*begin, *script, *TAKE_BACK, *QUIT], cert) as relay:
            levels, found = ask(house, relay, cert, *LETTER, user="")
            assert levels[area] == level and words in found[area] and list(levels)[-1] == area, found
            assert relay.heard[-1] == "QUIT\r\n"


@pytest.mark.parametrize("heard", ["MAIL FROM", "RCPT TO"])
def test_a_relay_that_leaves_says_so_once(house, cert, heard):
    before = [] if heard == "MAIL FROM" else [("hear", "MAIL FROM"), "250 ok\r\n"]
    script = [*UNTIL_TLS, EHLO, OFFERS, *before, ("hear", heard), "421 4.3.2 shutting down\r\n", ("close",)]
    with Relay(script, cert) as relay:
        levels, found = ask(house, relay, cert, *LETTER, user="")
        area = "mail sender" if heard == "MAIL FROM" else "mail recipient"
        assert {area for area, level in levels.items() if level != "OK"} == {area}, found
        assert levels[area] == "WARN" and "421 4.3.2" in found[area]
        assert "RSET\r\n" not in relay.heard


@pytest.mark.parametrize("end", [["500 what\r\n"], ["what\r\n"], [("close",)]])
def test_how_a_relay_takes_back_is_no_matter(house, cert, end):
    letter = [("hear", "MAIL FROM"), "250 ok\r\n", ("hear", "RCPT TO"), "250 ok\r\n", ("hear", "RSET\r\n"), *end]
    with Relay([*UNTIL_TLS, EHLO, OFFERS, *letter], cert) as relay:
        levels, found = ask(house, relay, cert, *LETTER, user="")
        assert set(levels.values()) == {"OK"}, found


def test_what_is_typed_wrongly_calls_nobody_and_a_password_is_not_repeated(house, cert, secret, tmp_path):
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("\nlater\n")
    binary.write_bytes(b"a\0b\n")
    for path in (empty, binary):
        path.chmod(0o600)
    with Relay([GREETING], cert) as relay:
        at = f"127.0.0.1:{relay.port}"
        file = ("--mail-password-file", str(secret))
        for url, args, area, advice in [
            (f"smtp://alice:c4n4ry@{at}", (), "mail", "--mail-password-file"),
            (f"smtp://alice:c4n4/ry@{at}", (), "mail", "change it at the relay"),
            (f"https://{at}", (), "mail", "smtps://[USER@]HOST"),
            (f"smtp://{at}/path", (), "mail", "smtps://[USER@]HOST"),
            (f"smtp://alice@{at}", (), "mail sign-in", "SMTP_PASSWORD or EMAIL_HOST_PASSWORD (sudo does not hand them on)"),
            (f"smtp://alice@{at}", ("--mail-password-file", str(tmp_path / "none")), "mail sign-in", "first line"),
            (f"smtp://alice@{at}", ("--mail-password-file", str(empty)), "mail sign-in", "first line"),
            (f"smtp://alice@{at}", ("--mail-password-file", str(binary)), "mail sign-in", "no control characters"),
            (f"smtp://alice@{at}", (*file, "--mail-from", "a@b>\r\nDATA", "--mail-to", "a@b"), "mail", "name@example.org"),
            (f"smtp://alice@{at}", (*file, "--mail-from", "a@b", "--mail-to", "Bob <b@c>"), "mail", "name@example.org"),
        ]:
            status, answer = doctor(house, "--mail", url, *args)
            refused = of(answer, area, "FAIL")
            assert status == 2 and len(refused) == 1 and advice in refused[0]["advice"], (url, answer)
            assert "c4n4" not in str(answer)
        assert not relay.threads, "somebody was called"
    assert "mail relay" in house.run("--help").stdout
    page = (ROOT / "docs" / "install.md").read_text()
    assert "--config /etc/allswell/allswell.toml doctor" in page and "    allswell doctor" not in page, "a command that a package's user cannot give"
    for args in (("--mail-from", "a@b"), ("--mail", "smtp://a", "--mail-to", "a@b"), ("--mail-password-file", "x")):
        assert house.run("doctor", *args).returncode == 2


def test_a_password_that_others_can_read_is_not_used(house, cert, secret):
    with Relay([GREETING], cert) as relay:
        for mode in (0o604, 0o602, 0o601):
            secret.chmod(mode)
            status, answer = doctor(house, "--mail", f"smtp://alice@127.0.0.1:{relay.port}", "--mail-password-file", str(secret))
            assert status == 2 and f"chmod 600 {secret}" in of(answer, "mail sign-in", "FAIL")[0]["found"], answer
        assert not relay.threads, "somebody was called"


def test_a_password_that_nobody_needs_is_told_and_not_read(house, cert, tmp_path, monkeypatch):
    file = tmp_path / "not-there"
    for args, source in ((("--mail-password-file", str(file)), str(file)), ((), "SMTP_PASSWORD")):
        if not args:
            monkeypatch.setenv("SMTP_PASSWORD", PASSWORD)
        with Relay([*UNTIL_TLS, EHLO, OFFERS, *QUIT], cert) as relay:
            levels, found = ask(house, relay, cert, *args, user="")
            assert levels["mail sign-in"] == "NOTE" and "names no user" in found["mail sign-in"] and source in found["mail sign-in"]


def test_what_keeps_everything_from_going_out_is_told_once(house, tmp_path):
    status, answer = doctor(house, "--url", "https://192.0.2.1", "--mail", "smtp://127.0.0.1", OUTBOUND_EXTRA_CA_FILE=str(tmp_path / "none.pem"))
    assert status == 2 and len(of(answer, "outbound", "FAIL")) == 1, answer


def test_the_way_to_a_relay_is_judged_and_told(house):
    port = free_port()
    status, answer = doctor(house, "--mail", f"smtp://127.0.0.1:{port}")
    assert status == 2 and of(answer, "mail policy", "OK")
    assert f"no connection to 127.0.0.1:{port}" in of(answer, "mail connect", "FAIL")[0]["found"]
    for url, settings, setting in [
        ("smtp://169.254.169.254", {}, "outbound.allow_metadata"),
        ("smtp://127.0.0.1", {"OUTBOUND_DENY_CIDRS": "127.0.0.0/8"}, "outbound.deny_cidrs"),
        ("smtps://metadata.google.internal", {}, "outbound.allow_hosts"),
    ]:
        status, answer = doctor(house, "--mail", url, **settings)
        assert status == 2 and setting in of(answer, "mail policy", "FAIL")[0]["advice"], answer
        assert not of(answer, "mail connect")


@pytest.mark.parametrize(("site", "name", "warned"), [
    (None, "[127.0.0.1]", True), ("https://localhost", "localhost", True), ("https://watch", "watch", True), (f"https://{US}", US, False),
])
def test_a_relay_elsewhere_that_is_told_a_name_of_here_is_warned_of(house, cert, secret, site, name, warned):
    """The relay is behind a tunnel of a proxy, so that it is not on this machine."""
    mine = House(settings={"SITE_URL": site} if site else {})
    mine.port = free_port()
    tunnel = [("hear", "CONNECT 10.0.0.7:587"), ("hear", "Host:"), ("hear", "\r\n"), f"HTTP/1.1 200 OK\r\n\r\n{GREETING}"]
    ehlo = ("hear", f"EHLO {name}\r\n")
    script = [*tunnel, ehlo, *UNTIL_TLS[2:], ehlo, OFFERS, ("hear", "MAIL FROM"), "250 ok\r\n", ("hear", "RCPT TO"), "504 5.5.2 not from there\r\n",
              *TAKE_BACK, *QUIT]
    try:
        with Relay(script, certificate(secret.parent, "IP:10.0.0.7")) as relay:
            status, answer = doctor(mine, "--mail", "smtp://10.0.0.7", *LETTER, OUTBOUND_PROXY=f"http://127.0.0.1:{relay.port}",
                                    OUTBOUND_PROXY_MODE="vetted-ip", OUTBOUND_EXTRA_CA_FILE=str(secret.parent / "IP-10.0.0.7.pem"))
        assert f"to {name}: " in of(answer, "mail offers", "OK")[0]["found"], answer
        warnings = of(answer, "mail offers", "WARN")
        assert [w["advice"] for w in warnings] == ["set site_url to the public address"] * warned
        assert f"{name}, which comes from site_url" in of(answer, "mail recipient", "FAIL")[0]["advice"] and status == 2
        # What is not on this machine may not do without TLS that is believed.
        with Relay([*tunnel, ehlo, *UNTIL_TLS[2:]], cert) as relay:
            status, answer = doctor(mine, "--mail", "smtp://10.0.0.7", OUTBOUND_PROXY=f"http://127.0.0.1:{relay.port}", OUTBOUND_PROXY_MODE="vetted-ip")
            assert status == 2 and of(answer, "mail tls", "FAIL") and len(relay.threads) == 1
    finally:
        mine.remove()


def test_a_relay_may_have_a_name_of_this_machine(house):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        nobody = {"DNS_NAMESERVERS": f"127.0.0.1:{mute.getsockname()[1]}"}
    script = [GREETING, EHLO, "250 relay.example\r\n", *QUIT]
    with Relay(script) as relay:
        status, answer = doctor(house, "--mail", f"smtp://localhost:{relay.port}", **nobody)
        assert status < 2 and f"localhost:{relay.port}" in of(answer, "mail policy", "OK")[0]["found"], answer
        assert "on this machine" in of(answer, "mail tls", "WARN")[0]["found"]
    status, answer = doctor(house, "--mail", "smtp://postfix", **nobody)
    assert status == 2 and not of(answer, "mail policy", "FAIL"), answer
    assert "/etc/hosts" in of(answer, "mail connect", "FAIL")[0]["advice"]
