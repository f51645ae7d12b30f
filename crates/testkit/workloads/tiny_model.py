#!/usr/bin/env python3
"""tiny_model.py OUT.gguf: a llama model of a few megabytes with random weights, always the same bytes.

All parts are real: a byte-level BPE tokenizer (GPT-2's kind, its merges learnt from the text below),
a ChatML template, four layers of llama. What it says means nothing, but it is text: of the single
bytes only those that are printable can be chosen, and the tokens that end an answer never are, so that
an answer is exactly as long as was asked for. Needs the PyPI packages gguf and numpy.
"""

import sys

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, KEY_VALUE_HEADS, FEED_FORWARD, CONTEXT = 256, 4, 8, 4, 512, 1024
MERGES = 256
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# What the tokenizer learns its merges from.
TEXT = """
A gantry is a bridge that carries a crane over the place where ships are loaded. It does not care what is in
the containers: it lifts each of them once, puts it where the plan says, and the receipt names every one of
them. Behind the gate there is no network. What was not loaded is not there, and nobody can fetch it later.
So the list is made before, with the digest of each image, each chart and each model; the list is signed, the
bundle is packed, the disks are carried through the gate, and on the other side everything is checked again.
When the cluster has what it needs, the servers start, the model answers its first question, and the audit
shows that nothing tried to leave. The user and the system ask, the assistant answers; hello world.
"""


def main(out):
    tokens, merges = learn(TEXT, MERGES)
    special = [len(tokens) + number for number in range(len(SPECIAL))]
    texts = tokens + SPECIAL
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name("gantry-tiny")
    writer.add_license("Apache-2.0")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(texts))
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    kinds = [gguf.TokenType.NORMAL] * len(tokens) + [gguf.TokenType.CONTROL] * len(SPECIAL)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(special[0])
    writer.add_eos_token_id(special[2])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    random = Random(20240101)
    writer.add_tensor("token_embd.weight", random.matrix(len(texts), WIDTH, 1.0))
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        keys = WIDTH // HEADS * KEY_VALUE_HEADS
        for name, rows, columns in [
            ("attn_q", WIDTH, WIDTH), ("attn_k", keys, WIDTH), ("attn_v", keys, WIDTH), ("attn_output", WIDTH, WIDTH),
            ("ffn_gate", FEED_FORWARD, WIDTH), ("ffn_up", FEED_FORWARD, WIDTH), ("ffn_down", WIDTH, FEED_FORWARD),
        ]:
            writer.add_tensor(f"{block}{name}.weight", random.matrix(rows, columns, columns**-0.5))
        for name in ["attn_norm", "ffn_norm"]:
            writer.add_tensor(f"{block}{name}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    # Eight times the usual: so sure of itself that sampling keeps to words.
    output = random.matrix(len(texts), WIDTH, 8 * WIDTH**-0.5)
    for number, token in enumerate(texts):
        if number in special or any(ord(character) > 126 and character != "Ġ" for character in token):
            output[number] = 0
    writer.add_tensor("output.weight", output)

    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Random:
    """Numbers from a recurrence that no library's next version changes (splitmix64)."""

    def __init__(self, seed):
        self.next = seed

    def matrix(self, rows, columns, scale):
        count = rows * columns
        z = np.arange(self.next, self.next + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        self.next += count
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        uniform = (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
        # Of a uniform distribution in -1 … 1 the deviation is 1/√3.
        return (uniform * np.float32(scale * 3**0.5)).reshape(rows, columns).astype(np.float16)


def learn(text, count):
    """The tokens and the merges of a byte-level BPE: GPT-2's alphabet, then the most frequent pairs."""
    alphabet = byte_letters()
    words = {}
    for number, word in enumerate(text.split()):
        letters = tuple(alphabet[byte] for byte in ((" " if number else "") + word).encode())
        words[letters] = words.get(letters, 0) + 1
    tokens, merges = list(alphabet.values()), []
    while len(merges) < count:
        pairs = {}
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + times
        left, right = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(f"{left} {right}")
        tokens.append(left + right)
        words = {merged(word, left, right): times for word, times in words.items()}
    return tokens, merges


def merged(word, left, right):
    out = []
    for letter in word:
        if out and out[-1] == left and letter == right:
            out[-1] = left + right
        else:
            out.append(letter)
    return tuple(out)


def byte_letters():
    """GPT-2's letter for each byte: itself where it is printable, else one from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in letters]
    letters.update({byte: chr(256 + number) for number, byte in enumerate(others)})
    return letters


if __name__ == "__main__":
    main(sys.argv[1])
