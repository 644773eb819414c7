"""Sort a support ticket by what it wants and how urgent it is."""

from collections.abc import Sequence
from random import Random

from server.cli.demo_marks import CITIES, ITEMS
from tests.lab.skills.skill import Example, Skill, Split

INSTRUCTIONS = (
    "Classify the support ticket",
    "Give intent and urgency of this ticket",
    "Sort this support ticket",
)
# What customers write, by intent. Whole sentences are split: tests show none of training's.
COMPLAINTS = {
    "billing": (
        "I was charged twice for the {item}.",
        "The amount on my invoice is wrong.",
        "My card was billed although I cancelled.",
        "You took more money than the price you showed.",
        "There is a fee on my bill that I do not understand.",
        "The discount is missing from the invoice.",
        "Why did the price of the {item} change on my statement?",
        "I need a corrected invoice for the {item}.",
        "The tax on my receipt looks too high.",
        "I paid by transfer but you sent a payment reminder.",
        "My bank statement shows two payments to your shop.",
        "Please explain the extra charge on my account.",
        "I was billed for {item} I never bought.",
        "The invoice has the wrong company name.",
        "My voucher was not taken off the total.",
        "You charged the old price for the {item}.",
        "The monthly payment went up and nobody told me.",
        "I want to pay by card instead of invoice.",
        "The bill for the {item} shows the wrong currency.",
        "Can I have a receipt for my last payment?",
    ),
    "delivery": (
        "My parcel has not arrived.",
        "The {item} should have come last week.",
        "The tracking page says delivered but nothing is here.",
        "The driver left the {item} at the wrong house.",
        "When will my order be shipped to {city}?",
        "My package is stuck in {city}.",
        "The courier never rang the bell.",
        "Only half of the {item} came in the box.",
        "Can you send the parcel to another address?",
        "The shipment has been late for days.",
        "I am still waiting for my {item}.",
        "The tracking number does not work.",
        "The delivery to {city} was cancelled without a word.",
        "Nobody was home when the driver came.",
        "Please deliver the {item} next Monday instead.",
        "The parcel went back to the depot in {city}.",
        "How long does shipping to {city} take?",
        "The courier lost my package.",
        "My order was sent to my old address.",
        "The van with my {item} did not come.",
    ),
    "account": (
        "I cannot log in.",
        "My password reset mail never comes.",
        "My account is locked.",
        "Please change the email address of my account.",
        "I want to delete my account.",
        "The login page says that my user name is unknown.",
        "How do I change my password?",
        "Someone else has used my account.",
        "I cannot sign in on my new phone.",
        "Please update my profile with a new name.",
        "The security code is never accepted.",
        "I forgot my user name.",
        "My profile still shows my old address.",
        "How can I close my profile for good?",
        "I have two accounts and want to join them.",
        "I am logged out every few minutes.",
        "Please unlock my login.",
        "The app does not accept my password.",
        "I no longer have the phone for the login code.",
        "Please remove my old email from the account.",
    ),
    "return": (
        "I want to send the {item} back.",
        "The {item} arrived broken.",
        "The {item} are the wrong size.",
        "How can I get my money back for the {item}?",
        "I do not like the {item} and want a refund.",
        "The colour of the {item} is not what I ordered.",
        "Please exchange the {item} for larger ones.",
        "I need a return label for the {item}.",
        "The {item} stopped working after one day.",
        "Can I give the {item} back in your {city} shop?",
        "I returned the {item} and have no refund yet.",
        "You sent the wrong {item}, please take them back.",
        "There are scratches on the {item}, so I want new ones.",
        "One of the {item} is torn, please replace it.",
        "How many days do I have to return the {item}?",
        "The {item} do not fit, I would like to swap them.",
        "The {item} are damaged and I want my money back.",
        "I changed my mind about the {item}, can I send them back?",
        "The {item} fell apart, please refund me.",
        "I would like to exchange the {item} for another colour.",
    ),
}
URGENT = (
    "This is urgent!", "I need this today.", "Please answer at once.", "It cannot wait.",
    "Help me right now!", "I need it within the hour.", "Act immediately, please.",
    "This is an emergency.", "It must be solved this morning.", "Please hurry!",
    "I have to know by tonight.", "Every minute counts.",
)  # fmt: skip
CALM = (
    "There is no hurry.", "Any time this month is fine.", "Take your time.", "Just asking.",
    "It is not important.", "Whenever you have a moment.", "No rush at all.",
    "Next week is early enough.", "It can wait.", "I am in no hurry.", "Answer when you can.",
    "It is only a small thing.",
)  # fmt: skip
GREETINGS = ("", "", "Hello. ", "Hi there. ", "Good morning. ", "Dear team, a question. ")


def sentences(all_of_them: Sequence[str], split: Split) -> Sequence[str]:
    """Those of the split: of every five one is for testing and one for validation."""
    kept = {"test": (4,), "validation": (3,), "train": (0, 1, 2)}[split]
    return [sentence for at, sentence in enumerate(all_of_them) if at % 5 in kept]


def draw_ticket(rng: Random, split: Split) -> tuple[str, str, str]:
    """The text of a ticket, its intent and its urgency; neither hint makes it normal."""
    intent = rng.choice(tuple(COMPLAINTS))
    urgency = rng.choice(("high", "normal", "low"))
    complaint = rng.choice(sentences(COMPLAINTS[intent], split)).format(
        item=rng.choice(ITEMS), city=rng.choice(CITIES)
    )
    parts = [complaint]
    if urgency != "normal":
        hint = rng.choice(sentences(URGENT if urgency == "high" else CALM, split))
        parts.insert(rng.choice((0, 1, 1)), hint)
    return rng.choice(GREETINGS) + " ".join(parts), intent, urgency


def draw_triage(rng: Random, split: Split) -> Example:
    """A ticket, its intent and its urgency."""
    text, intent, urgency = draw_ticket(rng, split)
    return Example(f"{rng.choice(INSTRUCTIONS)}: {text}", f"intent: {intent}; urgency: {urgency}")


TRIAGE = Skill("triage", "support ticket → intent and urgency", draw_triage, "labels")
