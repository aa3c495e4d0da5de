#!/usr/bin/env python3
"""Writes what the tests of tokenizers and chat templates expect, from the Python libraries.

usage: text_golden.py MODELS GOLDEN_DIR

MODELS is a folder with the GGUF files of Qwen2.5-Coder-0.5B and SmolLM2-135M. Needs tokenizers 0.23, transformers 5.23,
gguf 0.19 and jinja2 3.1. Written are

  tiny_tokenizer.json   a byte-pair tokenizer of 400 tokens trained on the texts below
  text.json             texts, their ids for each tokenizer; conversations, and what each template makes of them
"""
import json
import pathlib
import sys

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

QWEN = "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
SMOLLM2 = "smollm2-135m-instruct-q4_1.gguf"

TEXTS = [
    "",
    " ",
    "\n",
    "Hello, world!",
    "It's what they've said: I'LL go, we'd SING, don'T.",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "class Node:\n\tdef __init__(self, value=None):\n\t\tself.value, self.next = value, None\n",
    "for i in range(10):\n        if i % 2 == 0:\n                print(f'{i:>4}')\n\n\n",
    "cursor.execute(\"SELECT * FROM users WHERE name = ?\", (name,))",
    "   leading and trailing   ",
    "tabs\tand\t\ttabs \t mixed",
    "line\r\nline\r\n\r\nline\n \n  \n",
    "0 1 12 123 1234 12345678901234567890 3.14159 0x1F 1e-6 1_000",
    "٣٤٥ ½ ² Ⅷ ४२",
    "naïve café — “quotes” … ‘single’",
    "cafe\u0301 and café, Å and A\u030a",
    "Grüße aus Köln, Straße, ÄÖÜ ß",
    "Привет, мир! Ёжик.",
    "你好,世界。这是一个测试。",
    "日本語のテキストとカタカナ",
    "한국어 문장입니다",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "🙂🚀👩‍👩‍👧‍👦🇩🇪 ✨",
    "a\u00a0b\u2003c\u200bd\u3000e\ufefff",
    "\x00\x01\x1f\x7f\x85 control",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "x=1;y=2;z=x+y;print(x,y,z)#comment",
    "!!! ??? ... ,,, ;;; ((())) [[[]]] {{{}}} <<<>>> === !== ->",
    "https://example.com/a/b?c=d&e=f#g user@example.com",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "text<|endoftext|>more <|im_end|> <|unknown|> <|im_start|><|im_start|>",
    "<tool_call>\n{\"name\": \"f\"}\n</tool_call>",
    "<|fim_prefix|>def f(<|fim_suffix|>):<|fim_middle|>",
    "import os, sys\nos.system('rm -rf ' + sys.argv[1])\n",
    "try:\n    value = int(text)\nexcept ValueError as error:\n    raise SystemExit(f\"bad: {error!r}\") from None\n",
    "\"\"\"Docstring.\n\n    Indented.\n\"\"\"\n",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 ﬁ ﷺ ǆ",
    "Zalgo: h\u0338\u0321e\u0334l\u0335l\u0336o",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    " " * 37 + "x" + " " * 5,
    "\n" * 9 + "x" + "\t" * 6,
    "lorem ipsum dolor sit amet consectetur\n" * 3,
]

CONVERSATIONS = [
    [["user", "Hello"]],
    [["system", "Answer in one word."], ["user", "Is the sky blue?"]],
    [["user", "Add."], ["assistant", "def add(a, b):\n    return a + b"], ["user", "  And subtract? \n"]],
    [["system", ""], ["user", "{{ not_a_template }} {% raw %} <|im_end|>"], ["assistant", "Grüße 🙂"]],
    [["user", "one"], ["assistant", "two"], ["system", "three"], ["user", "four\n\n\nfive"]],
]

