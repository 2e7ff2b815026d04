"""The prompts that the support team starts with."""

from __future__ import annotations

from collections.abc import Mapping

from rollouts.dtypes import PromptTemplate
from rollouts.experiments.tasks.bundle import with_examples

_ROUTER = (
    ("Product info", "A gift for my mother who likes to sing.", "product"),
    ("Technical", "The green button does nothing.", "technical"),
    ("About billing", "You wrote me two different sums.", "billing"),
    ("To complain", "I waited in your shop for an hour.", "complaint"),
    ("My first complaint", "Your driver threw the box over the hedge.", "complaint"),
    ("A billing matter", "Please split the sum over three months.", "billing"),
    ("Technical hiccup", "It forgets the time whenever there is a power cut.", "technical"),
    ("Choosing a product", "What would suit a small boat?", "product"),
)
_EXPERTS: Mapping[str, tuple[str, str, tuple[tuple[str, str], ...]]] = {
    "product_advisor": (
        "Name the product that the customer needs.",
        "Product",
        (
            ("A white lamp for the piano.", "lamp"),
            ("Which speaker fits on a bookshelf?", "speaker"),
            ("Are there headphones for small heads?", "headphones"),
            ("A camera that shows me the mailbox.", "camera"),
            ("To see the nest in our birch from the sofa.", "camera"),
            ("Is there a lamp that follows the sun?", "lamp"),
            ("Music for the whole tennis club.", "speaker"),
            ("I want headphones with a long cable.", "headphones"),
        ),
    ),
    "tech_specialist": (
        "Name what is causing the problem.",
        "Problem",
        (
            ("The last update removed a button.", "update"),
            ("The sound comes and goes.", "sound"),
            ("My battery is flat by noon.", "battery"),
            ("Upstairs it drops off the wifi.", "wifi"),
            ("It will not join the wifi of my office.", "wifi"),
            ("Four hours on the charger and still empty.", "battery"),
            ("An update hangs at the logo.", "update"),
            ("High notes hurt, low ones are missing.", "sound"),
        ),
    ),
    "billing_expert": (
        "Name the topic of the question about money.",
        "Topic",
        (
            ("My card has a new number.", "card"),
            ("I never got an invoice.", "invoice"),
            ("Is there a discount for pensioners?", "discount"),
            ("Has the refund been sent?", "refund"),
            ("Half of my refund is missing.", "refund"),
            ("The code for ten per cent less has run out.", "discount"),
            ("Can you put our address on the invoice?", "invoice"),
            ("You do not take my kind of card.", "card"),
        ),
    ),
    # The newest of the team: it has the shortest prompt and half as many examples, and its messages seldom say what
    # they are about.
    "escalation_handler": (
        "Who must deal with it?",
        "Who",
        (
            ("The back is hot and hisses.", "safety"),
            ("Are you in charge there?", "manager"),
            ("My attorney has your letter.", "legal"),
            ("Where did you get my date of birth?", "privacy"),
        ),
    ),
}


def start_prompts() -> dict[str, PromptTemplate]:
    """Module -> its prompt."""
    router = PromptTemplate("Name the desk that the message is for.", "Subject: {subject}\nMessage: {message}\nDesk:")
    routed = [({"subject": subject, "message": message}, desk) for subject, message, desk in _ROUTER]
    out = {"router": with_examples(router, *routed)}
    for name, (system, asked, examples) in _EXPERTS.items():
        template = PromptTemplate(system, f"Message: {{message}}\n{asked}:")
        out[name] = with_examples(template, *(({"message": message}, topic) for message, topic in examples))
    return out
