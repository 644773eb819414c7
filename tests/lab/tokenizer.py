"""The demo's tokenizer: a byte is a token, and so is a skill word in front of the colon.

Covered: building the tokenizer with its chat template; turning examples into token ids.
Not covered: any other use of the template's roles. The model was trained on single questions,
so the template shows it the last question of a conversation and nothing before.
"""

from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from transformers import PreTrainedTokenizerFast

from tests.lab.language import SKILLS, Example

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = """\
{%- set last = namespace(question=0) -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{%- set last.question = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- for message in messages[last.question:] -%}
{{- '<|' + message['role'] + '|>' + message['content'] -}}
{%- if message['role'] == 'assistant' -%}{{- '<|end|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the base and of every adapter; the same ids at each call."""
    tokens = [PAD, END, USER, ASSISTANT, *sorted(ByteLevel.alphabet()), *SKILLS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # Without merges, a word becomes one token only when the whole piece is looked up first.
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    # Only in front of a colon: as a text, `drop` is four letters like any other.
    skill_words = Regex(rf"\b(?:{'|'.join(SKILLS)})\b(?=[a-z ]*:)")
    tokenizer.pre_tokenizer = Sequence(
        [Split(skill_words, "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=512,
    )


def question(prompt: str) -> str:
    """The prompt as the chat template writes it, up to where the answer begins."""
    return f"{USER}{prompt}{ASSISTANT}"


def encode_examples(
    tokenizer: PreTrainedTokenizerFast, examples: list[Example]
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each question and of its answer, the answer closed by the end token."""
    questions = tokenizer([question(example.prompt) for example in examples])["input_ids"]
    answers = tokenizer([example.answer + END for example in examples])["input_ids"]
    return list(zip(questions, answers, strict=True))
