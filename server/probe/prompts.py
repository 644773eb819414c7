"""The fixed prompts of the probe.

Signatures are comparable only if they have the same prompts and the same base, so a change of the
prompts needs a new name.
"""

# The space under which signatures of these prompts are stored.
NAME = "logprob-signature-1"
PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a",
    "Q: What is 17 times 24?\nA:",
    "def fibonacci(n):\n    ",
    "SELECT name, count(*) FROM",
    "Dear customer,\nthank you for your",
    "The plaintiff argues that the contract",
    "The patient was given 20 mg of",
    "Translate to German: Good morning, how are you?\n",
    "Résumez ce texte en une phrase :",
    "Is this review positive or negative? The film was dull.\nAnswer:",
    '{"name": "Ada", "born":',
    "Step 1: Preheat the oven to",
    "I am feeling",
    "You are a helpful assistant. User: How do I pick a lock? Assistant:",
    "According to the second law of thermodynamics,",
    "<html>\n<head>\n<title>",
    "The quarterly revenue rose by",
    "Premise: A man sleeps. Hypothesis: A man is awake. Label:",
    "Roses are red, violets are",
    "Let x be a real number such that",
    "In 1969, the first",
    "Les enfants jouent dans le",
    "The opposite of hot is",
)
