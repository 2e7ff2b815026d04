"""Checks on the shipped support-ticket file, read as plain csv."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from importlib.resources import files
from itertools import combinations

import pytest

COLUMNS = ["id", "ticket", "route", "difficulty"]
SHARES = {"easy": (0.55, 0.65), "medium": (0.20, 0.30), "hard": (0.10, 0.20)}

ROUTES = (
    "broken_item",
    "cancel_order",
    "change_address",
    "invoice_copy",
    "late_delivery",
    "password_reset",
    "payment_failed",
    "refund_status",
)

EMAIL = re.compile(r"\S+@\S+")
URL = re.compile(r"https?://|www\.|\b\w+\.(?:com|net|org|io|de|uk)\b", re.IGNORECASE)
PHONE = re.compile(r"\+\d|(?:\d[\s()./-]*){7,}")
# Names that are not also everyday words; those (edge, stripe, wise) need a reader's eye.
COMPANIES = re.compile(
    r"\b(?:adobe|airtable|airbnb|amazon|amex|android|apple|asana|asus|atlassian|aws|azure|basecamp"
    r"|chrome|cisco|dell|dhl|dropbox|ebay|epson|evernote|facebook|fedex|figma|firefox"
    r"|github|gitlab|gmail|google|hubspot|huawei|icloud|instagram|intel|ios|ipad|iphone"
    r"|jira|kindle|klarna|kobo|lenovo|linux|macbook|macos|mastercard|microsoft|mozilla"
    r"|netflix|nvidia|okta|onedrive|outlook|paypal|safari|salesforce"
    r"|samsung|sony|spotify|telegram|tesla|tiktok|trello|twitter|uber|usps"
    r"|whatsapp|xerox|xiaomi|yahoo|youtube|zendesk)\b",
    re.IGNORECASE,
)


def words(text: str) -> list[str]:
    """Lower-case words of `text`, without accents, apostrophes and punctuation."""
    text = unicodedata.normalize("NFKD", text.lower())
    text = "".join(c for c in text if not unicodedata.combining(c))
    return re.findall(r"[a-z0-9]+", re.sub(r"['’]", "", text))


@pytest.fixture(scope="module")
def raw() -> str:
    path = files("rollouts") / "datasets" / "data" / "tickets.csv"
    return path.read_bytes().decode("utf-8")


@pytest.fixture(scope="module")
def rows(raw: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(raw, newline=""), strict=True))


def test_header_and_file_form(raw):
    assert raw.splitlines()[0].split(",") == COLUMNS
    assert "\r" not in raw
    assert raw.endswith("\n")
    assert not raw.endswith("\n\n")


def test_every_cell_is_filled_and_trimmed(rows):
    for row in rows:
        assert list(row) == COLUMNS
        for value in row.values():
            assert value
            assert value == value.strip(), row
        assert "\n" not in row["ticket"], row
        assert "  " not in row["ticket"], row


def test_ids_are_unique_and_run_in_order(rows):
    assert [row["id"] for row in rows] == [f"t{i:04d}" for i in range(1, len(rows) + 1)]


def test_enough_rows_and_balanced_routes(rows):
    counts = Counter(row["route"] for row in rows)
    assert len(rows) >= 400
    assert len(counts) >= 6
    assert min(counts.values()) >= 50
    assert max(counts.values()) - min(counts.values()) <= 5
    assert set(counts) == set(ROUTES)


def test_difficulty_shares(rows):
    counts = Counter(row["difficulty"] for row in rows)
    assert set(counts) == set(SHARES)
    for name, (low, high) in SHARES.items():
        assert low <= counts[name] / len(rows) <= high, name
    # Every route holds every difficulty.
    cells = Counter((row["route"], row["difficulty"]) for row in rows)
    assert all(cells[route, name] >= 5 for route in ROUTES for name in SHARES)


def test_length_varies(rows):
    lengths = sorted(len(row["ticket"].split()) for row in rows)
    assert lengths[0] <= 5
    assert lengths[-1] >= 20
    assert 8 <= lengths[len(lengths) // 2] <= 14


def test_no_duplicate_text(rows):
    seen: dict[tuple[str, ...], str] = {}
    for row in rows:
        key = tuple(words(row["ticket"]))
        assert key not in seen, (seen[key], row["id"])
        seen[key] = row["id"]


def test_no_near_duplicates_by_word_set(rows):
    sets = [(row, frozenset(words(row["ticket"]))) for row in rows]
    close = [(a["ticket"], b["ticket"]) for (a, x), (b, y) in combinations(sets, 2) if len(x & y) >= 0.6 * len(x | y)]
    assert not close


def test_no_shared_six_word_run(rows):
    owner: dict[tuple[str, ...], str] = {}
    for row in rows:
        tokens = words(row["ticket"])
        for start in range(len(tokens) - 5):
            run = tuple(tokens[start : start + 6])
            assert owner.setdefault(run, row["id"]) == row["id"], (run, owner[run], row["id"])


@pytest.mark.parametrize("route", ROUTES)
def test_route_is_rarely_named_in_its_own_tickets(rows, route):
    pattern = re.compile(route.replace("_", "[ _-]?"), re.IGNORECASE)
    own = [row["ticket"] for row in rows if row["route"] == route]
    named = [text for text in own if pattern.search(text)]
    assert len(named) <= 0.2 * len(own), named


@pytest.mark.parametrize("pattern", [EMAIL, URL, PHONE, COMPANIES], ids=["email", "url", "phone", "company"])
def test_no_personal_data_or_real_companies(rows, pattern):
    hits = [(row["id"], row["ticket"]) for row in rows if pattern.search(row["ticket"])]
    assert not hits