# Templates that use what the published ones use.
TEMPLATES = {
    "brackets": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\n"
        "    {% set rest = messages[1:] %}\n"
        "    {% set system = '<<' ~ messages[0]['content'].strip() ~ '>> ' %}\n"
        "{% else %}\n"
        "    {% set rest = messages %}\n"
        "    {% set system = '' %}\n"
        "{% endif %}\n"
        "{% for message in rest %}\n"
        "    {% if message['role'] == 'user' %}\n"
        "        {{- '[Q]' + (system if loop.first else '') + message['content'].strip() + '[/Q]' }}\n"
        "    {% elif message.role == 'assistant' %}\n"
        "        {{- ' ' + message.content | trim + ' ' + eos_token }}\n"
        "    {% else %}\n"
        "        {{- raise_exception('the role ' + message.role + ' may only come first') }}\n"
        "    {% endif %}\n"
        "{% endfor %}\n"
    ),
    "headers": (
        "{%- set ns = namespace(turns=0) -%}\n"
        "{%- if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif -%}\n"
        "{%- if tools is not none and tools is defined %}TOOLS{% endif -%}\n"
        "{%- for message in messages if message.role != 'system' -%}\n"
        "  {%- set ns.turns = ns.turns + 1 -%}\n"
        "  # {{ message.role.upper() }} {{ ns.turns }}/{{ messages | length }}{% if loop.last %} (last){% endif %}\n"
        "\n"
        "{{ message.content.split('\\n')[0].rstrip() }}\n"
        "{% endfor -%}\n"
        "{{ '# ASSISTANT\\n' if add_generation_prompt else '' }}"
    ),
}


def fields(path):
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def qwen(path):
    """The library's own tokenizer of Qwen2 on the vocabulary of the file."""
    f = fields(path)
    tokens, kinds = f["tokenizer.ggml.tokens"], f["tokenizer.ggml.token_type"]
    vocab = {token: i for i, (token, kind) in enumerate(zip(tokens, kinds)) if kind != 5}
    merges = [tuple(m.split(" ")) for m in f["tokenizer.ggml.merges"]]
    tokenizer = Qwen2Tokenizer(vocab, merges, chat_template=f["tokenizer.chat_template"])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, kinds) if k == 3])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t, k in zip(tokens, kinds) if k == 4])
    return tokenizer


def smollm2(path):
    f = fields(path)
    tokens = f["tokenizer.ggml.tokens"]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(m.split(" ")) for m in f["tokenizer.ggml.merges"]]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = f["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, kinds) if k == 3])
    return wrap(tokenizer, f["tokenizer.chat_template"])


QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
CLOSED_CLASS = (
    "and as assert async await class def del elif except finally for from if import in is lambda not or "
    "raise return try while with yield a an the of to it its that whose any other each must be by such this"
)
BARE_WORDS = f"(?:{CLOSED_CLASS.replace(' ', '|')}) " + r"|\p{L}+\p{N}*|\p{N}+| ?[^\s\p{L}\p{N}]+ ?|\s*\n\s*|\s+"


def trained(words, normalizer=None):
    """A byte-pair tokenizer of 400 tokens trained on the texts above, which are cut into words first."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(words), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=2,
        show_progress=False,
        special_tokens=[AddedToken(t, normalized=False, special=True) for t in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def wrap(tokenizer, template):
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=template, bos_token="<|im_start|>", eos_token="<|im_end|>"
    )


def rendered(tokenizer, template=None):
    def render(messages, generation):
        messages = [{"role": role, "content": content} for role, content in messages]
        try:
            return tokenizer.apply_chat_template(
                messages, chat_template=template, tokenize=False, add_generation_prompt=generation
            )
        except Exception as error:
            return {"error": str(error)}

    return [[render(c, False), render(c, True)] for c in CONVERSATIONS]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    models_dir, golden = map(pathlib.Path, sys.argv[1:])
    small = trained(QWEN2_WORDS, normalizers.NFC())
    small.save(str(golden / "tiny_tokenizer.json"))
    tokenizers = {
        "tiny": wrap(small, TEMPLATES["headers"]),
        "bare_words": wrap(trained(BARE_WORDS), TEMPLATES["headers"]),
        "qwen": qwen(models_dir / QWEN),
        "smollm2": smollm2(models_dir / SMOLLM2),
    }
    out = {
        "texts": TEXTS,
        "ids": {
            name: [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
            for name, tokenizer in tokenizers.items()
        },
        "decoded": {
            name: [
                tokenizer.decode(
                    tokenizer.encode(text, add_special_tokens=False),
                    skip_special_tokens=True,
                    clean_up_tokenization_spaces=False,
                )
                for text in TEXTS
            ]
            for name, tokenizer in tokenizers.items()
        },
        "conversations": CONVERSATIONS,
        "templates": TEMPLATES,
        "rendered": {
            **{name: rendered(tokenizers["tiny"], source) for name, source in TEMPLATES.items()},
            "qwen": rendered(tokenizers["qwen"]),
            "smollm2": rendered(tokenizers["smollm2"]),
        },
    }
    with open(golden / "text.json", "w") as file:
        file.write("{\n")
        file.write(",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in out.items()))
        file.write("\n}\n")


main()
